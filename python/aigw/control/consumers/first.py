"""A first large file: plain consumers and their keys into tables that hold nobody yet, a few thousand rows at a time.

In: `Leans`. Out: the rows, and one `Many` for each kind in place of a change for each row: nobody can have the same name or key,
and whoever publishes begins anew. The caller takes the indexes away meanwhile (`Writing.without_indexes`).
"""

from typing import Final

from aigw.control.consumers.lean import Leans
from aigw.control.store.rows import MOST_TOLD, Change, Many
from aigw.control.store.write import Writing

_PART: Final = 5000
_INSERT: Final = {
    "consumers": "INSERT INTO consumers (n, id, username, custom_id, tier, body, origin) VALUES (?, ?, ?, NULL, ?, ?, ?)",
    "keyauth_credentials": (
        "INSERT INTO keyauth_credentials (n, id, consumer, hash, expires_at, body, origin) VALUES (?, ?, ?, ?, 0, ?, ?)"
    ),
}


def fill(writing: Writing, kind: str, leans: Leans) -> None:
    """Store all of them, with what is to be said of it in `writing.changes`. Each has the number that its id had before, or else
    the next one."""
    known, highest = writing.numbers(kind), writing.highest(kind)
    for start in range(0, len(leans), _PART):
        records, highest = leans.all.records(kind, start, min(start + _PART, len(leans)), highest, known)
        writing.connection.exec_driver_sql(_INSERT[kind], records)
    told = tuple(Change(kind, None, leans.row(kind, index)) for index in range(min(MOST_TOLD, len(leans))))
    writing.changes.append(Many(kind, len(leans), highest, told, "created"))
