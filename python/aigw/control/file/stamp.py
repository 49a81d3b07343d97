"""The stamp of the configuration in force, and the history of loads. Both are values of the store's table `meta`.

The transaction that applies a file writes the stamp, so a start compares the file with the store and does not parse it.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
import sqlalchemy as sa

from aigw import __version__
from aigw.control.store import tables
from aigw.control.store.read import StoreReader
from aigw.control.store.write import WriteSession
from aigw.types import JsonDict

VERSION: Final = f"{__version__}/{tables.HEAD}"
"""Version and schema that applied the file: another version may read the same file differently."""
HISTORY: Final = 50
_STAMP: Final = "configuration"
_HISTORY: Final = "configuration_history"


@dataclass(frozen=True, slots=True)
class StampedSection:
    """The section of consumers of the text in force, for a reload that reads around it: `config.Section`, with an HMAC (`mark`) in place of
    its digest. `line`: of its key, where the text in force has it."""

    length: int
    nodes: int
    line: int
    tiers: tuple[str, ...]
    mark: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """The configuration in force. `hash`: of its text; `whole`: of the text with all references resolved; `source`: the file's
    name or `POST /config`; `loaded_at`: unix seconds. `file`: `whole` of the file at that time, which differs from the posted
    text in force; the file rules again when it changes. `consumers`: of everything that the text says of consumers; empty if unknown.
    `section`: of their section, if it can be read around."""

    hash: str
    whole: str
    source: str
    loaded_at: float
    version: str = VERSION
    file: str = ""
    consumers: str = ""
    section: StampedSection | None = None


def peek(path: Path) -> Stamp | None:
    """The stamp of a store that is not open; None without one, or for another version's. Makes no store and migrates none."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT value FROM meta WHERE key = ?", (_STAMP,)).fetchone()
    except sqlite3.Error:
        return None  # opening the store reports the fault
    stamp = _parsed(found[0]) if found else None
    return stamp if stamp is not None and stamp.version == VERSION else None


def stamp_of(reader: StoreReader) -> Stamp | None:
    """The stamp of an open store."""
    found = _get(reader, _STAMP)
    return _parsed(found) if found is not None else None


def put_stamp(session: WriteSession, stamp: Stamp | None) -> None:
    """Store the stamp; None: no file is in force."""
    _put(session, _STAMP, orjson.dumps(asdict(stamp)).decode() if stamp else None)


def history_of(reader: StoreReader) -> list[JsonDict]:
    """The history of loads, oldest first."""
    found = _get(reader, _HISTORY)
    history: list[JsonDict] = orjson.loads(found) if found is not None else []
    return history


def put_history(session: WriteSession, history: Sequence[JsonDict]) -> None:
    """Store the last `HISTORY` entries."""
    _put(session, _HISTORY, orjson.dumps(history[-HISTORY:]).decode())


def _parsed(text: str) -> Stamp:
    """The stored stamp. Another version's matches no file: its `whole` and `file` are empty."""
    found = orjson.loads(text)
    if found["version"] == VERSION:
        section = found.pop("section", None)
        if section is not None:
            section = StampedSection(**{**section, "tiers": tuple(section["tiers"])})
        return Stamp(**found, section=section)
    known = found.get("hash", ""), "", found.get("source", ""), found.get("loaded_at", 0.0)
    return Stamp(*known, version=found["version"])


def _get(reader: StoreReader, key: str) -> str | None:
    c = tables.meta.c
    found = reader.connection.scalar(sa.select(c.value).where(c.key == key))
    return None if found is None else str(found)


def _put(session: WriteSession, key: str, value: str | None) -> None:
    c = tables.meta.c
    session.connection.execute(sa.delete(tables.meta).where(c.key == key))
    if value is not None:
        session.connection.execute(sa.insert(tables.meta).values(key=key, value=value))
