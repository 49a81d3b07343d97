"""Who declared an entity: the Admin API (no origin), or a line of the configuration file.

What the file declares is read-only in the Admin API: `Writing` raises `ReadOnly` for whoever tries, so that no path can
forget it. The content hash beside file and line tells a reload what it need not write again.
"""

import hashlib
from typing import Final, NamedTuple

import orjson

from aigw.types import JsonDict

HASH: Final = 32
"""Hex digits of a content hash."""
_NAMES: Final = ("name", "username", "custom_id", "group")


class Origin(NamedTuple):
    """A place in a configuration file, the hash of what stands there, and how its secret is written there (`${VAR}`)."""

    file: str
    line: int
    hash: str = ""
    written: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """From the store's column."""
        found = orjson.loads(text)
        return cls(found["file"], found["line"], found["hash"], found.get("written"))

    def text(self) -> str:
        """For the store's column."""
        kept: JsonDict = {"file": self.file, "line": self.line, "hash": self.hash}
        if self.written is not None:
            kept["written"] = self.written
        return orjson.dumps(kept).decode()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ReadOnly(Exception):
    """The Admin API tried to change what the file declares."""

    def __init__(self, body: JsonDict, origin: Origin) -> None:
        self.origin = origin
        super().__init__(f"'{name_of(body)}' is declared by {origin} and is read-only here: change the file")


def name_of(body: JsonDict) -> str:
    """What a person calls this entity."""
    named = body.get("instance_name") or next((body[n] for n in _NAMES if body.get(n)), None)
    return str(named or body["id"])


def content_hash(body: JsonDict, *beside: object) -> str:
    """Of everything that makes an entity what it is: not the times, and not a sealed text, which differs every time.
    `beside` is what is kept in columns of its own."""
    kept = {**body, "created_at": 0, "updated_at": 0}
    if "keys" in kept:
        kept["keys"] = [k and {**k, "sealed": None} for k in kept["keys"]]
    return hashlib.sha256(orjson.dumps([kept, *beside])).hexdigest()[:HASH]
