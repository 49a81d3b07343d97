"""A plain consumer of the file, with its key, as the store is to hold it: ten values, from which rows are made only where
something must be written. In: `Plain`. Out: `Lean`; the rows and hashes are those of the general way (`declare`, `content_hash`;
a test compares).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

import orjson

from aigw.config.entity import entity_id
from aigw.config.plain import Plain
from aigw.control.entities.keyauth_credential import key_hint
from aigw.control.origin import HASH, Origin
from aigw.control.rows import Row
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

    def bodies(self, now: int) -> tuple[JsonDict, JsonDict]:
        """What the consumer and its key are, made `now`."""
        return _consumer(self.id, self.username, now), _key(self.key_id, self.id, self.hint, now)

    def rows(self, file: str, now: int) -> tuple[Row, Row]:
        """As the general way has them."""
        mine, key = self.bodies(now)
        return (
            Row(self.id, 0, mine, tier=self.tier, origin=Origin(file, self.line, self.hash)),
            Row(self.key_id, 0, key, self.digest, origin=Origin(file, self.key_line, self.key_hash)),
        )


class Leans(NamedTuple):
    """All of them, of one file, made at one time."""

    file: str
    now: int
    all: list[Lean]

    def origins(self) -> Iterator[tuple[Lean, str, str]]:
        """Each with what the column `origin` is to hold of it and of its key: `Origin.text`, written out."""
        head = f'{{"file":{orjson.dumps(self.file).decode()},"line":'
        for one in self.all:
            yield (
                one,
                f'{head}{one.line},"hash":"{one.hash}"}}',
                f'{head}{one.key_line},"hash":"{one.key_hash}"}}',
            )


NONE: Final = Leans("", 0, [])


def lean(found: Iterable[Plain], file: str, tiers: Mapping[str, str], hasher: Hasher, now: int) -> Leans:
    """`tiers`: ids by name."""
    return Leans(file, now, list(_lean(found, tiers, hasher)))


def _lean(found: Iterable[Plain], tiers: Mapping[str, str], hasher: Hasher) -> Iterator[Lean]:
    hash_key, dumps, sha256 = hasher.hash_key, orjson.dumps, hashlib.sha256
    for _, line, username, tier, key, key_line in found:
        mine = entity_id("consumers", username)
        digest = hash_key(key.encode())
        text = digest.hex()
        key_id = entity_id("keyauth_credentials", f"{mine}:{text}")
        hint, in_tier = key_hint(key), tiers[tier] if tier is not None else None
        # `content_hash`, without its copies.
        content = dumps([_consumer(mine, username, 0), "", 0, in_tier])
        body = _key(key_id, mine, hint, 0)
        body["updated_at"] = 0
        key_content = dumps([body, text, 0, None])
        yield Lean(
            mine,
            username,
            in_tier,
            line,
            sha256(content).hexdigest()[:HASH],
            key_id,
            digest,
            hint,
            key_line,
            sha256(key_content).hexdigest()[:HASH],
        )


def _consumer(key: str, username: str, now: int) -> JsonDict:
    return {
        "id": key,
        "created_at": now,
        "updated_at": now,
        "username": username,
        "custom_id": None,
        "tags": None,
    }


def _key(key: str, consumer: str, hint: str, now: int) -> JsonDict:
    return {
        "id": key,
        "created_at": now,
        "consumer": {"id": consumer},
        "key": None,
        "key_hint": hint,
        "tags": None,
        "ttl": None,
    }
