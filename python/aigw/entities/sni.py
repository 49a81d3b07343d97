"""An SNI: a name that clients greet the gateway with, and the certificate that they are shown. Letter case is kept, and does not count."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.host import wrong_host
from aigw.schema.fields import Foreign, References, Timestamp, violation


def _name(value: str) -> str:
    """Kong's rules and words; `*` alone serves every name."""
    if value == "*":
        return value
    if value.count("*") > 1:
        raise violation("only one wildcard must be specified")
    if "*" in value and not value.startswith("*.") and not value.endswith(".*"):
        raise violation("wildcard must be leftmost or rightmost character")
    name = value.replace("*", "wildcard")
    if name.startswith("[") or name.count(":") > 1 or name.replace(".", "").isdigit():
        raise violation("must not be an IP")
    if ":" in name:
        raise violation("must not have a port")
    if wrong_host(name) is not None or name.endswith("."):
        raise violation(f"invalid value: {value}")
    return value


SniName = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_name)]
"""`a.example`, `*.example`, `a.*`, or `*`."""


class Sni(Entity):
    """A name and its certificate."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    name: SniName = Field(description="Unique name: exact, *.suffix, prefix.*, or * for every other name.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    certificate: Annotated[Foreign, References("certificates")] = Field(description="The certificate of this name.")


KIND = EntityKind(
    name="snis",
    model=Sni,
    endpoint_key="name",
    unique=("name",),
    foreign={"certificate": "certificates"},
    cascades=("certificate",),
    numbered=False,
    key_of=str.lower,
)
