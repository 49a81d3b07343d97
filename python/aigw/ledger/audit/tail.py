"""The entries that are in segments and not in the store yet.

In: segments, and how far each is stored. Out: their records, segment by segment.
"""

from collections.abc import Iterator, Mapping, Set
from typing import NamedTuple

import sqlalchemy as sa

from aigw.ledger.forgotten import Forgotten
from aigw.ledger.source import ENTRY, Doubt, Entry, Key, SegmentInfo, Source, records_from
from aigw.ledger.tables import cursors

AT_ONCE = 4096
AT = {name: index for index, name in enumerate(ENTRY)}
"""Places of an entry's fields."""


class Stored(NamedTuple):
    """How far segments are stored, in one view."""

    next: Mapping[Key, int]
    done: Set[Key]
    """Segments that the compactor never reads again: their later records are in no sum of the ledger."""
    forgotten: Forgotten

    @classmethod
    def read(cls, connection: sa.Connection) -> "Stored":
        """Read it."""
        c = cursors.c
        rows = connection.execute(sa.select(c.life, c.slot, c.segment, c.next, c.done)).all()
        next_of: dict[Key, int] = {(r.life, r.slot, r.segment): r.next for r in rows}
        done: set[Key] = {(r.life, r.slot, r.segment) for r in rows if r.done}
        return cls(next_of, done, Forgotten.read(connection))


def tail(source: Source, stored: Stored) -> Iterator[tuple[Key, Entry | None, list[Doubt]]]:
    """Each entry behind the store, or some doubts, with their segment. Segments come in the order of their names. Raises OSError."""
    for key in sorted(SegmentInfo(*info)[:3] for info in source.segments()):
        if key in stored.done or key in stored.forgotten:
            continue
        for entries, _, late, _, _ in records_from(source, key, stored.next.get(key, 0), AT_ONCE):
            yield key, None, late
            for entry in entries:
                yield key, entry, []
