"""A target: one server of an upstream of Kong, and its share of the requests.

It is shown in Kong's form (`normal`), which clients compare: names as given, IPv6 addresses with eight groups. Two texts name the same
server where their canonical forms are equal; workers connect to that form.
"""

import ipaddress
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, Field

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.host import canonical_host, wrong_host
from aigw.schema.fields import Between, Foreign, References, Timestamp, violation

PORT: Final = 8000
"""The port of a target that names none, as in Kong."""


def address(target: str) -> tuple[str, int]:
    """Host and port. IPv6 addresses stand in brackets where a port follows. Raises ValueError."""
    host, port = target, ""
    if target.startswith("["):
        host, closed, port = target.partition("]")
        host += closed
        if port and not port.startswith(":"):
            raise ValueError(target)
        port = port.removeprefix(":")
    elif target.count(":") == 1:
        host, _, port = target.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(target)
    return host, int(port) if port else PORT


def canonical(target: str) -> str:
    """host:port by which targets are unique; a text that is no address stays as it is."""
    try:
        host, port = address(target)
        return f"{canonical_host(host)}:{port}"
    except ValueError:
        return target


class Place(NamedTuple):
    """The server that a target means."""

    upstream: str
    """The upstream's id."""
    address: str
    """In canonical form."""


def place_of(target: "Target") -> Place:
    """The server of a target."""
    return Place(target.upstream.id, canonical(target.target))


def normal(target: str) -> str:
    """host:port in Kong's form (its `tools/ip.lua`). Raises ValueError."""
    host, port = address(target)
    bare = host.removeprefix("[").removesuffix("]")
    return f"[{ipaddress.IPv6Address(bare).exploded}]:{port}" if ":" in bare else f"{host}:{port}"


def _target(value: str) -> str:
    try:
        host, _ = address(value)
    except ValueError:
        raise violation(f"Invalid target ('{value}'); not a valid hostname or ip address") from None
    wrong = wrong_host(host)
    if wrong is not None:
        raise violation(
            wrong if "not allowed" in wrong else f"Invalid target ('{value}'); not a valid hostname or ip address"
        )
    return normal(value)


class Target(Entity):
    """One server of an upstream."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    upstream: Annotated[Foreign, References("upstreams")] = Field(description="Its upstream.")
    target: Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_target)] = Field(
        description="host:port of the server; without a port 8000."
    )
    weight: Annotated[int, AfterValidator(Between(0, 65535))] = Field(
        default=100, description="Share of requests; 0: none."
    )
    tags: TagsField = Field(default=None, description="Labels to filter by.")


KIND = EntityKind(
    name="targets",
    model=Target,
    endpoint_key="target",
    together=("upstream", "target"),
    foreign={"upstream": "upstreams"},
    cascades=("upstream",),
    numbered=False,
    lacks=("failover",),
    key_of=canonical,
)
