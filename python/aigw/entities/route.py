"""A route: conditions on requests, and the service that gets them. At least one of methods, hosts, headers, paths is set."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aigw._native import check_string
from aigw.entities.base import Entity, EntityKind, TagsField, UnsupportedList
from aigw.entities.patterns import wrong_regex
from aigw.schema.fields import (
    Between,
    Foreign,
    HeaderName,
    HttpProtocol,
    Name,
    Only,
    References,
    SetMarker,
    Text,
    Timestamp,
    entity_violation,
    plain_path,
    shown,
    unique,
    violation,
)


def _path(value: str) -> str:
    if value.startswith("~"):
        wrong = (
            wrong_regex("path", value[1:])
            if value.startswith("~/")
            else "should start with: / (fixed path) or ~/ (regex path)"
        )
    elif not value.startswith("/"):
        wrong = "should start with: / (fixed path) or ~/ (regex path)"
    else:
        wrong = plain_path(value) or check_string("path", value)
    if wrong is not None:
        raise violation(wrong)
    return value


def _host(value: str) -> str:
    name, _, port = value.partition(":")
    stars = name.count("*")
    if stars > 1:
        raise violation("invalid wildcard: must be placed at leftmost or rightmost label")
    if stars and not (name.startswith("*.") or name.endswith(".*")):
        raise violation("invalid wildcard: must be placed at leftmost or rightmost label")
    labels = name.lower().replace("*", "x").removesuffix(".")
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", labels) or ".." in labels:
        raise violation(f"invalid hostname: {value}")
    if ":" in value and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise violation(f"invalid port number in: {value}")
    if (wrong := check_string("host", value)) is not None:
        raise violation(wrong)
    return value


def _method(value: str) -> str:
    if not re.fullmatch(r"[A-Z]+", value):
        raise violation(f"invalid value: {value}")
    return value


def _headers(value: dict[str, list[str]]) -> dict[str, list[str]]:
    names = [name.lower() for name in value]
    for name, values in value.items():
        if names.count(name.lower()) > 1:
            raise violation(f"'{name.lower()}' stands twice: names of headers have no letter case")
        if name.lower() == "host":
            raise violation("cannot contain 'host' header, which must be specified in the 'hosts' attribute")
        if not values:
            raise violation("length must be at least 1")
        for item in values:
            if item.startswith("~*") and (wrong := wrong_regex("header", item[2:])) is not None:
                raise violation(wrong)
    return value


Path = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_path), shown(pattern="^~?/")]
RouteHost = Annotated[
    str, Field(min_length=1, max_length=260), AfterValidator(_host), shown(pattern=r"^[A-Za-z0-9_.*-]+(:[0-9]{1,5})?$")
]
Method = Annotated[str, Field(min_length=1, max_length=32), AfterValidator(_method), shown(pattern="^[A-Z]+$")]


class Route(Entity):
    """Conditions on a request: it must match one value of each field that is set."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    name: Name | None = Field(default=None, description="Unique name.")
    protocols: Annotated[list[HttpProtocol], SetMarker(), AfterValidator(unique)] = Field(
        default=["http", "https"], min_length=1, description="Protocols of the request."
    )
    https_redirect_status_code: Literal[426, 301, 302, 307, 308] = Field(
        default=426, description="Answer to an http request when only https is allowed."
    )
    strip_path: bool = Field(default=True, description="Remove the matched prefix before forwarding.")
    preserve_host: bool = Field(default=False, description="Forward the client's Host instead of the service's.")
    request_buffering: Annotated[bool, AfterValidator(Only((True,)))] = Field(
        default=True, description="Bodies are read whole; false is not supported in this version."
    )
    response_buffering: bool = Field(
        default=True, description="Kept for Kong's clients: answers are passed on as they come."
    )
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    service: Annotated[Foreign, References("services")] | None = Field(
        default=None, description="Target of matching requests."
    )
    snis: UnsupportedList = Field(default=None, description="TLS server names: not supported in this version.")
    sources: UnsupportedList = Field(default=None, description="Source addresses: not supported in this version.")
    destinations: UnsupportedList = Field(
        default=None, description="Destination addresses: not supported in this version."
    )
    methods: Annotated[list[Method], SetMarker(), AfterValidator(unique)] | None = Field(
        default=None, max_length=64, description="HTTP methods, upper case."
    )
    hosts: Annotated[list[RouteHost], AfterValidator(unique)] | None = Field(
        default=None, max_length=1024, description="Host names, one leading or trailing wildcard label, optional port."
    )
    paths: Annotated[list[Path], AfterValidator(unique)] | None = Field(
        default=None, max_length=1024, description="Path prefixes, or regular expressions after ~."
    )
    headers: Annotated[dict[HeaderName, list[Text]], AfterValidator(_headers)] | None = Field(
        default=None, max_length=64, description="Header name -> accepted values, or a regular expression after ~*."
    )
    regex_priority: Annotated[int, AfterValidator(Between(0, 2**31 - 1))] = Field(
        default=0, description="Order among routes with regular expressions, higher first."
    )
    path_handling: Annotated[Literal["v0", "v1"], AfterValidator(Only(("v0",)))] = Field(
        default="v0",
        description="How the service's path and the request's are joined; v1 is not supported in this version.",
    )

    @model_validator(mode="after")
    def _matches_something(self) -> Self:
        if not (self.methods or self.hosts or self.paths or self.headers):
            secure = "https" in self.protocols
            names = "'methods', 'hosts', 'headers', 'paths'" + (", 'snis'" if secure else "")
            raise entity_violation(f"must set one of {names} when 'protocols' is '{'https' if secure else 'http'}'")
        return self


_V1: Final = re.compile(r"/v1(/|\Z)")
# One alternative of an expression: a slash that is not optional, or an optional rest behind which the path ends.
_V1_EXPRESSION: Final = re.compile(
    r"/v1(/(?![?*{])|\\/(?![?*{])|\$?\Z|/\?\$\Z|\((\?:)?(/\|\$|\$\|/)\)|\((\?:)?/[^|()]*\)\?\$\Z)"
)
UNREACHABLE: Final = "would never be reached: all below /v1 is the models': take another path, as in /api/v1"


def unreachable(paths: Iterable[Any]) -> list[int]:
    """Indices of the paths below /v1. With models, OpenAI's surface precedes all routes there."""
    return [index for index, path in enumerate(paths) if isinstance(path, str) and _is_below_v1(path)]


def _is_below_v1(path: str) -> bool:
    if path.startswith("~"):
        return all(_V1_EXPRESSION.match(one) for one in _alternatives(path[1:]))
    return _V1.match(path) is not None


def _alternatives(expression: str) -> Iterator[str]:
    """The parts between the bars that stand in no parentheses and no brackets."""
    depth = start = index = 0
    bracket = False
    while index < len(expression):
        char = expression[index]
        if char == "\\":
            index += 1
        elif bracket:
            bracket = char != "]"
        elif char == "|" and depth == 0:
            yield expression[start:index]
            start = index + 1
        else:
            bracket = char == "["
            depth += (char == "(") - (char == ")")
        index += 1
    yield expression[start:]


KIND = EntityKind(
    name="routes",
    model=Route,
    endpoint_key="name",
    unique=("name",),
    foreign={"service": "services"},
    lacks=("expression", "priority"),
)
