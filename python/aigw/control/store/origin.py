"""The origin of an entity of the configuration file. Entities of the Admin API have no origin.

`WriteSession` raises `ReadOnly` when the Admin API changes an entity of the file. The origin has a content hash, so a reload writes
only entities whose content changed.
"""

import hashlib
from typing import Final, NamedTuple

import orjson

from aigw.types import JsonDict

HASH: Final = 32
"""Hex digits of a content hash."""
_NAMES: Final = ("name", "username", "custom_id", "group", "target")


class Origin(NamedTuple):
    """File and line of an entity, its content hash, and the way its secret is written in the file: as a
    reference (`${VAR}`), or as an HMAC behind this mark (`hmac:1f2e3d4c:`, or empty)."""

    file: str
    line: int
    hash: str = ""
    reference: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """Reads the column of the store."""
        found = orjson.loads(text)
        return cls(found["file"], found["line"], found["hash"], found.get("written"))

    def text(self) -> str:
        """The column of the store."""
        kept: JsonDict = {"file": self.file, "line": self.line, "hash": self.hash}
        if self.reference is not None:
            kept["written"] = self.reference
        return orjson.dumps(kept).decode()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ReadOnly(Exception):
    """The Admin API tried to change an entity of the file."""

    def __init__(self, body: JsonDict, origin: Origin) -> None:
        self.origin = origin
        super().__init__(f"'{name_of(body)}' is declared by {origin} and is read-only here: change the file")


def name_of(body: JsonDict) -> str:
    """The name of an entity for people; its id if it has no name."""
    named = body.get("instance_name") or next((body[n] for n in _NAMES if body.get(n)), None)
    return str(named or body["id"])


def content(body: JsonDict) -> JsonDict:
    """An entity's body without times and sealed texts: sealing a key twice gives two texts."""
    kept = {**body, "created_at": 0, "updated_at": 0}
    if "keys" in kept:
        kept["keys"] = [k and {**k, "sealed": None} for k in kept["keys"]]
    if "secrets" in kept:
        kept["secrets"] = {place: {**secret, "sealed": None} for place, secret in kept["secrets"].items()}
    return kept


def content_hash(body: JsonDict, *columns: object) -> str:
    """32 hex digits of SHA-256 over an entity's content. `columns`: the values of columns that the body does not have."""
    return hashlib.sha256(orjson.dumps([content(body), *columns])).hexdigest()[:HASH]
