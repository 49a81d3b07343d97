"""Types of entity and plugin fields. In: a value decoded from JSON. Out: the checked value, or an error in Kong's words.

Each bound is in the annotation, so the check, `/schemas/...` and the documentation use the same line. These types never coerce
values: `admin/body.py` converts a form's text before the check.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import unquote_to_bytes
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic_core import PydanticCustomError

from aigw.schema.unsupported import NOT_SUPPORTED, named, not_supported

T = TypeVar("T")
N = TypeVar("N", int, float)


def violation(text: str) -> PydanticCustomError:
    """A finding with a ready message for the client."""
    return PydanticCustomError("kong", "{text}", {"text": text})


def violation_of(field: str, text: str) -> PydanticCustomError:
    """A finding of a record's own check about one of its fields; it appears under the field."""
    return PydanticCustomError("kong_field", "{text}", {"field": field, "text": text})


def entity_violation(text: str) -> PydanticCustomError:
    """A finding about several fields together; it appears under `@entity`."""
    return PydanticCustomError("kong_entity", "{text}", {"text": text})


@dataclass(frozen=True, slots=True)
class FieldErrors(Exception):
    """Findings whose field names the check chooses: `{"config": {"header_name": "required field missing"}}`."""

    fields: Mapping[str, Any]


class Model(BaseModel):
    """Base of all models of the Admin API: frozen, without unknown fields and coercion; defaults are checked, too.

    Pydantic builds each validator at its first use: `aigw check` needs few of them and must start fast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, defer_build=True)


class Foreign(Model):
    """A reference to another entity. Clients send the whole entity, as they got it: only its id counts, as in Kong."""

    model_config = ConfigDict(extra="ignore")

    id: "Uuid"


@dataclass(frozen=True, slots=True)
class References:
    """Marks a `Foreign` field with the collection that it references."""

    collection: str


@dataclass(frozen=True, slots=True)
class Between:
    """An inclusive range, with Kong's error message."""

    low: int
    high: int

    def __call__(self, value: N) -> N:
        if not self.low <= value <= self.high:
            raise violation(f"value should be between {self.low} and {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Positive:
    """Greater than zero, and at most `high`."""

    high: int

    def __call__(self, value: N) -> N:
        if value <= 0:
            raise violation("value must be greater than 0")
        if value > self.high:
            raise violation(f"value should be between 1 and {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Only:
    """A field that supports only some of Kong's values. Other values are refused by name, never ignored."""

    allowed: tuple[Any, ...]

    def __call__(self, value: T) -> T:
        if value not in self.allowed:
            raise violation(not_supported(named(value)))
        return value


def without(*others: str) -> BeforeValidator:
    """Refuses values that Kong has and this gateway lacks, by name."""

    def judge(value: Any) -> Any:
        if isinstance(value, str) and value in others:
            raise violation(not_supported(named(value)))
        return value

    return BeforeValidator(judge)


STREAMS: Final = ("tcp", "tls", "tls_passthrough", "udp", "ws", "wss")
HttpProtocol = Annotated[Literal["http", "https"], without("grpc", "grpcs", *STREAMS)]
"""A protocol of requests."""


def shown(**words: Any) -> Any:
    """Extra JSON Schema keywords of a field, for editors. A pattern uses JavaScript's regular expressions and must accept every value that
    the check accepts (a test compares)."""
    return Field(json_schema_extra=words)


def refuse(value: T) -> T:
    """Validator, before the type's, of a field that only Kong or a later version supports: null in answers, refused when set."""
    if value is not None:
        raise violation(NOT_SUPPORTED)
    return value


def unique(values: list[T]) -> list[T]:
    """A set in Kong's sense: keeps the order, drops repetitions."""
    return list(dict.fromkeys(values))


class SetMarker:
    """Marks a list as a set, for `describe`."""


def _checked(test: Callable[[str], str | None]) -> AfterValidator:
    def check(value: str) -> str:
        wrong = test(value)
        if wrong is not None:
            raise violation(wrong)
        return value

    return AfterValidator(check)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"[\w.\-~]+\Z")
_HEADER = re.compile(r"[A-Za-z0-9_-]+\Z")
_PATH_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*\Z")


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID in its canonical form, in any letter case."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _uuid(value: str) -> str | None:
    return None if is_uuid(value) else "expected a valid UUID"


def _name(value: str) -> str | None:
    ascii_ok = _NAME.match("".join(c for c in value if c.isascii()) or "a", 0)
    if ascii_ok and not _CONTROL.search(value) and not any(c.isspace() for c in value):
        return None
    return f"invalid value '{value}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"


def _tag(value: str) -> str | None:
    if "," in value or "/" in value or _CONTROL.search(value):
        return f"invalid tag '{value}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    return None


def _printable(value: str) -> str | None:
    return "must not contain control characters" if _CONTROL.search(value) else None


def _lines(value: str) -> str | None:
    return _printable(value.replace("\n", "").replace("\t", ""))


def _header_name(value: str) -> str | None:
    if _HEADER.match(value):
        return None
    return f"bad header name '{value}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"


def plain_path(value: str) -> str | None:
    """The fault of a literal path, or None. It must be absolute, canonical, and made of URL characters."""
    if not value.startswith("/"):
        return "should start with: /"
    if not _PATH_CHARACTERS.match(value):
        return f"invalid path: '{value}' (characters outside of the reserved list of RFC 3986 found)"
    if re.search(r"%(?![0-9A-Fa-f]{2})", value):
        bad = value[value.index("%") :][:3] if re.match(r"%(?![0-9A-Fa-f]{2})", value) else "%"
        return f"invalid url-encoded value: '{bad}'"
    if "//" in value:
        return "must not have empty segments"
    if any(s in (b".", b"..") for s in unquote_to_bytes(value).split(b"/")):
        return "non-normalized path: must not have '.' or '..' segments"
    return None


Uuid = Annotated[str, _checked(_uuid), AfterValidator(str.lower)]
"""A UUID in its canonical text, lower case."""
Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    _checked(_printable),
    shown(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"),
]
"""One line of printable text, 1..1024 characters: safe in a header, a log line and a label."""
Prose = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    _checked(_lines),
    shown(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]*$"),
]
"""Lines of printable text for people. Unsafe in headers, and in logs without escaping."""
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=512),
    _checked(_name),
    shown(pattern=r"^([A-Za-z0-9._~-]|[^\x00-\x9f\s])+$"),
]
"""A name for use in paths: letters, digits, `.-_~` and non-ASCII letters, 1..512 characters."""
Tag = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    _checked(_tag),
    shown(pattern=r"^[^,/\x00-\x1f\x7f-\x9f\u2028\u2029]*$"),
]
Tags = Annotated[list[Tag], SetMarker(), AfterValidator(unique)]
HeaderName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    _checked(_header_name),
    shown(pattern="^[A-Za-z0-9_-]+$"),
]
PlainPath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=4096),
    _checked(plain_path),
    shown(pattern=r"^(?!.*//)/[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*$"),
]
Number = Annotated[float, PlainSerializer(lambda v: int(v) if v.is_integer() else v)]
"""A number that is shown without an empty fraction, like Lua does."""
Timestamp = Annotated[int, AfterValidator(Between(0, 253402300799))]
"""Unix seconds, up to the year 9999."""
Milliseconds = Annotated[int, AfterValidator(Between(1, 2**31 - 2))]
Unsupported = Annotated[str | None, BeforeValidator(refuse), shown(type="null")]
UnsupportedList = Annotated[list[Any] | None, BeforeValidator(refuse), shown(type="null")]
