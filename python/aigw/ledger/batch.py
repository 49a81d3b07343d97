"""Records of several segments on their way into one transaction of the ledger.

In: entries and refusals as a `Source` reads them, with the cursor after them. Out: rows of `events`, sums of refusals, moved cursors, all
written by `store` on one connection. Amounts beyond any real call are cut, so that no sum overflows SQLite's integers.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import sqlalchemy as sa

from aigw._native import Entries, EventRows, PriceList
from aigw.ledger import sums
from aigw.ledger.names import ENTITIES, VERSION, Names, version_text
from aigw.ledger.prices import KnownPrices
from aigw.ledger.source import Denials, Doubt, Key, Life
from aigw.ledger.tables import events

MOST: Final = 8192
"""Records of one transaction: about 0.1 s of work, in which other writers of the ledger wait. Readers never wait."""
LARGEST: Final = 2**48 - 1
"""The largest count of refusals of one row; amounts of events have the same bound."""

_MOVE: Final = (
    "INSERT INTO cursors (n, life, slot, segment, next, done, damage, entries, first) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (n) DO UPDATE SET next = excluded.next, done = excluded.done, damage = excluded.damage, entries = excluded.entries,"
    " first = excluded.first"
)
_DOUBT: Final = "INSERT INTO doubts (request_id, column_n, row_n, window_end, amount) VALUES (?, ?, ?, ?, ?)"


@dataclass(slots=True)
class Cursor:
    """The place in one segment up to which its records are stored."""

    n: int
    """The row's number, which events refer to."""
    next: int = 0
    done: bool = False
    damage: str | None = None
    entries: int = 0
    first: int = 0
    """The number of its first event; 0: it has none yet."""


@dataclass(slots=True)
class Batch:
    """Records read since the last commit."""

    entries: list[tuple[int, Entries]] = field(default_factory=list)
    """(number of the cursor, entries), in the order read."""
    denials: list[Denials] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    cursors: dict[Key, Cursor] = field(default_factory=dict)
    """Moved cursors, by (life, slot, number)."""
    size: int = 0
    unpriced: dict[tuple[int, int], int] = field(default_factory=dict)
    """(tier, model) -> calls of a model without a cost, once they are stored."""

    def add(self, cursor: Cursor, entries: Entries, denials: list[Denials], doubts: list[Doubt]) -> None:
        """Add records of one segment."""
        if len(entries):
            self.entries.append((cursor.n, entries))
            cursor.entries += len(entries)
        self.denials += denials
        self.doubts += doubts
        self.size += len(entries) + len(denials) + len(doubts)

    @property
    def count(self) -> int:
        """Entries in it."""
        return sum(len(entries) for _, entries in self.entries)

    def count_of(self, lives: Collection[Life]) -> int:
        """Entries of these lives in it."""
        numbers = {cursor.n for key, cursor in self.cursors.items() if key[:2] in lives}
        return sum(len(entries) for number, entries in self.entries if number in numbers)

    def store(self, connection: sa.Connection, first: int, names: Names, prices: KnownPrices) -> int:
        """Write everything in the caller's transaction. `first`: the number of the next event. Returns the number after the last."""
        made = EventRows(
            self.entries,
            first,
            lambda version: names.number(connection, VERSION, version_text(version)) if version else 0,
            lambda version, input, output: _cost(prices.of(connection, version), input, output),
        )
        for place, kind in enumerate(ENTITIES):
            names.meet(connection, kind, made.met(place))
        if len(made):
            connection.exec_driver_sql(_insert(made.used), made.rows)
            sums.add_events(connection, made)
        self._store_denials(connection, names)
        if self.doubts:
            connection.exec_driver_sql(_DOUBT, self.doubts)
        self._number_firsts(first)
        moved = [(c.n, *key, c.next, int(c.done), c.damage, c.entries, c.first) for key, c in self.cursors.items()]
        if moved:
            connection.exec_driver_sql(_MOVE, moved)
        self.unpriced = made.unpriced()
        return first + len(made)

    def _number_firsts(self, first: int) -> None:
        """Give each segment that has its first events in this batch the number of the first one."""
        by_number, n = {cursor.n: cursor for cursor in self.cursors.values()}, first
        for cursor, entries in self.entries:
            if not by_number[cursor].first:
                by_number[cursor].first = n
            n += len(entries)

    def _store_denials(self, connection: sa.Connection, names: Names) -> None:
        counts: dict[tuple[int, int, int, int, int], int] = {}
        for minute, consumer, tier, model, reason, count in self.denials:
            key = minute - minute % 60, consumer, tier, model, names.reason(connection, reason)
            counts[key] = counts.get(key, 0) + count
        for place, kind in enumerate(("consumer", "tier", "model"), 1):
            names.meet(connection, kind, {key[place] for key in counts})
        if counts:
            sums.add_denials(connection, [(*key, min(count, LARGEST)) for key, count in counts.items()])


def _cost(known: PriceList | None, input: int, output: int) -> int | None:
    return None if known is None else known.bound(input, output)


@cache
def _insert(used: tuple[bool, ...]) -> str:
    """The statement for rows with these columns of `events`: a statement is prepared once for each form, and there are few."""
    columns = list(zip(events.c, used, strict=True))
    values = ("?" if is_used else "NULL" if column.nullable else "0" for column, is_used in columns)
    return f"INSERT INTO events ({', '.join(column.name for column, _ in columns)}) VALUES ({', '.join(values)})"  # noqa: S608
