"""Kong's answers other than entities: errors with code, name, message and fields, and pages of a list.

In: an error of the store or schema, or rows. Out: `Refusal` (status and JSON body), or a page as JSON. Only this module knows
Kong's error names and codes.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from aigw.control.store.origin import ReadOnly
from aigw.control.store.read import TagFilter
from aigw.control.store.rows import Referenced, Row, UniqueViolation
from aigw.schema.unsupported import not_supported
from aigw.schema.violations import MOST_FOUND, SchemaViolation, first
from aigw.types import JsonDict

READ_ONLY: Final = 1001
"""Our own code, far from Kong's, which count up from 1."""


class Refusal(Exception):
    """An error answer. Any handler raises it, and the application sends it."""

    def __init__(self, status: int, body: JsonDict | None, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        super().__init__(status, body)


def not_found() -> Refusal:
    """404, also for entity kinds unknown to this version."""
    return Refusal(404, {"message": "Not found"})


def bad_request(message: str) -> Refusal:
    """400 without a code, for an unreadable request."""
    return Refusal(400, {"message": message})


def coded(status: int, code: int, name: str, message: str, fields: Mapping[str, Any] | None = None) -> Refusal:
    """Kong's error object."""
    return Refusal(status, {"code": code, "name": name, "message": message, "fields": dict(fields or {})})


def schema_violation(error: SchemaViolation) -> Refusal:
    """Code 2."""
    return coded(400, 2, "schema violation", error.message, first(error.fields, MOST_FOUND))


def primary_key_violation(key: str) -> Refusal:
    """Code 3: an entity with this id exists."""
    fields = {"id": key}
    return coded(400, 3, "primary key violation", f"primary key violation on key '{lua(fields)}'", fields)


def missing_reference(field: str, reference: Mapping[str, Any], collection: str) -> Refusal:
    """Code 4: the reference leads to no entity."""
    message = f"the foreign key '{lua(reference)}' does not reference an existing '{collection}' entity."
    return coded(400, 4, "foreign key violation", message, {field: dict(reference)})


def unresolved_reference(field: str, name: str, value: str, collection: str) -> Refusal:
    """Code 13: the reference is a name, and no entity has it."""
    text = f"the foreign key cannot be resolved with '{lua({name: value})}' for an existing '{collection}' entity"
    message = f"foreign key unresolved ({field}.{name}: {text})"
    return coded(400, 13, "foreign keys unresolved", message, {field: {name: text}})


def still_referenced(error: Referenced, collection: str) -> Refusal:
    """Code 4: another entity still references this one."""
    message = f"an existing '{error.by}' entity references this '{collection}' entity"
    return coded(400, 4, "foreign key violation", message, {"@referenced_by": error.by})


def unique_violation(error: UniqueViolation) -> Refusal:
    """Code 5."""
    message = f"UNIQUE violation detected on '{lua(error.fields)}'"
    return coded(409, 5, "unique constraint violation", message, error.fields)


def lacking(part: str, status: int = 404) -> Refusal:
    """A part of Kong that the gateway does not have."""
    return Refusal(status, {"message": not_supported(part)})


def read_only(error: ReadOnly) -> Refusal:
    """`READ_ONLY`: the configuration file declares it."""
    fields = {"@declared_by": {"file": error.origin.file, "line": error.origin.line}}
    return coded(409, READ_ONLY, "read only", str(error), fields)


def lua(value: Any) -> str:
    """A value in the form of Kong's messages: `{name="x",route=null}`."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}={lua(v)}" for k, v in sorted(value.items())) + "}"
    return "null" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


def page_size(query: Mapping[str, str]) -> int:
    """`?size=`, 1..1000, default 100."""
    text = query.get("size", "100")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 1000):
        raise Refusal(400, {"code": 9, "name": "invalid size", "message": "size must be an integer between 1 and 1000"})
    return int(text)


def page_offset(query: Mapping[str, str]) -> str:
    """The id after which the page starts, from `?offset=`."""
    text = query.get("offset")
    if text is None:
        return ""
    try:
        return base64.b64decode(text.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        message = f"'{text[:128]}' is not a valid offset: bad base64 encoding"
        raise Refusal(400, {"code": 7, "name": "invalid offset", "message": message}) from None


def tag_filter(query: Mapping[str, str]) -> TagFilter | None:
    """`?tags=a,b` (all of them) or `?tags=a/b` (any)."""
    text = query.get("tags")
    if text is None:
        return None
    parts = text.replace("/", ",").split(",")
    if ("," in text and "/" in text) or not all(parts):
        raise coded(
            400,
            11,
            "invalid options",
            "invalid option (tags: invalid filter syntax)",
            {"tags": "invalid filter syntax"},
        )
    return TagFilter(tuple(parts), every="/" not in text)


def page(data: list[JsonDict], last: str | None, path: str, keep: Mapping[str, str]) -> JsonDict:
    """A page. `last` is the offset of the next page, None on the last page; `next` repeats the parameters in `keep`."""
    if last is None:
        return {"data": data, "next": None}
    offset = base64.urlsafe_b64encode(last.encode()).decode()
    query = urlencode({"offset": offset, **keep}, quote_via=quote)
    return {"data": data, "next": f"{path}?{query}", "offset": offset}


def cut(rows: list[Row], size: int) -> tuple[list[Row], str | None]:
    """Split `rows`, read with one row more than `size`: the page, and the offset of the next page."""
    return (rows[:size], rows[size - 1].id) if len(rows) > size else (rows, None)
