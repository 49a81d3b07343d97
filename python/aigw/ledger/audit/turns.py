"""Times that the wall clock told twice, since it was set back.

In: the store of the ledger, the segments behind it. Out: ranges of time. A worker writes entries in the order in which calls end, its
segments follow each other, and so do the workers of one slot; so an entry that ended before one that stands before it, by more than calls
of one worker may, tells of a clock that was set back in between. An entry of a later time than now tells of it, too. Entries of these
ranges may be of another window than the one that counted them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

from aigw.ledger.audit.tail import AT, Stored, tail
from aigw.ledger.database import LedgerReader
from aigw.ledger.source import CRASHED, Source
from aigw.ledger.tables import BLOCK, blocks, cursors

NS: Final = 10**9
_SLACK_NS: Final = NS
_FAR: Final = 2**63
_Worker = tuple[int, int]
"""A life and a slot."""


class Turn(NamedTuple):
    """A range of time that was told twice, in whole unix seconds: from `low`, up to but not including `high`."""

    low: int
    high: int


class _Seen:
    """What the entries of one worker tell, in unix nanoseconds."""

    def __init__(self) -> None:
        self.began = self.earliest = _FAR
        """The first admission and the earliest end."""
        self.latest = 0
        """The latest end."""

    def add(self, began: int, earliest: int, latest: int) -> None:
        """Take in one or more entries."""
        self.began, self.earliest = min(self.began, began), min(self.earliest, earliest)
        self.latest = max(self.latest, latest)


def turns(store: LedgerReader, source: Source, since: int, now: float) -> list[Turn]:
    """The ranges, disjoint and in order, as far as entries of `since` (unix seconds) or later tell of them."""
    found, seen = list[tuple[int, int]](), defaultdict[_Worker, _Seen](_Seen)
    with store.reading() as connection:
        first = connection.scalar(sa.select(sa.func.min(blocks.c.block)).where(blocks.c.high >= since * NS))
        query = _query((first or 0) << BLOCK)
        for life, slot, low, high, *ends in connection.exec_driver_sql(query) if first is not None else ():
            seen[life, slot].add(*ends)
            if low is not None:
                found.append((low, high))
        c = cursors.c
        begun = connection.execute(sa.select(c.life, c.slot, sa.func.min(c.n)).group_by(c.life, c.slot))
        ranks: dict[_Worker, int] = {(life, slot): rank for life, slot, rank in begun}
        stored = Stored.read(connection)
    for (life, slot, _), entry, _ in tail(source, stored):
        if entry is None or entry[AT["outcome"]] == CRASHED:
            continue
        began, ended, worker = entry[AT["admitted_at"]], entry[AT["ended_at"]], seen[life, slot]
        if ended < worker.latest - _SLACK_NS:
            found.append((began, worker.latest))
        worker.add(began, ended, ended)
    found += _across(seen, ranks)
    latest, now_ns = max((worker.latest for worker in seen.values()), default=0), int(now * NS)
    if latest > now_ns + _SLACK_NS:
        found.append((now_ns, latest))
    return _merged(Turn(low // NS, high // NS + 1) for low, high in found)


def _across(seen: Mapping[_Worker, _Seen], ranks: Mapping[_Worker, int]) -> Iterator[tuple[int, int]]:
    """Ranges that two lives of one slot told. Their order is that of their first segments in the ledger, by number of cursor, since a life's
    own time is of the clock in doubt; those that the ledger does not have come last."""
    latest = dict[int, int]()
    for worker in sorted(seen, key=lambda worker: (ranks.get(worker, _FAR), worker)):
        before, now = latest.get(worker[1], 0), seen[worker]
        if now.earliest < before - _SLACK_NS:
            yield now.began, before
        latest[worker[1]] = max(before, now.latest)


def _query(floor: int) -> str:
    """By worker and turn: (life, slot, first admission in it, latest end before it; first admission, earliest and latest end of all). The
    first two are null for entries in order, which is that of segments and not of arrival: one that was missing may come late."""
    ended = "admitted_at + duration"
    before = f"max({ended}) OVER (PARTITION BY life, slot ORDER BY segment, sequence)"
    is_late = f"ended < seen - {_SLACK_NS}"
    return (
        f"SELECT life, slot, min(began) FILTER (WHERE {is_late}), max(seen) FILTER (WHERE {is_late}), min(began), min(ended), max(ended)"  # noqa: S608
        f" FROM (SELECT life, slot, admitted_at AS began, {ended} AS ended, {before} AS seen FROM events e JOIN cursors c ON c.n = e.cursor"
        f" WHERE outcome != {CRASHED} AND e.n >= {floor}) GROUP BY life, slot, iif({is_late}, seen, 0)"
    )


def _merged(given: Iterable[Turn]) -> list[Turn]:
    merged = list[Turn]()
    for one in sorted(given):
        if merged and one.low <= merged[-1].high:
            merged[-1] = Turn(merged[-1].low, max(merged[-1].high, one.high))
        else:
            merged.append(one)
    return merged
