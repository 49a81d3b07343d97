"""Times that the wall clock told twice, since it was set back.

In: the store of the ledger, the segments behind it. Out: ranges of time. A worker writes entries in the order in which calls end, and the
segments of one slot follow each other; so an entry that ended before one that stands before it, by more than calls of one worker may, tells
of a clock that was set back in between. An entry of a later time than now tells of it, too. Entries of these ranges may be of another window
than the one that counted them.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import sqlalchemy as sa

from aigw.ledger.audit.tail import AT, Stored, tail
from aigw.ledger.database import LedgerReader
from aigw.ledger.source import CRASHED, Source
from aigw.ledger.tables import BLOCK, blocks

NS: Final = 10**9
_SLACK_NS: Final = NS


class Turn(NamedTuple):
    """A range of time that was told twice, in whole unix seconds: from `low`, up to but not including `high`."""

    low: int
    high: int


def turns(store: LedgerReader, source: Source, since: int, now: float) -> list[Turn]:
    """The ranges, disjoint and in order, as far as entries of `since` (unix seconds) or later tell of them."""
    found, seen = list[tuple[int, int]](), dict[int, int]()
    with store.reading() as connection:
        first = connection.scalar(sa.select(sa.func.min(blocks.c.block)).where(blocks.c.high >= since * NS))
        query = _query((first or 0) << BLOCK)
        for slot, low, high, newest in connection.exec_driver_sql(query) if first is not None else ():
            seen[slot] = max(seen.get(slot, 0), newest)
            if low is not None:
                found.append((low, high))
        stored = Stored.read(connection)
    for (_, slot, _), entry, _ in tail(source, stored):
        if entry is None or entry[AT["outcome"]] == CRASHED:
            continue
        began, ended = entry[AT["admitted_at"]], entry[AT["ended_at"]]
        before = seen.get(slot, 0)
        if ended < before - _SLACK_NS:
            found.append((began, before))
        seen[slot] = max(before, ended)
    latest, now_ns = max(seen.values(), default=0), int(now * NS)
    if latest > now_ns + _SLACK_NS:
        found.append((now_ns, latest))
    return _merged(Turn(low // NS, high // NS + 1) for low, high in found)


def _query(floor: int) -> str:
    """By slot and turn: (slot, first admission, latest end before it, latest end); the two in the middle are null for entries in order."""
    ended = "admitted_at + duration"
    before = f"max({ended}) OVER (PARTITION BY slot ORDER BY e.n)"
    is_late = f"ended < seen - {_SLACK_NS}"
    return (
        f"SELECT slot, min(began) FILTER (WHERE {is_late}), max(seen) FILTER (WHERE {is_late}), max(ended) FROM"  # noqa: S608
        f" (SELECT slot, admitted_at AS began, {ended} AS ended, {before} AS seen FROM events e JOIN cursors c ON c.n = e.cursor"
        f" WHERE outcome != {CRASHED} AND e.n >= {floor}) GROUP BY slot, iif({is_late}, seen, 0)"
    )


def _merged(given: Iterable[Turn]) -> list[Turn]:
    merged = list[Turn]()
    for one in sorted(given):
        if merged and one.low <= merged[-1].high:
            merged[-1] = Turn(merged[-1].low, max(merged[-1].high, one.high))
        else:
            merged.append(one)
    return merged
