"""The plain consumer: a username, perhaps a tier, and one key, as nearly all of a large file are. In: a record of the file. Out: it
as five values, or None: then whoever asks takes the general way, which says what is wrong and knows everything else.

Only what `ConsumerWritten` would accept as it stands is plain; what it becomes is what the general way makes (tests compare).
"""

import hashlib
import re
from typing import Any, Final, NamedTuple

from aigw.config.entity import FileEntity, Secret, entity_id
from aigw.control.entities.keyauth_credential import key_hint

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,1024}\Z")
_KEY: Final = re.compile(r"[!-~]{1,512}\Z")
_LONGEST: Final = 1024


class Plain(NamedTuple):
    """One of them; `place` is its index in the list of consumers."""

    place: int
    line: int
    username: str
    tier: str | None
    key: str
    key_line: int

    def consumer(self) -> FileEntity:
        """As the general way has it."""
        body = {"id": self.id, "created_at": 0, "updated_at": 0, "username": self.username, "custom_id": None}
        path = ("consumers", self.place)
        return FileEntity("consumers", self.id, self.username, {**body, "tags": None}, self.line, path, self.tier)

    def credential(self) -> FileEntity:
        """Its key, as the general way has it."""
        hint = key_hint(self.key)
        digest = hashlib.sha256(self.key.encode()).hexdigest()
        key = entity_id("keyauth_credentials", f"{self.id}:{digest}")
        body = {"id": key, "created_at": 0, "consumer": {"id": self.id}, "key": None, "key_hint": hint, "tags": None}
        path = ("consumers", self.place, "keyauth_credentials", 0)
        name, secret = f"{self.username} {hint}", Secret(self.key)
        return FileEntity("keyauth_credentials", key, name, {**body, "ttl": None}, self.key_line, path, None, secret)

    @property
    def id(self) -> str:
        """The consumer's."""
        return entity_id("consumers", self.username)

    def __repr__(self) -> str:
        return f"Plain({self.username})"


def plain(record: dict[str, Any]) -> tuple[str, str | None, str] | None:
    """Username, tier and key."""
    credentials, username, tier = record.get("keyauth_credentials"), record.get("username"), record.get("tier")
    if type(credentials) is not list or len(credentials) != 1 or type(username) is not str:
        return None
    if len(record) != 2 + ("tier" in record) or not (tier is None or type(tier) is str):
        return None
    credential = credentials[0]
    if type(credential) is not dict or len(credential) != 1:
        return None
    key = credential.get("key")
    if type(key) is not str or not _KEY.match(key) or not _NAME.match(username):
        return None
    return None if tier is not None and not 0 < len(tier) <= _LONGEST else (username, tier, key)
