"""The plain consumer: a username, perhaps a tier, and one key, as nearly all of a large file are. In: the document, which finds
them (`plain_consumers`). Out: each as a few values, and no entity until it must be one; whoever is in any way else takes the
general way, which says what is wrong and knows everything else.

Only what `ConsumerWritten` would accept as it stands is plain; what it becomes is what the general way makes (tests compare). A
key may be given as its HMAC, or as a reference: then it is plain when what that stands for is.
"""

import hashlib
import re
from typing import Final, NamedTuple

from aigw._native import YamlDocument
from aigw.config.entity import FileEntity, Secret, entity_id
from aigw.entities.keyauth_credential import key_hint
from aigw.entities.model import reference_of

_KEY: Final = re.compile(r"[!-~]{1,512}\Z")


class Plain(NamedTuple):
    """One of them; `place` is its index in the list of consumers. It has a key, or the HMAC of one in hex."""

    place: int
    line: int
    username: str
    tier: str | None
    key: str | None
    key_hash: str | None
    key_line: int
    written: str | None = None
    """The reference that its key is written as, where that may be kept."""

    def consumer(self) -> FileEntity:
        """As the general way has it."""
        body = {"id": self.id, "created_at": 0, "updated_at": 0, "username": self.username, "custom_id": None}
        path = ("consumers", self.place)
        return FileEntity("consumers", self.id, self.username, {**body, "tags": None}, self.line, path, self.tier)

    def credential(self) -> FileEntity:
        """Its key, as the general way has it."""
        hint = key_hint(self.key) if self.key is not None else "..."
        digest = (
            hashlib.sha256(self.key.encode()).digest() if self.key is not None else f"hash:{self.key_hash}".encode()
        )
        key = entity_id("keyauth_credentials", f"{self.id}:{digest.hex()}")
        body = {"id": key, "created_at": 0, "consumer": {"id": self.id}, "key": None, "key_hint": hint, "tags": None}
        path = ("consumers", self.place, "keyauth_credentials", 0)
        secret = Secret(self.key) if self.key is not None else None
        binary = bytes.fromhex(self.key_hash) if self.key_hash is not None else None
        name, body = f"{self.username} {hint}", {**body, "ttl": None}
        return FileEntity("keyauth_credentials", key, name, body, self.key_line, path, None, secret, binary)

    @property
    def id(self) -> str:
        """The consumer's."""
        return entity_id("consumers", self.username)

    def standing_for(self, value: str) -> "Plain | None":
        """The same with its key's reference resolved; None when that is no key."""
        if not _KEY.match(value):
            return None
        # A default may be the key: then its HMAC is what can be shown.
        written = self.key if reference_of(self.key) == self.key else None
        return Plain(*self[:4], value, None, self.key_line, written)

    def __repr__(self) -> str:
        return f"Plain({self.username})"


def plain(document: YamlDocument) -> dict[int, Plain]:
    """By place; references are not resolved yet."""
    return {one[0]: Plain(*one) for one in document.plain_consumers()}
