"""Plain consumers of the file, with their keys, as the store is to hold them: a few megabytes for very many, since what is
written of each is made only where it must be. In: `Plain`. Out: `Leans`; rows and hashes are those of the general way
(`declare`, `content_hash`; a test compares).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from aigw import _native
from aigw.config.plain import Plain
from aigw.control.store.origin import Origin
from aigw.control.store.rows import Row
from aigw.types import JsonDict

KINDS_OF: Final = ("consumers", "keyauth_credentials")


class Hasher(Protocol):
    """The part of the publisher that hashes keys."""

    def hash_key(self, key: bytes) -> bytes: ...


class Lean(NamedTuple):
    """One consumer and its key. `tier` is an id, `hash` and `key_hash` are content hashes."""

    id: str
    username: str
    tier: str | None
    line: int
    hash: str
    key_id: str
    digest: bytes
    hint: str
    key_line: int
    key_hash: str
    written: str | None


@dataclass(frozen=True, slots=True)
class Leans:
    """All of them, of one file, made at one time; `all` has them in the file's order."""

    file: str
    now: int
    all: _native.Leans

    def __len__(self) -> int:
        return len(self.all)

    def row(self, kind: str, index: int) -> Row:
        """Of one of them, or of its key, as the general way has it."""
        one = Lean(*self.all[index])
        if kind == "consumers":
            mine = _consumer(one, self.now)
            return Row(one.id, 0, mine, tier=one.tier, origin=Origin(self.file, one.line, one.hash))
        place = Origin(self.file, one.key_line, one.key_hash, one.written)
        return Row(one.key_id, 0, _key(one, self.now), one.digest, origin=place)


NONE: Final = Leans("", 0, _native.Leans("", 0, [], [], {}))


def lean(found: Sequence[Plain], file: str, tiers: Mapping[str, str], hasher: Hasher, now: int) -> Leans:
    """`tiers`: ids by name."""
    hash_key = hasher.hash_key
    digests = [
        hash_key(one.key.encode()) if one.key is not None else bytes.fromhex(one.key_hash or "") for one in found
    ]
    return Leans(file, now, _native.Leans(file, now, list(found), digests, dict(tiers)))


def _consumer(one: Lean, now: int) -> JsonDict:
    return {
        "id": one.id,
        "created_at": now,
        "updated_at": now,
        "username": one.username,
        "custom_id": None,
        "tags": None,
    }


def _key(one: Lean, now: int) -> JsonDict:
    return {
        "id": one.key_id,
        "created_at": now,
        "consumer": {"id": one.id},
        "key": None,
        "key_hint": one.hint,
        "tags": None,
        "ttl": None,
    }
