"""Records of the snapshot's keys, as the native publisher takes them: plain tuples with names, in the order of its stub."""

from typing import NamedTuple


class Ref(NamedTuple):
    """A plugin on a consumer. `route` and `service`: numbers, 0 for any; `profile`: index in the list of its kind."""

    route: int
    service: int
    kind: int
    """0: rate-limiting, 1: request-size-limiting."""
    profile: int


class ConsumerRecord(NamedTuple):
    """One consumer. `tier`: number of its tier, 0 for the default one."""

    n: int
    id: str
    username: str | None
    custom_id: str | None
    refs: list[Ref]
    tier: int
    groups: list[str]


class CredentialRecord(NamedTuple):
    """One key. `consumer`: number of its owner; `expires_at`: unix seconds, 0 for never."""

    n: int
    id: str
    consumer: int
    hmac: bytes
    expires_at: int
