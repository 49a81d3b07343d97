"""Entries against the counters of limits: both are recounted for each consumer, meter and window of now.

In: the store of the ledger, the segments behind it, the counters. Out: differences in a `Report`. Calls go on meanwhile, so a counter is
compared with two sums. Everything in the ledger before the counters were read is counted or held; everything settled is in the ledger
afterwards, because an entry is written before its call is settled. Without calls in flight both sums are one, and the comparison is exact.
A call that goes on in a later window keeps a part in each, so such calls may add to the later one; and a worker that died in the middle of
an operation left amounts that stay counted, which the ledger has noted.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa

from aigw.ledger.audit.report import Report
from aigw.ledger.database import LedgerReader
from aigw.ledger.events import timestamp
from aigw.ledger.forgotten import Forgotten
from aigw.ledger.labels import Labels
from aigw.ledger.retention import DAY, future_days, kept_since
from aigw.ledger.source import COUNTED, ENTRY, Key, SegmentInfo, Source, records_from
from aigw.ledger.tables import BLOCK, blocks, cursors, doubts, events
from aigw.types import JsonDict

NS: Final = 10**9
PATIENCE_S: Final = 5.0
"""Seconds in which entries of settled calls become readable, by far."""
PAUSE_S: Final = 0.1
AT_ONCE: Final = 4096
BACKLOG: Final = 128
"""Blocks of events that may come between a call and the begin of its window: half a million."""
_METERS: Final[Mapping[str, Callable[["Amounts"], int]]] = {
    "requests": lambda a: a.requests,
    "tokens": lambda a: a.input + a.output,
    "input_tokens": lambda a: a.input,
    "output_tokens": lambda a: a.output,
    "spend": lambda a: a.spend,
}
_AT: Final = {name: index for index, name in enumerate(ENTRY)}


class Counters(Protocol):
    """The counters of a data folder: `_native.Counters`."""

    def read(
        self, now_ns: int
    ) -> tuple[list[tuple[int, str, str, str, int, int, int, bool]], list[tuple[int, int, int, int]]]:
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
"""Amounts by caller, and by the number of window starts that the admission is not before."""
Place = tuple[int, int]
"""(column, row) of a counter."""


class Entries(NamedTuple):
    """The entries of one moment."""

    sums: Sums
    straddling: Sums
    """Of calls that began before the window start with this index, and ended after it."""
    doubts: dict[tuple[int, int, int], int]
    """By (column, row, end of the window): most that the counter has too much, since workers died in the middle of an operation."""


class Recount:
    """Sums of entries for the windows that begin at `starts` (unix seconds, ascending). Reads each stored event once."""

    def __init__(self, starts: Sequence[int], store: LedgerReader, source: Source) -> None:
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
            first = connection.scalar(
                sa.select(sa.func.min(blocks.c.block)).where(blocks.c.high >= self.starts[0] * NS)
            )
            floor = max(self._read_to, ((first or 0) << BLOCK) - 1)
            newest = int(connection.scalar(sa.select(sa.func.max(events.c.n))) or 0)
            if first is not None:
                _gather(self._stored.sums, connection.exec_driver_sql(self._query(floor, newest)))
            for index, start in enumerate(self.starts):
                query = _straddling(index, start, self._read_to, newest, first)
                _gather(self._stored.straddling, connection.exec_driver_sql(query))
            self._read_to = newest
            c = cursors.c
            known = {
                (r.life, r.slot, r.segment): r.next
                for r in connection.execute(sa.select(c.life, c.slot, c.segment, c.next))
            }
            forgotten = Forgotten.read(connection)
            self.kept_since = kept_since(connection)["events"]
            self.future_days = future_days(connection)
            unsure = _doubts(connection)
        found = Entries(dict(self._stored.sums), dict(self._stored.straddling), unsure)
        self._add_tail(found, known, forgotten)
        return found

    def _query(self, floor: int, newest: int) -> str:
        index = " + ".join(f"(admitted_at >= {start * NS})" for start in self.starts)
        return (
            f"SELECT consumer, credential, model, limit_set, {index} AS w, COUNT(*), SUM(input + cached_input + cache_write),"  # noqa: S608
            f" SUM(output + reasoning), SUM(price) FROM events WHERE n > {floor} AND n <= {newest}"
            f" AND admitted_at >= {self.starts[0] * NS} AND flags & {COUNTED} GROUP BY 1, 2, 3, 4, 5"
        )

    def _add_tail(self, found: Entries, known: Mapping[Key, int], forgotten: Forgotten) -> None:
        """Add the entries that are not in the store yet."""
        for info in (SegmentInfo(*info) for info in self._source.segments()):
            key = info[:3]
            if key in forgotten:
                continue
            for entries, _, late, _, _ in records_from(self._source, key, known.get(key, 0), AT_ONCE):
                for entry in entries:
                    self._add(found, entry)
                for _request, column, row, end, amount in late:
                    found.doubts[column, row, end] = found.doubts.get((column, row, end), 0) + amount

    def _add(self, found: Entries, entry: tuple[Any, ...]) -> None:
        def of(name: str) -> int:
            return int(entry[_AT[name]])

        if not of("flags") & COUNTED:
            return
        caller = of("consumer"), of("credential"), of("model"), of("limit_set")
        amounts = Amounts(
            1, of("input") + of("cached_input") + of("cache_write"), of("output") + of("reasoning"), of("price")
        )
        began, ended = of("admitted_at"), of("ended_at")
        window = sum(began >= start * NS for start in self.starts)
        if window:
            _gather(found.sums, [(*caller, window, *amounts)])
        for index, start in enumerate(self.starts):
            if began < start * NS <= ended:
                _gather(found.straddling, [(*caller, index, *amounts)])


def _straddling(index: int, start: int, floor: int, newest: int, first: int | None) -> str:
    # An event arrives after its call ended, so it is not far before the first block with an admission in the window: behind a backlog by a
    # segment of each worker.
    low = max(floor, ((max(0, first - BACKLOG) << BLOCK) - 1) if first is not None else floor)
    return (
        f"SELECT consumer, credential, model, limit_set, {index}, COUNT(*), SUM(input + cached_input + cache_write),"  # noqa: S608
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


def check_counters(
    store: LedgerReader,
    source: Source,
    counters: Counters,
    sets: Callable[[], Mapping[int, frozenset[int]]],
    report: Report,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Compare each counter of a tier's limit with the entries of its window."""
    deadline = now() + PATIENCE_S
    recount: Recount | None = None
    while True:
        columns = [Column(*column) for column in counters.read(int(now() * NS))[0]]
        starts = sorted({column.start for column in columns})
        if not starts:
            report.not_compared.append("no tier has a limit that counts in a window")
            return
        if recount is None or recount.starts != starts:
            recount = Recount(starts, store, source)
        earlier = recount.now()
        later_columns, counted = counters.read(int(now() * NS))
        later = recount.now()
        # A window that ended meanwhile is compared by the next audit.
        same = [column for column in columns if column in map(Column._make, later_columns) and column.end > now()]
        seen = _Seen(same, starts, sets(), recount, counted)
        wrong = seen.differences(earlier, later)
        if not wrong or now() >= deadline:
            break
        sleep(PAUSE_S)
    _tell(store, report, seen, wrong, skipped=[column for column in columns if column not in same])


class _Wrong(NamedTuple):
    place: Place
    ledger: int
    taken: int
    held: int


class _Seen:
    """The counters of one moment, next to the entries around it."""

    def __init__(
        self,
        columns: Sequence[Column],
        starts: Sequence[int],
        sets: Mapping[int, frozenset[int]],
        recount: Recount,
        counted: Iterable[tuple[int, int, int, int]],
    ) -> None:
        self.gone = [
            column
            for column in columns
            if column.start * NS < recount.kept_since
            or any(column.start < (day + 1) * DAY and day * DAY < column.end for day in recount.future_days)
        ]
        self.columns = {column.number: column for column in columns if column not in self.gone}
        self.counted = {(column, row): (taken, held) for column, row, taken, held in counted if column in self.columns}
        self._starts = starts
        self._sets = sets

    def differences(self, earlier: Entries, later: Entries) -> list[_Wrong]:
        index = {start: at for at, start in enumerate(self._starts)}

        def of(sums: Sums, belongs: Callable[[int, Column], bool]) -> dict[Place, int]:
            return by_place(sums, list(self.columns.values()), self._sets, belongs)

        low, high = (of(one.sums, lambda passed, column: passed > index[column.start]) for one in (earlier, later))
        straddling = of(later.straddling, lambda at, column: at == index[column.start])
        wrong = []
        for place in sorted({*low, *high, *self.counted}):
            taken, held = self.counted.get(place, (0, 0))
            unsure = later.doubts.get((*place, self.columns[place[0]].end), 0)
            settled = taken - held - straddling.get(place, 0) - unsure
            lost = low.get(place, 0) > taken and not self.columns[place[0]].shadow
            if lost or settled > high.get(place, 0):
                wrong.append(_Wrong(place, high.get(place, 0), taken, held))
        self.compared = len({*high, *self.counted})
        return wrong


def _tell(store: LedgerReader, report: Report, seen: _Seen, wrong: Iterable[_Wrong], skipped: Sequence[Column]) -> None:
    report.checked["counters"] = seen.compared
    for column in (*seen.gone, *skipped):
        why = "its events are deleted" if column in seen.gone else "its window ended during the audit"
        report.not_compared.append(f"the limit of {column.meter} per {column.per}: {why}")
    with store.reading() as connection:
        labels = Labels(connection)
        for one in wrong:
            report.differ(_row(seen.columns[one.place[0]], one, labels))


def _row(column: Column, one: _Wrong, labels: Labels) -> JsonDict:
    kind = "credential" if column.scope == "credential" else "consumer"
    return {
        "check": "counters",
        kind: labels.of(kind, one.place[1]),
        **({"model": labels.of("model", column.model)} if column.model else {}),
        "meter": column.meter,
        "per": column.per,
        "scope": column.scope,
        "after": timestamp(column.start * NS),
        "before": timestamp(column.end * NS),
        "ledger": one.ledger,
        "counters": one.taken - one.held,
        "held": one.held,
    }
