"""Records of the snapshot's keys, as the native publisher takes them: plain tuples with names, in the order of its stub."""

from typing import NamedTuple


class Ref(NamedTuple):
    """A plugin of a consumer's own. `route` and `service` are numbers, 0 for any; `profile` is an index of its kind's list."""

    route: int
    service: int
    kind: int
    """0: rate-limiting, 1: request-size-limiting."""
    profile: int


class ConsumerRecord(NamedTuple):
    """One consumer. `tier` is a tier's number, 0 for none of its own."""

    n: int
    id: str
    username: str | None
    custom_id: str | None
    refs: list[Ref]
    tier: int
    groups: list[str]


class CredentialRecord(NamedTuple):
    """One key. `consumer` is its owner's number; `expires_at` in unix seconds, 0 for never."""

    n: int
    id: str
    consumer: int
    hmac: bytes
    expires_at: int
