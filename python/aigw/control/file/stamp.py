"""What the store remembers of the configuration file: which content is in force, and what became of the last ones.

The stamp is written in the transaction that applies a file, so a start finds without parsing whether the file is still the
one that the store holds. In: a connection. Out: small values of the table `meta`.
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
from aigw.control.store.read import Reading
from aigw.control.store.write import Writing
from aigw.types import JsonDict

VERSION: Final = f"{__version__}/{tables.HEAD}"
"""What an equal file means may change with the version that reads it."""
HISTORY: Final = 50
_STAMP: Final = "configuration"
_HISTORY: Final = "configuration_history"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The text in force: the hash of its content, that of all it stood for, its name, and when it was applied. `file` is what the
    file stood for by then: the same, or of a posted text, what must change until the file rules again."""

    hash: str
    whole: str
    source: str
    loaded_at: float
    version: str = VERSION
    file: str = ""


def peek(path: Path) -> Stamp | None:
    """The stamp in a store that is not open yet, when there is one: looking must not make or migrate anything."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT value FROM meta WHERE key = ?", (_STAMP,)).fetchone()
    except sqlite3.Error:
        return None  # whoever opens it says what is wrong with it
    return _parsed(found[0]) if found else None


def stamp_of(reading: Reading) -> Stamp | None:
    """The stamp of an open store."""
    found = _get(reading, _STAMP)
    return _parsed(found) if found is not None else None


def put_stamp(writing: Writing, stamp: Stamp | None) -> None:
    """Remember which file is in force; None: no file any more."""
    _put(writing, _STAMP, orjson.dumps(asdict(stamp)).decode() if stamp else None)


def history_of(reading: Reading) -> list[JsonDict]:
    """What became of the last files, oldest first."""
    found = _get(reading, _HISTORY)
    history: list[JsonDict] = orjson.loads(found) if found is not None else []
    return history


def put_history(writing: Writing, history: Sequence[JsonDict]) -> None:
    """Remember the last ones."""
    _put(writing, _HISTORY, orjson.dumps(history[-HISTORY:]).decode())


def _parsed(text: str) -> Stamp | None:
    found = orjson.loads(text)
    return Stamp(**found) if found["version"] == VERSION else None


def _get(reading: Reading, key: str) -> str | None:
    c = tables.meta.c
    found = reading.connection.scalar(sa.select(c.value).where(c.key == key))
    return None if found is None else str(found)


def _put(writing: Writing, key: str, value: str | None) -> None:
    c = tables.meta.c
    writing.connection.execute(sa.delete(tables.meta).where(c.key == key))
    if value is not None:
        writing.connection.execute(sa.insert(tables.meta).values(key=key, value=value))
