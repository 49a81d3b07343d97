"""Events for programs that bill: pages in the order of arrival, and the events of one request.

In: filters, an offset, a size. Out: JSON objects, oldest first, and the offset after them. An event's number grows with its commit, so a
program that keeps the last offset gets each event once and misses none, also while events arrive. A page reads at most `SCANNED` events:
where few match, it may hold less than its size, even nothing, with an offset that goes on.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from aigw._native import service_tiers
from aigw.ledger.labels import Labels, numbers_of
from aigw.ledger.names import ENTITIES, VERSION
from aigw.ledger.offset import Page
from aigw.ledger.query import Filters
from aigw.ledger.source import COSTED, COUNTED, OUTCOMES, OVERRUN, SOURCES, STREAM
from aigw.ledger.tables import BLOCK, BUCKET, blocks, cursors, events
from aigw.types import JsonDict

SERVICE_TIERS: Final = {number: name for name, number in service_tiers()}
"""Numbers of service tiers -> their names."""
SCANNED: Final = 500_000
"""Events that one page looks at: about 0.2 s."""

_JOINED: Final = sa.select(events, cursors.c.life, cursors.c.slot, cursors.c.segment).join_from(
    events, cursors, cursors.c.n == events.c.cursor
)


def newest(connection: sa.Connection) -> int:
    """The number of the newest event; 0: there was none yet."""
    return int(connection.scalar(sa.select(sa.func.max(events.c.n))) or 0)


def identity(connection: sa.Connection, n: int) -> tuple[Any, ...] | None:
    """Values of this event alone: the place of event `n` in its segment, and its request; None for a deleted one."""
    found = connection.execute(_JOINED.where(events.c.n == n)).one_or_none()
    return None if found is None else (found.life, found.slot, found.segment, found.sequence, found.request_id)


def page(connection: sa.Connection, wanted: Filters, after: int, size: int) -> Page:
    """Up to `size` events after number `after`."""
    last_stored = newest(connection)
    conditions = _conditions(connection, wanted)
    rows: list[Any] = []
    last, left = after, SCANNED
    for low, high in _spans(connection, wanted, after, last_stored) if conditions is not None else ():
        while low < high and left > 0:
            until = min(high, low + left)
            query = _JOINED.where(events.c.n > low, events.c.n <= until, *(conditions or ()))
            found = connection.execute(query.order_by(events.c.n).limit(size + 1 - len(rows))).all()
            rows += found
            if len(rows) > size:
                return Page(shown(connection, rows[:size]), rows[size - 1].n, True)
            left -= until - low
            low = last = until
        if left <= 0:
            return Page(shown(connection, rows), last, last < last_stored)
    return Page(shown(connection, rows), max(after, last_stored), False)


def of_request(connection: sa.Connection, request_id: str) -> JsonDict | None:
    """The event of the last attempt of a request, with all `attempts` where there are several; None for an unknown request."""
    try:
        key = bytes.fromhex(request_id)
    except ValueError:
        return None
    # In one statement, SQLite would look at every event.
    low, high = (connection.scalar(sa.select(of(events.c.n))) for of in (sa.func.min, sa.func.max))
    if len(key) != 16 or low is None or high is None:
        return None
    # The index is in parts of 65,536 events, each searched by itself, by the end of the id: ids of one worker begin alike.
    sql = (
        f"WITH RECURSIVE part(x) AS (SELECT {low >> BUCKET} UNION ALL SELECT x + 1 FROM part WHERE x < {high >> BUCKET})"  # noqa: S608
        f" SELECT events.n FROM part CROSS JOIN events ON (events.n >> {BUCKET}) = x"
        " AND substr(events.request_id, 11) = substr(?, 11) AND events.request_id = ?"
    )
    found = [n for (n,) in connection.exec_driver_sql(sql, (key, key))]
    rows = connection.execute(_JOINED.where(events.c.n.in_(found)).order_by(events.c.attempt, events.c.n)).all()
    attempts = shown(connection, rows)
    if not attempts:
        return None
    return {**attempts[-1], "attempts": attempts} if len(attempts) > 1 else attempts[0]


def shown(connection: sa.Connection, rows: Sequence[Any]) -> list[JsonDict]:
    """Events as people and programs read them."""
    labels = Labels(connection)
    for kind in ENTITIES:
        labels.read(kind, (getattr(row, kind) for row in rows))
    for of in ("price_version", "cost_version"):
        labels.read(VERSION, (getattr(row, of) for row in rows))
    return [_shown(row, labels) for row in rows]


def _shown(row: Any, labels: Labels) -> JsonDict:
    return {
        "id": f"{row.life:016x}-{row.slot:02}-{row.segment:08}-{row.sequence:04}",
        "time": timestamp(row.admitted_at + row.duration),
        "admitted_at": timestamp(row.admitted_at),
        "request_id": row.request_id.hex(),
        "attempt": row.attempt,
        **{name: labels.of(name, getattr(row, name)) for name in ("consumer", "credential", "tier", "route", "model")},
        "upstream": labels.of("upstream", row.upstream) or labels.of("service", row.service),
        "agent": labels.of("agent", row.agent),
        "run_id": row.run.hex() if row.run else None,
        "parent_request_id": row.parent.hex() if row.parent else None,
        "depth": row.depth,
        "status": row.status,
        "outcome": _word(OUTCOMES, row.outcome),
        "usage_source": _word(SOURCES, row.source),
        "overrun": bool(row.flags & OVERRUN),
        "input_tokens": row.input,
        "cached_input_tokens": row.cached_input,
        "cache_write_input_tokens": row.cache_write,
        "output_tokens": row.output,
        "reasoning_tokens": row.reasoning,
        "cost_nanodollars": row.cost if row.flags & COSTED else None,
        "price_nanodollars": row.price,
        "cost_version": labels.of(VERSION, row.cost_version),
        "price_version": labels.of(VERSION, row.price_version),
        "stream": bool(row.flags & STREAM),
        "latency_ms": row.latency_us / 1000,
        "first_byte_ms": row.first_byte_us / 1000,
        "queued_ms": row.queued_us / 1000,
        "counted": bool(row.flags & COUNTED),
        "image_input_tokens": row.image_input,
        "audio_input_tokens": row.audio_input,
        "image_output_tokens": row.image_output,
        "audio_output_tokens": row.audio_output,
        "service_tier": SERVICE_TIERS.get(row.service_tier),
    }


def timestamp(ns: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{ns % 10**9 // 1000:06}Z"


def _word(words: Sequence[str | None], number: int) -> str | None:
    return words[number] if number < len(words) else f"unknown {number}"


def _conditions(connection: sa.Connection, wanted: Filters) -> list[sa.ColumnElement[bool]] | None:
    """None: a filter names an entity without events."""
    found: list[sa.ColumnElement[bool]] = []
    for kind in ("consumer", "model", "tier"):
        text = getattr(wanted, kind)
        if text is not None:
            numbers = numbers_of(connection, kind, text)
            if not numbers:
                return None
            found.append(events.c[kind].in_(numbers))
    if wanted.after is not None:
        found.append(events.c.admitted_at >= wanted.after)
    if wanted.before is not None:
        found.append(events.c.admitted_at < wanted.before)
    return found


def _spans(connection: sa.Connection, wanted: Filters, after: int, newest: int) -> Iterator[tuple[int, int]]:
    """Ranges (low, high] of numbers that may match, in order; blocks with other times are left out."""
    if wanted.after is None and wanted.before is None:
        yield after, newest
        return
    query = sa.select(blocks.c.block).where(blocks.c.block >= (after + 1) >> BLOCK)
    if wanted.after is not None:
        query = query.where(blocks.c.high >= wanted.after)
    if wanted.before is not None:
        query = query.where(blocks.c.low < wanted.before)
    yield from _runs(list(connection.scalars(query.order_by(blocks.c.block))), after, newest)


def _runs(found: Iterable[int], after: int, newest: int) -> Iterator[tuple[int, int]]:
    begin = end = -1
    for block in found:
        if block != end:
            if end >= 0:
                yield max(after, (begin << BLOCK) - 1), min(newest, (end << BLOCK) - 1)
            begin = block
        end = block + 1
    if end >= 0:
        yield max(after, (begin << BLOCK) - 1), min(newest, (end << BLOCK) - 1)
