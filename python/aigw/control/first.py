"""A first large file: plain consumers and their keys into tables that hold nobody yet, a few thousand rows at a time.

In: `Leans`. Out: the rows, and one `Many` for each kind in place of a change for each row: nobody can have the same name or key,
and whoever publishes begins anew. The caller takes the indexes away meanwhile (`Writing.without_indexes`).
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import orjson

from aigw.control.lean import Leans
from aigw.control.rows import Change, Many
from aigw.control.writing import Writing

_PART: Final = 5000
_TOLD: Final = 50
_INSERT: Final = {
    "consumers": "INSERT INTO consumers (n, id, username, custom_id, tier, body, origin) VALUES (?, ?, ?, NULL, ?, ?, ?)",
    "keyauth_credentials": (
        "INSERT INTO keyauth_credentials (n, id, consumer, hash, expires_at, body, origin) VALUES (?, ?, ?, ?, 0, ?, ?)"
    ),
}


def fill(writing: Writing, kind: str, leans: Leans) -> None:
    """Store all of them, with what is to be said of it in `writing.changes`."""
    numbers = _Numbers(writing.numbers(kind), writing.highest(kind))
    rows = _consumers(leans, numbers) if kind == "consumers" else _keys(leans, numbers)
    while part := list(islice(rows, _PART)):
        writing.connection.exec_driver_sql(_INSERT[kind], part)
    first = [one.rows(leans.file, leans.now)[kind != "consumers"] for one in leans.all[:_TOLD]]
    told = tuple(Change(kind, None, row) for row in first)
    writing.changes.append(Many(kind, len(leans.all), numbers.highest, told))


class _Numbers:
    """The number that an id had before, or else the next one."""

    def __init__(self, known: dict[str, int], highest: int) -> None:
        self._known = known
        self.highest = highest

    def of(self, key: str) -> int:
        known = self._known.get(key)
        if known is not None:
            return known
        self.highest += 1
        return self.highest


def _consumers(leans: Leans, numbers: _Numbers) -> Iterator[tuple[Any, ...]]:
    for one, origin, _ in leans.origins():
        body = orjson.dumps(one.bodies(leans.now)[0]).decode()
        yield numbers.of(one.id), one.id, one.username, one.tier, body, origin


def _keys(leans: Leans, numbers: _Numbers) -> Iterator[tuple[Any, ...]]:
    for one, _, origin in leans.origins():
        body = orjson.dumps(one.bodies(leans.now)[1]).decode()
        yield numbers.of(one.key_id), one.key_id, one.id, one.digest, body, origin
