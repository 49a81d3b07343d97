"""Settings of the surface `/v1` in the configuration file: which pages of other origins may call it.

Keys travel in a header that a page sets itself, never in a cookie, so `*` is safe here: a page without a key can do nothing.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from aigw.entities.tier import Duration
from aigw.schema.fields import HeaderName, Model, SetMarker, entity_violation, shown, unique, violation

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?\Z", re.ASCII)


def _origin(value: str) -> str:
    if value != "*" and not _ORIGIN.match(value.lower()):
        raise violation("expected an origin as browsers send it, as in https://app.example, without a path; or '*'")
    return value.lower()


def _alone(values: list[str]) -> list[str]:
    if "*" in values and len(values) > 1:
        raise entity_violation("'*' means every page: leave the other origins out")
    return unique(values)


Origin = Annotated[
    str,
    Field(min_length=1, max_length=512),
    AfterValidator(_origin),
    shown(pattern=r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?)$"),
]


class CorsSpec(Model):
    """Pages of other origins that may call `/v1`."""

    origins: Annotated[list[Origin], SetMarker(), AfterValidator(_alone)] = Field(
        min_length=1, max_length=1024, description="Their origins, as in https://app.example; '*': every page."
    )
    headers: Annotated[list[HeaderName], SetMarker(), AfterValidator(unique)] | None = Field(
        default=None,
        max_length=128,
        description="Headers that they may send, and those of OpenAI's own client (x-stainless-*); omitted: any.",
    )
    max_age: Duration = Field(default="10m", description="Time that a browser may keep the answer to a preflight.")


class V1Spec(Model):
    """The YAML object `v1`."""

    cors: CorsSpec | None = Field(default=None, description="Pages of other origins that may call; omitted: none may.")
