"""Deletes what the ledger need not keep any longer, in steps of a few milliseconds.

In: how long events, minutes, hours and days stay, and how large the file may grow. Out: one short transaction with each step, oldest
rows first, and free pages given back to the file system. Rollups are sums that were made when the events arrived: deleting events changes
no sum. The cursors of a life go behind its events, once no segment of it lies in the folder (`forgotten`). `meta` keeps the time before
which each of them may be gone. The newest event always stays, so no number returns.
An event from the future, which a wrong clock has dated, is as old as the others of its block; `meta` keeps its day, of which events are gone.
"""

import time
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from aigw.ledger.database import LedgerStore, get_meta, put_meta
from aigw.ledger.forgotten import forget
from aigw.ledger.source import Life
from aigw.ledger.tables import BLOCK, ROLLUPS, blocks, denials, events, meta, totals

NS: Final = 10**9
DAY: Final = 86400
_FUTURE: Final = "future/"
STEP: Final = 2000
"""Rows of one step, about 10 ms; a minute with more rows goes at once."""
LOOK_S: Final = 1.0
"""Seconds between two looks when the last one found nothing to delete."""
FREE_PAGES: Final = 2048
"""Free pages that stay in the file for the next events: 16 MiB."""
VACUUM_PAGES: Final = 256
"""Free pages given back in one step."""


class Retention(NamedTuple):
    """Seconds that each stays, None for ever; `max_bytes`: of the file, above which the oldest events go."""

    events_s: float | None = None
    minutes_s: float | None = None
    hours_s: float | None = None
    """Also of refusals."""
    days_s: float | None = None
    max_bytes: int | None = None


class Sweeper:
    """Deletes step by step. Belongs to the writer of the ledger."""

    def __init__(self, retention: Callable[[], Retention], now: Callable[[], float] = time.time) -> None:
        """`retention`: the setting in force; `now`: unix seconds."""
        self._retention = retention
        self._now = now
        self._next_look = 0.0

    def step(self, store: LedgerStore, lives: Collection[Life]) -> bool:
        """Delete one step's worth. `lives`: those with segments in the folder. Returns whether there may be more. Raises StoreError."""
        now = self._now()
        if now < self._next_look:
            return False
        keep = self._retention()
        busy = self._sweep_events(store, keep, now, lives) or self._sweep_rollups(store, keep, now) or _shrink(store)
        self._next_look = 0.0 if busy else now + LOOK_S
        return busy

    def _sweep_events(self, store: LedgerStore, keep: Retention, now: float, lives: Collection[Life]) -> bool:
        with store.reading() as connection:
            oldest = connection.execute(sa.select(blocks).order_by(blocks.c.block).limit(1)).one_or_none()
            newest = connection.scalar(sa.select(sa.func.max(events.c.n)))
            high = None if oldest is None else _high(connection, oldest, int(now * NS))
            is_old = high is not None and keep.events_s is not None and high < (now - keep.events_s) * NS
            is_large = keep.max_bytes is not None and _used_bytes(connection) > keep.max_bytes
            first = connection.scalar(sa.select(sa.func.min(events.c.n)))
        if oldest is None or high is None or newest is None or first is None or not (is_old or is_large):
            return False
        end = (oldest.block + 1) << BLOCK
        until = min(end, first + STEP, newest)
        if until <= first and end > newest:
            return False  # the newest event stays
        with store.writing() as connection:
            if high <= now * NS:
                _move(connection, "events_from", high + 1)
            if oldest.high > now * NS:
                _note_future(connection, until, int(now * NS))
            connection.execute(sa.delete(events).where(events.c.n < until))
            if until == end:
                connection.execute(sa.delete(blocks).where(blocks.c.block == oldest.block))
                used = sa.select(sa.func.min(events.c.cursor)).where(events.c.n >= until).scalar_subquery()
                forget(connection, connection.scalar(sa.select(used)) or 0, lives)
        return True

    def _sweep_rollups(self, store: LedgerStore, keep: Retention, now: float) -> bool:
        kept = dict(zip(ROLLUPS, (keep.minutes_s, keep.hours_s, keep.days_s), strict=True))
        found = [(f"from_{unit}", ROLLUPS[unit].c.start, unit, seconds) for unit, seconds in kept.items()]
        found.append(("from_60", totals.c.start, 60, keep.minutes_s))
        found.append(("from_denials", denials.c.minute, 60, keep.hours_s))
        for name, column, unit, seconds in found:
            if seconds is None:
                continue
            end = int(now - seconds) // unit * unit
            with store.reading() as connection:
                oldest = connection.scalar(sa.select(sa.func.min(column)))
                if oldest is None or oldest >= end:
                    continue
                later = connection.scalar(sa.select(column).order_by(column).offset(STEP).limit(1))
            until = min(end, max(oldest + unit, end if later is None else later))
            with store.writing() as connection:
                _move(connection, name, until)
                connection.execute(sa.delete(column.table).where(column < until))
            return True
        return False


def _high(connection: sa.Connection, block: sa.Row[Any], now: int) -> int:
    """The latest admission of a block that is not in the future. Where all events that are left in the block are in the future: its
    earliest admission of all, if that is not in the future, and else its latest."""
    if block.high <= now:
        return int(block.high)
    n, at = events.c.n, events.c.admitted_at
    past = connection.scalar(sa.select(sa.func.max(at)).where(n < (block.block + 1) << BLOCK, at <= now))
    return int(past or (block.low if block.low <= now else block.high))


def _note_future(connection: sa.Connection, until: int, now: int) -> None:
    """Keep the days of events from the future that go, those below a number."""
    at = events.c.admitted_at
    for ns in connection.scalars(sa.select(at).where(events.c.n < until, at > now)).all():
        put_meta(connection, f"{_FUTURE}{ns // NS // DAY}", "gone")


def _move(connection: sa.Connection, key: str, value: int) -> None:
    if value > int(get_meta(connection, key) or 0):
        put_meta(connection, key, str(value))


def _pragma(connection: sa.Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)


def _used_bytes(connection: sa.Connection) -> int:
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _shrink(store: LedgerStore) -> bool:
    with store.reading() as connection:
        free = _pragma(connection, "freelist_count") - FREE_PAGES
    if free <= 0:
        return False
    store.vacuum(min(free, VACUUM_PAGES))
    return True


def future_days(connection: sa.Connection) -> list[int]:
    """Days since 1970 of which events are gone because a wrong clock had dated them there."""
    query = sa.select(meta.c.key).where(meta.c.key.startswith(_FUTURE))
    return sorted(int(key.removeprefix(_FUTURE)) for key in connection.scalars(query))


def kept_since(connection: sa.Connection) -> dict[str, int]:
    """The time before which rows may be gone, unix seconds; events by key `events` in nanoseconds, rollups by their seconds."""
    names = {"events": "events_from", "denials": "from_denials", **{str(unit): f"from_{unit}" for unit in ROLLUPS}}
    return {name: int(get_meta(connection, key) or 0) for name, key in names.items()}
