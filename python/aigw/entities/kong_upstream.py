"""An upstream of Kong: a name that services may have as their host, in front of several targets.

Requests are spread over the targets by weight, or by a part of the request (`hash_on`). A target that cannot be connected to is followed by
the next one. Passive health checks take a target out; settings that need more than that are refused, never ignored.
The servers of a model are another entity (`upstream`).
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aigw.entities.base import Entity, EntityKind, TagsField, Unsupported
from aigw.entities.host import wrong_host
from aigw.schema.fields import (
    Between,
    HeaderName,
    Model,
    Number,
    Only,
    SetMarker,
    Text,
    Timestamp,
    entity_violation,
    unique,
    violation,
)
from aigw.schema.unsupported import NOT_SUPPORTED

HASHES: Final = ("none", "consumer", "ip", "header", "path", "query_arg")
"""Parts of a request that can choose its target."""
HashOn = Annotated[
    Literal["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"],
    AfterValidator(Only(HASHES)),
]
Statuses = Annotated[
    list[Annotated[int, AfterValidator(Between(100, 999))]], SetMarker(), AfterValidator(unique), Field(max_length=900)
]
Few = Annotated[int, AfterValidator(Between(0, 255))]
ProbeType = Literal["tcp", "http", "https", "grpc", "grpcs"]
Seconds = Annotated[Number, AfterValidator(Between(0, 65535))]
_ACTIVE: Final = f"active checks are {NOT_SUPPORTED}: leave the interval at 0"


def _name(value: str) -> str:
    if value.replace(".", "").isdigit() or value.startswith("[") or value.count(":") > 1:
        raise violation("Invalid name; no ip addresses allowed")
    if ":" in value:
        raise violation("Invalid name; no port allowed")
    if wrong_host(value) is not None:
        raise violation("Invalid name; must be a valid hostname")
    return value


def _header(value: str) -> str:
    host, _, port = value.partition(":")
    if wrong_host(host) is not None or (port and not port.isdigit()):
        raise violation(f"invalid value: {value}")
    return value


def _slash(value: str) -> str:
    if not value.startswith("/"):
        raise violation("should start with: /")
    return value


def _idle(value: float) -> float:
    if value:
        raise violation(_ACTIVE)
    return value


class ActiveHealthy(Model):
    """Successes of active checks."""

    interval: Annotated[Seconds, AfterValidator(_idle)] = Field(
        default=0, description="Seconds between two checks: only 0 (off) is supported in this version."
    )
    http_statuses: Statuses = Field(default=[200, 302], description="Statuses that are a success.")
    successes: Few = Field(default=0, description="Successes in a row that bring a target back; 0: off.")


class ActiveUnhealthy(Model):
    """Failures of active checks."""

    interval: Annotated[Seconds, AfterValidator(_idle)] = Field(
        default=0, description="Seconds between two checks: only 0 (off) is supported in this version."
    )
    http_statuses: Statuses = Field(
        default=[429, 404, 500, 501, 502, 503, 504, 505], description="Statuses that are a failure."
    )
    tcp_failures: Few = Field(default=0, description="Failed connections in a row that take a target out; 0: off.")
    timeouts: Few = Field(default=0, description="Timeouts in a row that take a target out; 0: off.")
    http_failures: Few = Field(default=0, description="Failures in a row that take a target out; 0: off.")


class Active(Model):
    """Active checks: kept for Kong's clients, and off."""

    type: ProbeType = Field(default="http", description="Protocol of a check.")
    timeout: Seconds = Field(default=1, description="Seconds for one check.")
    concurrency: Annotated[int, AfterValidator(Between(1, 2**31))] = Field(default=10, description="Checks at once.")
    http_path: Annotated[Text, AfterValidator(_slash)] = Field(default="/", description="Path of a check.")
    https_sni: Text | None = Field(default=None, description="Name in the greeting of a check.")
    https_verify_certificate: bool = Field(default=True, description="Whether a check verifies the certificate.")
    headers: dict[Text, list[Text]] | None = Field(default=None, description="Headers of a check.")
    healthy: ActiveHealthy = Field(default_factory=ActiveHealthy, description="Successes.")
    unhealthy: ActiveUnhealthy = Field(default_factory=ActiveUnhealthy, description="Failures.")


class PassiveHealthy(Model):
    """Successes of requests: one brings a target back."""

    http_statuses: Statuses = Field(
        default=[200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308],
        description="Statuses that are a success. Any status that is no failure ends the counts.",
    )
    successes: Few = Field(default=0, description="Kept for Kong's clients: the first success brings a target back.")


class PassiveUnhealthy(Model):
    """Failures of requests. A target that is out is tried again after 10 seconds."""

    http_statuses: Statuses = Field(default=[429, 500, 503], description="Statuses that are a failure.")
    tcp_failures: Few = Field(default=0, description="Failed connections in a row that take a target out; 0: off.")
    timeouts: Few = Field(default=0, description="Timeouts in a row that take a target out; 0: off.")
    http_failures: Few = Field(default=0, description="Failures in a row that take a target out; 0: off.")


class Passive(Model):
    """Health from the answers to requests."""

    type: ProbeType = Field(default="http", description="Protocol that is watched.")
    healthy: PassiveHealthy = Field(default_factory=PassiveHealthy, description="Successes.")
    unhealthy: PassiveUnhealthy = Field(default_factory=PassiveUnhealthy, description="Failures.")


class Healthchecks(Model):
    """How the health of targets is known."""

    active: Active = Field(default_factory=Active, description="Active checks.")
    passive: Passive = Field(default_factory=Passive, description="Passive checks.")
    threshold: Annotated[Number, AfterValidator(Between(0, 100))] = Field(
        default=0, description="Kept for Kong's clients: targets that are out are tried when no other is left."
    )

    @property
    def is_on(self) -> bool:
        """Whether a failure can take a target out."""
        bounds = self.passive.unhealthy
        return bool(bounds.tcp_failures or bounds.timeouts or bounds.http_failures)


class KongUpstream(Entity):
    """A name in front of several targets."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    name: Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_name)] = Field(
        description="Unique name: the host of the services that use it."
    )
    algorithm: Annotated[
        Literal["consistent-hashing", "least-connections", "round-robin", "latency"],
        AfterValidator(Only(("round-robin", "consistent-hashing", "least-connections"))),
    ] = Field(
        default="round-robin",
        description="How targets are chosen: by weight, by `hash_on`, or by the calls that each has.",
    )
    hash_on: HashOn = Field(default="none", description="The part of a request that chooses its target.")
    hash_fallback: HashOn = Field(default="none", description="The part that chooses when the first is missing.")
    hash_on_header: HeaderName | None = Field(default=None, description="The header of hash_on=header.")
    hash_fallback_header: HeaderName | None = Field(default=None, description="The header of hash_fallback=header.")
    hash_on_cookie: Unsupported = Field(default=None, description="A cookie: not supported in this version.")
    hash_on_cookie_path: Annotated[Text, AfterValidator(_slash)] = Field(
        default="/", description="Kept for Kong's clients: path of the cookie."
    )
    hash_on_query_arg: Text | None = Field(default=None, description="The argument of hash_on=query_arg.")
    hash_fallback_query_arg: Text | None = Field(default=None, description="The argument of hash_fallback=query_arg.")
    hash_on_uri_capture: Unsupported = Field(default=None, description="A capture: not supported in this version.")
    hash_fallback_uri_capture: Unsupported = Field(default=None, description="As hash_on_uri_capture.")
    slots: Annotated[int, AfterValidator(Between(10, 2**16))] = Field(
        default=10000, description="Kept for Kong's clients: hashing needs no slots."
    )
    healthchecks: Healthchecks = Field(default_factory=Healthchecks, description="How the health of targets is known.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    host_header: Annotated[str, Field(max_length=255), AfterValidator(_header)] | None = Field(
        default=None, description="Host of forwarded requests; null: that of the target."
    )
    client_certificate: Unsupported = Field(
        default=None, description="Certificate shown to targets: not supported in this version."
    )
    use_srv_name: Annotated[bool, AfterValidator(Only((False,)))] = Field(
        default=False, description="Names of SRV records: not supported in this version."
    )

    @model_validator(mode="after")
    def _hash_is_whole(self) -> Self:
        for which in ("hash_on", "hash_fallback"):
            by = getattr(self, which)
            if by in ("header", "query_arg") and getattr(self, f"{which}_{by}") is None:
                raise entity_violation(f"failed conditional validation given value of field '{which}'")
        if self.hash_on == "none" and self.hash_fallback != "none":
            raise entity_violation("failed conditional validation given value of field 'hash_on'")
        if self.hash_on != "none" and self._part("hash_on") == self._part("hash_fallback"):
            raise entity_violation("hash_on and hash_fallback must differ")
        return self

    def _part(self, which: str) -> tuple[str, Any]:
        by = getattr(self, which)
        return by, getattr(self, f"{which}_{by}", None) if by in ("header", "query_arg") else None

    def parts(self) -> list[tuple[str, str | None]]:
        """(part, name of the header or argument) that choose the target, first the first; empty: no part does."""
        if self.algorithm == "least-connections":
            return []
        return [part for part in (self._part("hash_on"), self._part("hash_fallback")) if part[0] != "none"]


KIND = EntityKind(name="upstreams", model=KongUpstream, endpoint_key="name", unique=("name",), numbered=False,
                  lacks=("sticky_sessions_cookie", "sticky_sessions_cookie_path"))  # fmt: skip
