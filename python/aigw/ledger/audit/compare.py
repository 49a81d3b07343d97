"""Counters of limits against the entries of their windows.

In: the counters, the sets of limits, the store and the segments of the ledger. Out: differences in a `Report`. A window that the wall clock
told twice in part has entries of other windows, and lacks some of its own: a counter of it is compared with the least and the most that its
entries can be. A counter of a later window than now, which a clock that was ahead has opened, must count the entries of that window at
least. The report names both with their amounts.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from aigw.ledger.audit.recount import NS, Column, Counters, Entries, Place, Recount, Sums, by_place
from aigw.ledger.audit.report import Report
from aigw.ledger.audit.turns import Turn, turns
from aigw.ledger.database import LedgerReader
from aigw.ledger.events import timestamp
from aigw.ledger.labels import Labels
from aigw.ledger.retention import DAY
from aigw.ledger.source import Source
from aigw.types import JsonDict

PATIENCE_S: Final = 5.0
"""Seconds in which entries of settled calls become readable, by far."""
PAUSE_S: Final = 0.1
_MOST_NAMED: Final = 3
"""Counters of one limit that a text names."""
_SET_BACK: Final = "the wall clock was set back, so the times of entries do not tell their window"
_AHEAD: Final = "the wall clock was ahead and has begun this window, in which calls of now count, too"


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
    turned: list[Turn] | None = None
    while True:
        listed, known = counters.read(int(now() * NS))
        columns = [Column(*column) for column in listed]
        if not columns:
            report.not_compared.append("no tier has a limit that counts in a window")
            return
        starts = sorted({column.start for column in columns})
        windows = [(column.start, column.end) for column in columns] + [(one[4], one[5]) for one in known]
        crossing = [one for one in turned or () if any(_is_over(one, *window) for window in windows)]
        cuts = sorted({time for window in (*windows, *crossing) for time in window})
        if recount is None or (recount.cuts, recount.starts) != (cuts, starts):
            recount = Recount(cuts, starts, store, source)
        earlier = recount.now()
        later_columns, counted = counters.read(int(now() * NS))
        later = recount.now()
        # A window that ended meanwhile is compared by the next audit.
        same = [column for column in columns if column in map(Column._make, later_columns) and column.end > now()]
        seen = _Seen(same, sets(), recount, counted, crossing)
        wrong = seen.differences(earlier, later)
        if wrong and turned is None:
            turned = turns(store, source, cuts[0], now())
            if turned:
                continue
        if not wrong or now() >= deadline:
            break
        sleep(PAUSE_S)
    _tell(store, report, seen, wrong, skipped=[column for column in columns if column not in same])


class _Found(NamedTuple):
    """A counter, and the sum of its entries."""

    place: Place
    column: Column
    """With the window that the counter counts in."""
    ledger: int
    taken: int
    held: int


class _Seen:
    """The counters of one moment, next to the entries around it."""

    def __init__(
        self,
        columns: Sequence[Column],
        sets: Mapping[int, frozenset[int]],
        recount: Recount,
        counted: Iterable[tuple[int, int, int, int, int, int]],
        turned: Sequence[Turn],
    ) -> None:
        self.gone = [column for column in columns if _is_gone(column, recount)]
        self.columns = {column.number: column for column in columns if column not in self.gone}
        self.counted: dict[Place, tuple[int, int]] = {}
        self._later: dict[Column, dict[Place, tuple[int, int]]] = defaultdict(dict)
        for number, row, taken, held, start, end in counted:
            column = self.columns.get(number)
            if column is not None and end == column.end:
                self.counted[number, row] = taken, held
            elif column is not None:
                self._later[column._replace(start=start, end=end)][number, row] = taken, held
        self._sets = sets
        self._recount = recount
        self._turned = turned
        self.unsure: dict[str, list[_Found]] = {_SET_BACK: [], _AHEAD: []}

    def differences(self, earlier: Entries, later: Entries) -> list[_Found]:
        """The counters that differ; others that cannot be compared are `unsure` then."""
        sure = {number: self._recount.parts(column.start, column.end) for number, column in self.columns.items()}
        least, most = dict(sure), dict(sure)
        for number, column in self.columns.items():
            for turn in self._turned_over(column):
                least[number] -= self._recount.parts(*turn)
                most[number] |= self._recount.parts(*turn)
        low, high = (self._sums(one.sums, sure) for one in (earlier, later))
        least_of, most_of = self._sums(earlier.sums, least), self._sums(later.sums, most)
        over = by_place(
            later.straddling, list(self.columns.values()), self._sets, lambda start, column: start == column.start
        )
        ahead = {place for places in self._later.values() for place in places}
        self.compared, wrong = 0, []
        for place in sorted({*low, *high, *self.counted} - ahead):
            taken, held = self.counted.get(place, (0, 0))
            column = self.columns[place[0]]
            settled = taken - held - over.get(place, 0) - later.doubts.get((*place, column.end), 0)
            found = _Found(place, column, high.get(place, 0), taken, held)
            if _fits(found, settled, low.get(place, 0), high.get(place, 0)):
                self.compared += 1
            elif _fits(found, settled, least_of.get(place, 0), most_of.get(place, 0)):
                self.unsure[_SET_BACK].append(found)
            else:
                wrong.append(found)
        return wrong + self._compare_later(earlier)

    def _turned_over(self, column: Column) -> list[Turn]:
        """The ranges of time told twice that are within the column's window in part, or that it is within."""
        return [one for one in self._turned if _is_over(one, column.start, column.end)]

    def _compare_later(self, earlier: Entries) -> list[_Found]:
        wrong = list[_Found]()
        for column, places in self._later.items():
            has_cuts = {column.start, column.end} <= {*self._recount.cuts}
            least = self._sums(earlier.sums, {column.number: self._recount.parts(column.start, column.end)})
            for place, (taken, held) in places.items():
                found = _Found(place, column, least.get(place, 0), taken, held)
                is_less = has_cuts and found.ledger > taken and not column.shadow
                (wrong if is_less else self.unsure[_AHEAD]).append(found)
        return wrong

    def _sums(self, sums: Sums, parts: Mapping[int, frozenset[int]]) -> dict[Place, int]:
        columns = [self.columns[number] for number in parts]
        return by_place(sums, columns, self._sets, lambda part, column: part in parts[column.number])


def _is_over(turn: Turn, start: int, end: int) -> bool:
    """Whether the range crosses an edge of a window: no other one changes the window's entries. Ranges are disjoint, so few cross one,
    and SQLite bounds the cuts of a query (about 1,000)."""
    return turn.low < start < turn.high or turn.low < end < turn.high


def _is_gone(column: Column, recount: Recount) -> bool:
    """Whether retention has deleted events of the window."""
    return column.start * NS < recount.kept_since or any(
        column.start < (day + 1) * DAY and day * DAY < column.end for day in recount.future_days
    )


def _fits(found: _Found, settled: int, low: int, high: int) -> bool:
    """Whether a counter is between two sums."""
    return (low <= found.taken or found.column.shadow) and settled <= high


def _tell(store: LedgerReader, report: Report, seen: _Seen, wrong: Iterable[_Found], skipped: Sequence[Column]) -> None:
    report.checked["counters"] = seen.compared
    for column in (*seen.gone, *skipped):
        why = "its events are deleted" if column in seen.gone else "its window ended during the audit"
        report.not_compared.append(f"the limit of {column.meter} per {column.per}: {why}")
    with store.reading() as connection:
        labels = Labels(connection)
        for why, unsure in seen.unsure.items():
            of_limit = defaultdict[Column, list[_Found]](list)
            for one in unsure:
                of_limit[one.column].append(one)
            report.not_compared.extend(_not_compared(column, why, ones, labels) for column, ones in of_limit.items())
        for one in wrong:
            report.differ(_row(one, labels))


def _not_compared(column: Column, why: str, ones: Sequence[_Found], labels: Labels) -> str:
    """A text with the amounts of the first counters."""
    named = [
        f"{kind} {labels.of(kind, one.place[1])}: ledger {one.ledger}, counters {one.taken - one.held}"
        for kind, one in ((_kind(column), one) for one in ones[:_MOST_NAMED])
    ]
    more = [f"{len(ones) - len(named)} more"] if len(ones) > len(named) else []
    window = f"{timestamp(column.start * NS)} to {timestamp(column.end * NS)}"
    return f"the limit of {column.meter} per {column.per}, {window}: {why} ({'; '.join(named + more)})"


def _kind(column: Column) -> str:
    return "credential" if column.scope == "credential" else "consumer"


def _row(one: _Found, labels: Labels) -> JsonDict:
    column, kind = one.column, _kind(one.column)
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
