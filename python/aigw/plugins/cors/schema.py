"""Kong's fields of cors's config."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from aigw._native import check_string
from aigw.schema.fields import Between, Model, Number, SetMarker, shown, unique, violation

METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT")
PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:/-")
"""Characters of an origin that is compared as text. With any other character it is a regular expression, as in Kong."""


def _ascii(value: str) -> str:
    if not all(" " < c <= "~" for c in value):
        raise violation("must be printable ascii without spaces")
    return value


def expression(origin: str) -> str:
    """The regular expression of an origin, which the whole origin must match: Kong's anchors are left out."""
    return origin.removeprefix("^").removesuffix("$")


def _origin(value: str) -> str:
    if value != "*" and set(value) - PLAIN and (why := check_string("header", "~*" + expression(value))) is not None:
        raise violation(f"'{value}' is not a valid regex ({why})")
    return value


_Word = Annotated[
    str, StringConstraints(min_length=1, max_length=256), AfterValidator(_ascii), shown(pattern="^[!-~]+$")
]
Origin = Annotated[_Word, AfterValidator(_origin)]
Words = Annotated[list[_Word], Field(max_length=1024)]


class CorsConfig(Model):
    """The pages that may call the route, the headers that they may send, and those that they may read."""

    origins: Annotated[list[Origin], Field(max_length=1024)] | None = Field(
        default=None,
        description="Origins whose pages may call: texts or regular expressions; null or '*': every page.",
    )
    headers: Words | None = Field(
        default=None, description="Access-Control-Allow-Headers; null: the headers that the page asks for."
    )
    exposed_headers: Words | None = Field(
        default=None,
        description="Access-Control-Expose-Headers; null: a page reads the headers that browsers always show.",
    )
    methods: Annotated[list[Literal[METHODS]], SetMarker(), AfterValidator(unique)] | None = Field(  # type: ignore[valid-type]
        default=list(METHODS), description="Access-Control-Allow-Methods."
    )
    max_age: Annotated[Number, AfterValidator(Between(0, 2**31 - 1))] | None = Field(
        default=None, description="Seconds that a browser may keep the answer to a preflight; null: its own default."
    )
    credentials: bool = Field(
        default=False, description="Let pages send cookies; every answer then names the page's origin in place of '*'."
    )
    private_network: bool = Field(default=False, description="Let pages of public sites call a private address.")
    preflight_continue: bool = Field(default=False, description="Send preflights to the upstream.")
    allow_origin_absent: bool = Field(
        default=True, description="Send the headers also in answers to requests without an Origin."
    )
