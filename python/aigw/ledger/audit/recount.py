"""Entries recounted for comparing them with the counters of limits: for each consumer, meter and window.

In: the store of the ledger, the segments behind it. Out: sums of the parts of time between the edges of windows. Calls go on meanwhile,
so a counter is compared with two sums. Everything in the ledger before the counters were read is counted or held; everything settled is in
the ledger afterwards, because an entry is written before its call is settled. Without calls in flight both sums are one, and the comparison
is exact. A call that goes on in a later window keeps a part in each, so such calls may add to the later one; and a worker that died in the
middle of an operation left amounts that stay counted, which the ledger has noted.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa

from aigw.ledger.audit.tail import AT, Stored, tail
from aigw.ledger.database import LedgerReader
from aigw.ledger.retention import future_days, kept_since
from aigw.ledger.source import COUNTED, Source
from aigw.ledger.tables import BLOCK, blocks, doubts, events

NS: Final = 10**9
BACKLOG: Final = 128
"""Blocks of events that may come between a call and the begin of its window: half a million."""
_METERS: Final[Mapping[str, Callable[["Amounts"], int]]] = {
    "requests": lambda a: a.requests,
    "tokens": lambda a: a.input + a.output,
    "input_tokens": lambda a: a.input,
    "output_tokens": lambda a: a.output,
    "spend": lambda a: a.spend,
}


class Counters(Protocol):
    """The counters of a data folder: `_native.Counters`."""

    def read(
        self, now_ns: int
    ) -> tuple[list[tuple[int, str, str, str, int, int, int, bool]], list[tuple[int, int, int, int, int, int]]]:
        """See the stub of `_native`."""


class Amounts(NamedTuple):
    """Amounts of entries that count."""

    requests: int = 0
    input: int = 0
    output: int = 0
    spend: int = 0

    def plus(self, other: "Amounts") -> "Amounts":
        """The sum."""
        return Amounts(*(a + b for a, b in zip(self, other, strict=True)))


class Column(NamedTuple):
    """A column of a limit, as `_native.Counters.read` tells it. Times are unix seconds."""

    number: int
    meter: str
    per: str
    scope: str
    model: int
    start: int
    end: int
    shadow: bool
    """A limit in shadow mode takes nothing once it is spent."""


Caller = tuple[int, int, int, int]
"""(consumer, credential, model, limit set) of entries."""
Sums = dict[tuple[Caller, int], Amounts]
"""Amounts by caller, and by the number of cuts that the admission is not before: the part of time."""
Place = tuple[int, int]
"""(column, row) of a counter."""


class Entries(NamedTuple):
    """The entries of one moment."""

    sums: Sums
    straddling: Sums
    """Of calls that began before this start of a window, and ended after it."""
    doubts: dict[tuple[int, int, int], int]
    """By (column, row, end of the window): most that the counter has too much, since workers died in the middle of an operation."""


class Recount:
    """Sums of entries between `cuts`, and of those over the `starts` of windows (unix seconds, ascending). Reads each stored event once."""

    def __init__(self, cuts: Sequence[int], starts: Sequence[int], store: LedgerReader, source: Source) -> None:
        self.cuts = cuts
        self.starts = starts
        self._store = store
        self._source = source
        self._read_to = 0
        self._stored = Entries({}, {}, {})
        self.kept_since = 0
        self.future_days: list[int] = []

    def now(self) -> Entries:
        """Everything that is readable now."""
        with self._store.reading() as connection:
            first = connection.scalar(sa.select(sa.func.min(blocks.c.block)).where(blocks.c.high >= self.cuts[0] * NS))
            floor = max(self._read_to, ((first or 0) << BLOCK) - 1)
            newest = int(connection.scalar(sa.select(sa.func.max(events.c.n))) or 0)
            if first is not None:
                _gather(self._stored.sums, connection.exec_driver_sql(self._query(floor, newest)))
            for start in self.starts:
                query = _straddling(start, self._read_to, newest, first)
                _gather(self._stored.straddling, connection.exec_driver_sql(query))
            self._read_to = newest
            stored = Stored.read(connection)
            self.kept_since = kept_since(connection)["events"]
            self.future_days = future_days(connection)
            unsure = _doubts(connection)
        found = Entries(dict(self._stored.sums), dict(self._stored.straddling), unsure)
        for _, entry, late in tail(self._source, stored):
            if entry is not None:
                self._add(found, entry)
            for _request, column, row, end, amount in late:
                found.doubts[column, row, end] = found.doubts.get((column, row, end), 0) + amount
        return found

    def parts(self, low: int, high: int) -> frozenset[int]:
        """Numbers of the parts between cuts that are within two of the cuts."""
        return frozenset(number for number, cut in enumerate(self.cuts, 1) if low <= cut < high)

    def _query(self, floor: int, newest: int) -> str:
        part = " + ".join(f"(admitted_at >= {cut * NS})" for cut in self.cuts)
        return (
            f"SELECT consumer, credential, model, limit_set, {part} AS w, COUNT(*), SUM(input + cached_input + cache_write),"  # noqa: S608
            f" SUM(output + reasoning), SUM(price) FROM events WHERE n > {floor} AND n <= {newest}"
            f" AND admitted_at >= {self.cuts[0] * NS} AND admitted_at < {self.cuts[-1] * NS} AND flags & {COUNTED}"
            f" GROUP BY 1, 2, 3, 4, 5"
        )

    def _add(self, found: Entries, entry: tuple[Any, ...]) -> None:
        def of(name: str) -> int:
            return int(entry[AT[name]])

        if not of("flags") & COUNTED:
            return
        caller = of("consumer"), of("credential"), of("model"), of("limit_set")
        amounts = Amounts(
            1, of("input") + of("cached_input") + of("cache_write"), of("output") + of("reasoning"), of("price")
        )
        began, ended = of("admitted_at"), of("ended_at")
        part = sum(began >= cut * NS for cut in self.cuts)
        if 0 < part < len(self.cuts):
            _gather(found.sums, [(*caller, part, *amounts)])
        for start in self.starts:
            if began < start * NS <= ended:
                _gather(found.straddling, [(*caller, start, *amounts)])


def _straddling(start: int, floor: int, newest: int, first: int | None) -> str:
    # An event arrives after its call ended, so it is not far before the first block with an admission in the window: behind a backlog by a
    # segment of each worker.
    low = max(floor, ((max(0, first - BACKLOG) << BLOCK) - 1) if first is not None else floor)
    return (
        f"SELECT consumer, credential, model, limit_set, {start}, COUNT(*), SUM(input + cached_input + cache_write),"  # noqa: S608
        f" SUM(output + reasoning), SUM(price) FROM events WHERE n > {low} AND n <= {newest} AND admitted_at < {start * NS}"
        f" AND admitted_at + duration >= {start * NS} AND flags & {COUNTED} GROUP BY 1, 2, 3, 4"
    )


def _doubts(connection: sa.Connection) -> dict[tuple[int, int, int], int]:
    of, amount = (doubts.c.column_n, doubts.c.row_n, doubts.c.window_end), sa.func.sum(doubts.c.amount)
    rows = connection.execute(sa.select(*of, amount).group_by(*of))
    return {(column, row, end): int(most) for column, row, end, most in rows}


def _gather(sums: Sums, rows: Iterable[Sequence[int]]) -> None:
    for consumer, credential, model, limit_set, window, *amounts in rows:
        key = (consumer, credential, model, limit_set), window
        sums[key] = sums.get(key, Amounts()).plus(Amounts(*amounts))


def by_place(
    sums: Sums,
    columns: Sequence[Column],
    sets: Mapping[int, frozenset[int]],
    belongs: Callable[[int, Column], bool],
) -> dict[Place, int]:
    """The amount of each counter. `belongs`: whether the second part of a sum's key is of the column's window."""
    found: dict[Place, int] = defaultdict(int)
    by_number = {column.number: column for column in columns}
    for ((consumer, credential, model, limit_set), window), amounts in sums.items():
        for number in sets.get(limit_set, frozenset()):
            column = by_number.get(number)
            if column is not None and column.model in (0, model) and belongs(window, column):
                row = credential if column.scope == "credential" else consumer
                found[number, row] += _METERS[column.meter](amounts)
    return {place: amount for place, amount in found.items() if amount}
