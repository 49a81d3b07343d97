"""Records of several segments on their way into one transaction of the ledger.

In: entries and refusals as a `Source` reads them, with the cursor after them. Out: rows of `events`, sums of refusals, moved cursors, all
written by `store` on one connection. Amounts beyond any real call are cut, so that no sum overflows SQLite's integers.
"""

from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from aigw.ledger import sums
from aigw.ledger.names import ENTITIES, VERSION, Names, version_text
from aigw.ledger.prices import KnownPrices
from aigw.ledger.source import COSTED, COUNTED_TOKENS, CRASHED, ENTRY, Denials, Doubt, Entry
from aigw.ledger.tables import events

MOST: Final = 8192
"""Records of one transaction: about 0.1 s of work, in which other writers of the ledger wait. Readers never wait."""
LARGEST: Final = 2**48 - 1
"""The largest amount of an event: 281 billion tokens, or 281,474 USD for one call."""
NO_ID: Final = bytes(16)
"""The request of an entry that names none."""

_COLUMNS: Final = [column.name for column in events.c]
_INSERT: Final = f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_MOVE: Final = (
    "INSERT INTO cursors (n, life, slot, segment, next, done, damage, entries, first) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (n) DO UPDATE SET next = excluded.next, done = excluded.done, damage = excluded.damage, entries = excluded.entries,"
    " first = excluded.first"
)
_DOUBT: Final = "INSERT INTO doubts (request_id, column_n, row_n, window_end, amount) VALUES (?, ?, ?, ?, ?)"
_AT: Final = {name: index for index, name in enumerate(ENTRY)}
_OF_KIND: Final = [(kind, itemgetter(_AT[kind])) for kind in ENTITIES]
_OUTCOME, _SOURCE, _FLAGS, _COST = (_AT[name] for name in ("outcome", "source", "flags", "cost"))
_FIRST_AMOUNT, _END_AMOUNT = _AT["input"], _AT["cost"] + 1


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

    entries: list[tuple[int, list[Entry]]] = field(default_factory=list)
    """(number of the cursor, entries), in the order read."""
    denials: list[Denials] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    cursors: dict[tuple[int, int, int], Cursor] = field(default_factory=dict)
    """Moved cursors, by (life, slot, number)."""
    size: int = 0

    def add(self, cursor: Cursor, entries: list[Entry], denials: list[Denials], doubts: list[Doubt]) -> None:
        """Add records of one segment."""
        if entries:
            self.entries.append((cursor.n, entries))
            cursor.entries += len(entries)
        self.denials += denials
        self.doubts += doubts
        self.size += len(entries) + len(denials) + len(doubts)

    @property
    def count(self) -> int:
        """Entries in it."""
        return sum(len(entries) for _, entries in self.entries)

    def store(self, connection: sa.Connection, first: int, names: Names, prices: KnownPrices) -> int:
        """Write everything in the caller's transaction. `first`: the number of the next event. Returns the number after the last."""
        self.entries = [(n, [_costed(connection, e, prices) for e in entries]) for n, entries in self.entries]
        for kind, of in _OF_KIND:
            names.meet(connection, kind, {n for _, entries in self.entries for n in map(of, entries)})
        rows = self._rows(connection, first, names)
        if rows:
            connection.exec_driver_sql(_INSERT, rows)
            sums.add_events(connection, first)
        self._store_denials(connection, names)
        if self.doubts:
            connection.exec_driver_sql(_DOUBT, self.doubts)
        self._number_firsts(first)
        moved = [(c.n, *key, c.next, int(c.done), c.damage, c.entries, c.first) for key, c in self.cursors.items()]
        if moved:
            connection.exec_driver_sql(_MOVE, moved)
        return first + len(rows)

    def _rows(self, connection: sa.Connection, first: int, names: Names) -> list[tuple[Any, ...]]:
        versions = {0: 0}
        at, until = _AT["price_version"], _AT["cost_version"]
        for version in {e[i] for _, entries in self.entries for e in entries for i in (at, until)} - {0}:
            versions[version] = names.number(connection, VERSION, version_text(version))
        rows: list[tuple[Any, ...]] = []
        for cursor, entries in self.entries:
            if max(max(e[_FIRST_AMOUNT:_END_AMOUNT]) for e in entries) > LARGEST:
                entries = [_cut(e) for e in entries]
            n = first + len(rows)
            rows += [
                (
                    n + i,
                    cursor,
                    e[3],
                    e[4],
                    e[5] - e[4],
                    e[6] or NO_ID,
                    *e[7:at],
                    versions[e[at]],
                    versions[e[until]],
                    *e[until + 1 :],
                )
                for i, e in enumerate(entries)
            ]
        return rows

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


def _costed(connection: sa.Connection, entry: Entry, prices: KnownPrices) -> Entry:
    """The entry with the cost of its tokens. The control process that found a dead worker's progress knew its price, and of its cost only the
    reservation's."""
    if entry[_OUTCOME] != CRASHED or entry[_SOURCE] != COUNTED_TOKENS or not entry[_FLAGS] & COSTED:
        return entry
    known = prices.of(connection, entry[_AT["cost_version"]])
    if known is None:
        return entry
    cost = known.bound(sum(entry[_AT["input"] : _AT["output"]]), sum(entry[_AT["output"] : _AT["price"]]))
    return (*entry[:_COST], cost, *entry[_COST + 1 :])


def _cut(entry: Entry) -> Entry:
    amounts = (min(amount, LARGEST) for amount in entry[_FIRST_AMOUNT:_END_AMOUNT])
    return (*entry[:_FIRST_AMOUNT], *amounts, *entry[_END_AMOUNT:])
