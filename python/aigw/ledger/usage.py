"""Sums by group, from rollups, and refusals by group.

In: filters and a grouping. Out: rows of JSON. A range of time is cut into whole days, whole hours, whole minutes and the rest, which is
summed from the events themselves, so the sums are those of the same events whatever the range. Where a finer rollup is gone, the range
grows to the next coarser one; the answer names the range it has, and a note says so. Refusals are counted by minute: a minute belongs to the
range in which it begins, so the refusals of neighbouring ranges add up.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from aigw.ledger.events import timestamp
from aigw.ledger.labels import Labels, numbers_of
from aigw.ledger.notes import of_names, of_refusals, of_sums, span
from aigw.ledger.query import DENIAL_GROUPS, LATEST, TIMES, BadQuery, Filters
from aigw.ledger.retention import DAY, future_days, kept_since
from aigw.ledger.sums import OF_EVENTS
from aigw.ledger.tables import BLOCK, FEW, ROLLUPS, SUMS, blocks, denials, events, minutes, totals
from aigw.types import JsonDict

NS: Final = 10**9
MOST_GROUPS: Final = 100_000
"""Rows of one answer."""
SHOWN: Final = {
    "requests": "requests", "errors": "errors", "input": "input_tokens", "cached_input": "cached_input_tokens",
    "cache_write": "cache_write_input_tokens", "output": "output_tokens", "reasoning": "reasoning_tokens",
    "cost": "cost_nanodollars", "price": "price_nanodollars", "unpriced": "unpriced", "overruns": "overruns",
}  # fmt: skip
"""Sum -> its name in answers."""
_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86400, "month": 86400}

Key = tuple[int, ...]
"""Start of the time group, then the numbers of the other groups."""
Conditions = Mapping[str, list[int]]
"""The numbers that an entry of interest has, by kind."""


class Span(NamedTuple):
    """The range [low, high) of an answer in nanoseconds, and the seconds of the rollup to which it grew; 0: it is the range asked for."""

    low: int
    high: int
    grown: int


class Part(NamedTuple):
    """A range [low, high) in nanoseconds, and the seconds of its rollup; 0: its events."""

    low: int
    high: int
    unit: int


def usage(connection: sa.Connection, wanted: Filters, groups: tuple[str, ...]) -> JsonDict:
    """`GET /usage`: sums and refusals by group, ordered by time and name."""
    time = next((word for word in groups if word in TIMES), None)
    low, high, grown = kept(connection, wanted, time)
    keys = [word for word in groups if word not in TIMES]
    conditions = _named(connection, wanted)
    found = summed(connection, (low, high), keys, time, conditions) if conditions is not None else {}
    refused: dict[Key, list[int]] = {}
    if conditions is not None:
        for key, count in _refusals(connection, (low, high), keys, conditions, _UNITS[time] if time else 0):
            _add(refused, key, [count])
    zero = [0] * len(SUMS)
    merged = {key: [*found.get(key, zero), *refused.get(key, (0,))] for key in (*found, *refused)}
    if not groups and not merged:
        merged = {(0,): [*zero, 0]}
    names = [*(SHOWN.get(name) for name in SUMS), "denials"]
    notes = [
        *of_names(connection, wanted),
        *of_sums(connection, wanted, low, high, grown),
        *of_refusals(connection, low),
    ]
    return {"data": rows(connection, merged, groups, names), "next": None, **bounds(wanted, low, high), "notes": notes}


def summed(
    connection: sa.Connection, span: tuple[int, int], keys: list[str], time: str | None, conditions: Conditions
) -> dict[Key, list[int]]:
    """`SUMS` of the events in `span` (unix nanoseconds) by `keys` and `time`."""
    found: dict[Key, list[int]] = {}
    for part in parts(*span, _UNITS.get(time or "day", 86400)):
        for row in _sums(connection, part, keys, conditions, _UNITS[time] if time else 0):
            _add(found, tuple(row[: len(keys) + 1]), list(row[len(keys) + 1 :]))
    return found


def refusals(connection: sa.Connection, wanted: Filters, groups: tuple[str, ...]) -> JsonDict:
    """`GET /denials`: refusals by group, ordered by time and name."""
    time = next((word for word in groups if word in TIMES), None)
    since = kept_since(connection)["denials"]
    low, high = (at + -at % (60 * NS) for at in _asked(wanted))
    _must_be_kept(time, low, since, "hours")
    keys = [word for word in groups if word not in TIMES]
    conditions = _named(connection, wanted)
    found: dict[Key, list[int]] = {}
    if conditions is not None:
        for key, count in _refusals(connection, (low, high), keys, conditions, _UNITS[time] if time else 0):
            _add(found, key, [count])
    if not groups and not found:
        found = {(0,): [0]}
    notes = [*of_names(connection, wanted), *of_refusals(connection, low)]
    if (low, high) != _asked(wanted):
        notes.append(f"refusals are counted by minute: these are of the minutes from {span(wanted, low, high)}")
    return {
        "data": rows(connection, found, groups, ["denials"]),
        "next": None,
        **bounds(wanted, low, high),
        "notes": notes,
    }


def _asked(wanted: Filters) -> tuple[int, int]:
    return wanted.after or 0, LATEST if wanted.before is None else wanted.before


def parts(low: int, high: int, coarsest: int) -> Iterator[Part]:
    """Cut [low, high) into the coarsest rollups that fit, up to `coarsest` seconds, and events where not even a minute fits."""
    units = [unit for unit in sorted(ROLLUPS, reverse=True) if unit <= coarsest]
    yield from _cut(low, high, units)


def _cut(low: int, high: int, units: list[int]) -> Iterator[Part]:
    if low >= high:
        return
    if not units:
        yield Part(low, high, 0)
        return
    step = units[0] * NS
    first, last = low + -low % step, high - high % step
    if first >= last:
        yield from _cut(low, high, units[1:])
        return
    yield from _cut(low, first, units[1:])
    yield Part(first, last, units[0])
    yield from _cut(last, high, units[1:])


def kept(connection: sa.Connection, wanted: Filters, time: str | None) -> Span:
    """The range, grown to times that the rollups still know."""
    since = kept_since(connection)
    low, high, grown = _grown_in(future_days(connection), *_asked(wanted))
    for finer, unit in (("events", 60), ("60", 3600), ("3600", 86400)):
        gone, before, step = since[finer] if finer == "events" else since[finer] * NS, (low, high), unit * NS
        low = low - low % step if low < gone else low
        # The finer sums are needed from the start of the last unit on, or of the range, where that is later.
        high = high + -high % step if max(low, high - high % step) < gone else high
        grown = unit if (low, high) != before else grown
    if time in ("minute", "hour"):
        _must_be_kept(time, low, since[str(_UNITS[time])], f"{time}s")
    return Span(low, high, grown)


def _grown_in(days: Collection[int], low: int, high: int) -> Span:
    """The range, with each end in one of these days, of which entries are gone, at a whole minute."""
    step, asked = 60 * NS, (low, high)
    # A range within one minute has both ends in it.
    low = low - low % step if low // (DAY * NS) in days else low
    high = high + -high % step if (high - high % step) // (DAY * NS) in days else high
    return Span(low, high, 60 if (low, high) != asked else 0)


def _must_be_kept(time: str | None, low: int, since: int, setting: str) -> None:
    if time is not None and low < since * NS:
        raise BadQuery(
            "after",
            f"the sums by {time} before {timestamp(since * NS)} are deleted (ledger.{setting}): give a later time",
        )


def _named(connection: sa.Connection, wanted: Filters) -> dict[str, list[int]] | None:
    """Numbers by kind that the filters allow; None: a filter names an entity without events."""
    found = {}
    for kind in ("consumer", "model", "tier"):
        text = getattr(wanted, kind)
        if text is not None:
            found[kind] = list(numbers_of(connection, kind, text))
            if not found[kind]:
                return None
    return found


def _sums(connection: sa.Connection, part: Part, keys: list[str], conditions: Conditions, seconds: int) -> Any:
    """Rows (start of the time group, keys..., sums...) of one part."""
    table = ROLLUPS[part.unit] if part.unit else events
    if table is minutes and {*keys, *conditions} <= {*FEW}:
        table = totals
    start: sa.ColumnElement[int] = sa.literal_column(f"admitted_at / {NS}")
    if part.unit:
        start = table.c.start
        where = [_starts(table.name, part) if "consumer" in conditions else _within(start, part)]
        sums: list[Any] = [sa.func.sum(table.c[name]) for name in SUMS]
    else:
        first, last = connection.execute(
            sa.select(sa.func.min(blocks.c.block), sa.func.max(blocks.c.block)).where(
                blocks.c.high >= part.low, blocks.c.low < part.high
            )
        ).one()
        where = [events.c.admitted_at >= part.low, events.c.admitted_at < part.high]
        where += [events.c.n >= (first or 0) << BLOCK, events.c.n < ((last or 0) + 1) << BLOCK]
        sums = [sa.literal_column(text) for text in OF_EVENTS.values()]
    where += [table.c[kind].in_(numbers) for kind, numbers in conditions.items()]
    by = [_floor(start, seconds), *(table.c[key] for key in keys)]
    query = sa.select(*by, *sums).where(*where).group_by(*by)
    return [row for row in connection.execute(query) if row[len(by)]]


def _within(start: Any, part: Part) -> sa.ColumnElement[bool]:
    return sa.and_(start >= part.low // NS, start < part.high // NS)


def _starts(table: str, part: Part) -> sa.ColumnElement[bool]:
    """The same for the rows of few consumers, each found by its key: the rollup is kept by start, then consumer, and a scan of it reads
    the rows of all consumers. The starts that it has are found one from another, by the same key."""
    low, high = part.low // NS, part.high // NS
    return sa.literal_column("start").in_(
        sa.text(
            f"WITH RECURSIVE has(x) AS (SELECT MIN(start) FROM {table} WHERE start >= {low} AND start < {high} UNION ALL"  # noqa: S608
            f" SELECT (SELECT MIN(start) FROM {table} WHERE start > x AND start < {high}) FROM has WHERE x IS NOT NULL)"
            " SELECT x FROM has WHERE x IS NOT NULL"
        )
    )


def _floor(start: Any, seconds: int) -> Any:
    return start - start % sa.literal_column(str(seconds)) if seconds else sa.literal_column("0 + 0")


def _refusals(
    connection: sa.Connection, span: tuple[int, int], keys: list[str], conditions: Conditions, seconds: int
) -> Iterator[tuple[Key, int]]:
    """(key, count) of the minutes that begin in `span`. A refusal has no credential, route or agent: its number there is 0."""
    c = denials.c
    of_denials = [key for key in keys if key in DENIAL_GROUPS]
    where = [c.minute >= -(-span[0] // NS), c.minute < -(-span[1] // NS)]
    where += [c[kind].in_(numbers) for kind, numbers in conditions.items()]
    by = [_floor(c.minute, seconds), *(c[key] for key in of_denials)]
    for row in connection.execute(sa.select(*by, sa.func.sum(c.count)).where(*where).group_by(*by)):
        numbers = dict(zip(of_denials, row[1:-1], strict=True))
        if row[-1]:
            yield (row[0], *(numbers.get(key, 0) for key in keys)), row[-1]


def _add(into: dict[Key, list[int]], key: Key, more: list[int]) -> None:
    known = into.get(key)
    into[key] = more if known is None else [a + b for a, b in zip(known, more, strict=True)]
    if len(into) > MOST_GROUPS:
        raise BadQuery(
            "group_by", f"more than {MOST_GROUPS} groups: narrow the range with after and before, or group by less"
        )


def rows(
    connection: sa.Connection, found: Mapping[Key, list[int]], groups: tuple[str, ...], names: list[str | None]
) -> list[JsonDict]:
    """Rows with names. Numbers with one name are one group."""
    labels = Labels(connection)
    keys = [word for word in groups if word not in TIMES]
    for place, kind in enumerate(keys, 1):
        labels.read(kind, (key[place] for key in found))
    merged: dict[tuple[str | None, ...], list[int]] = {}
    times = _TIME_TEXT[next((word for word in groups if word in TIMES), "minute")]
    for key, sums in found.items():
        shown = dict(zip(keys, (labels.of(kind, n) for kind, n in zip(keys, key[1:], strict=True)), strict=True))
        text = tuple(times(key[0]) if word in TIMES else shown[word] for word in groups)
        known = merged.get(text)
        merged[text] = sums if known is None else [a + b for a, b in zip(known, sums, strict=True)]
    place_of_time = next((place for place, word in enumerate(groups) if word in TIMES), None)

    def order(text: tuple[str | None, ...]) -> tuple[tuple[bool, str], ...]:
        first = () if place_of_time is None else (text[place_of_time],)
        return tuple((part is not None, part or "") for part in (*first, *text))

    return [
        {
            "group": dict(zip(groups, text, strict=True)),
            **{name: value for name, value in zip(names, merged[text], strict=True) if name is not None},
        }
        for text in sorted(merged, key=order)
    ]


_TIME_TEXT: Final[Mapping[str, Callable[[int], str]]] = {
    "minute": lambda start: f"{datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H:%M:%SZ}",
    "hour": lambda start: f"{datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H:%M:%SZ}",
    "day": lambda start: f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d}",
    "month": lambda start: f"{datetime.fromtimestamp(start, UTC):%Y-%m}",
}


def bounds(wanted: Filters, low: int, high: int) -> JsonDict:
    """The range of the answer; null where the query has no bound."""
    return {
        "after": None if wanted.after is None else timestamp(low),
        "before": None if wanted.before is None else timestamp(high),
    }
