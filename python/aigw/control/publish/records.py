"""Records of consumers and credentials in the snapshot: named tuples, with the fields in the order of the native publisher's stub."""

from typing import NamedTuple


class Ref(NamedTuple):
    """A plugin on a consumer. `route` and `service`: numbers, 0 for any; `profile`: index in the policy's list for `kind`."""

    route: int
    service: int
    kind: int
    """0: rate-limiting, 1: request-size-limiting; plus a bit of `compile.ONLY` for an instance of one protocol."""
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
    """One credential. `consumer`: number of its owner; `expires_at`: unix seconds, 0 for never."""

    n: int
    id: str
    consumer: int
    hmac: bytes
    expires_at: int
