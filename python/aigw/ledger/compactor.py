"""The thread that moves the workers' entries into the ledger, and keeps the ledger small.

In: a `Source` of segments. Out: events, rollups and refusals in `ledger.db`, in one transaction with the cursor of each segment, so a kill at
any instant loses nothing and counts nothing twice. A segment is removed after its records are committed. Between rounds the thread takes
over changed names, and deletes one step of events and sums that are older than their retention.
A damaged segment keeps its file: its records before the damage are stored, and the status names it until an operator moves it away. A loss is
told until the operator has accepted it (`losses`).
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa

from aigw.errors import AigwError, explain
from aigw.ledger.batch import MOST, Batch, Cursor
from aigw.ledger.database import LedgerStore
from aigw.ledger.forgotten import is_forgotten
from aigw.ledger.losses import (
    DAMAGED,
    FILE,
    MISSING,
    Loss,
    OlderCopy,
    accept,
    is_accepted,
    lacking,
    note_older,
    read_losses,
    read_older,
)
from aigw.ledger.names import Names
from aigw.ledger.prices import KnownPrices
from aigw.ledger.retention import Sweeper
from aigw.ledger.source import Key, Life, SegmentInfo, Source, SourceStatus, older_copy, segment_name
from aigw.ledger.tables import cursors, events
from aigw.ledger.unpriced import Unpriced
from aigw.telemetry.families import Family, own
from aigw.telemetry.faults import Faults

EVERY_S: Final = 0.3
"""Seconds between two rounds without a backlog: events are readable within 1 s."""
NICE: Final = 5
"""The thread's niceness: on a core that workers fill it gets a quarter of the time (sched(7))."""
AGAIN_S: Final = 1.0
"""Seconds until the next try after a fault."""
MOST_COMMITS: Final = 16
"""Transactions of one round: with a backlog, finished segments go and the status is true every second or two."""
HEIGHT_S: Final = 10.0
"""Seconds between two writes of the number of events beside the ledger."""
MOST_TEXT: Final = 500
"""Characters about the damage of one segment."""


class Log(Protocol):
    """Writes one line of the process log."""

    def __call__(self, event: str, /, **facts: object) -> None: ...


class LedgerStatus(NamedTuple):
    """The state of the ledger."""

    entries: int
    """Events stored since the ledger began, deleted ones included."""
    lag_seconds: float
    """Seconds since the last round that found everything stored: no readable entry outside the ledger is older."""
    unsynced_entries: int
    segments: int
    error: str | None
    """The worst fault of now, with its repair; None while all is well."""


class Compactor:
    """`start` begins the thread; `close` stores the rest and ends it. Tests call `round` themselves."""

    def __init__(
        self,
        store: LedgerStore,
        source: Source,
        names: Names,
        sweeper: Sweeper,
        faults: Faults,
        log: Log = lambda event, /, **facts: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._source = source
        self._names = names
        self._sweeper = sweeper
        self._faults = faults
        self._log = log
        self._prices, self._unpriced = KnownPrices(), Unpriced()
        self._clock = clock
        self._cursors: dict[Key, Cursor] = {}
        self._next_event = self._next_cursor = 1
        self._is_loaded = self._is_behind = False
        self._caught_up = clock()
        self._failed: str | None = None
        self._damaged: dict[Key, str] = {}
        self._unreadable: dict[Key, str] = {}
        self._missing: list[Key] = []
        self._losses: dict[Key, Loss] = {}
        self._older: list[OlderCopy] = []
        self._height: int | None = None
        """The number that the file beside the ledger has; None before it was compared."""
        self._earlier: set[Life] | None = None
        self._restored = 0
        """Events that the ledger had at the start, and those stored since from lives that were over then."""
        self._height_due = 0.0
        self._lives: set[Life] = set()
        """Those with segments in the folder."""
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aigw-ledger", daemon=True)

    def start(self) -> None:
        """Begin the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after its round, and store the readable rest."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            with self._faults.outlived("ledger", "store the last entries"):
                self.round()
                self._note_height()

    def _run(self) -> None:
        # Calls come first: on a busy core each slice of this thread would make their threads wait.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._stop.wait(0 if self._is_behind else EVERY_S):
            done, failed = False, self._failed
            with self._faults.outlived("ledger", "compact the ledger"):
                try:
                    self.round()
                    self._tidy()
                    done = True
                except (AigwError, OSError) as error:  # a full disk stays full for a while: one line is enough
                    if explain(error) != failed:
                        self._log("ledger_failed", error=explain(error))
            if not done:
                self._stop.wait(AGAIN_S)

    def round(self) -> int:
        """Store the readable records and remove finished segments. Returns the number of entries stored; `is_behind` says whether more
        are readable. Any thread may call it. Raises StoreError, OSError."""
        with self._writing:
            return self._round()

    def _round(self) -> int:
        began = self._clock()
        try:
            if not self._is_loaded:
                self._load()
            # By number first: the segments of all workers in turns.
            infos = sorted((SegmentInfo(*info) for info in self._source.segments()), key=lambda i: (i.number, i))
            if self._earlier is None:
                self._earlier = {info[:2] for info in infos if not info.live}
            stored = self._compact(infos)
            missing = sorted(set(self._gaps({info[:3] for info in infos})))
            missing = [key for key in missing if not is_accepted(self._losses, key, MISSING)]
            self._remove(infos, set(missing))
            if self._height is None and not self._is_behind:
                self._compare_height()
        except BaseException as error:
            self._failed, self._is_loaded, self._is_behind = explain(error), False, False
            raise
        self._note(infos, missing)
        self._failed = None
        if not self._is_behind and not self._unreadable:
            self._caught_up = began
        return stored

    @property
    def is_behind(self) -> bool:
        """Whether the last round left readable records to the next one."""
        return self._is_behind

    def _load(self) -> None:
        """Read the next numbers, at start and after a fault: the commit that failed may have been stored."""
        with self._store.reading() as connection:
            self._names.load(connection)
            self._losses, self._older = read_losses(connection), read_older(connection)
            rows = connection.execute(sa.select(cursors).where(cursors.c.done == 0))
            self._cursors = {(r.life, r.slot, r.segment): _cursor(r) for r in rows}
            self._next_cursor = int(connection.scalar(sa.select(sa.func.max(cursors.c.n))) or 0) + 1
            self._next_event = int(connection.scalar(sa.select(sa.func.max(events.c.n))) or 0) + 1
        if self._height is None:
            self._restored = self._next_event - 1
        self._is_loaded = True

    def _cursor(self, key: Key) -> Cursor | None:
        """The place in a segment. Segments that are gone leave the memory, and a file that returns is looked up."""
        if key not in self._cursors:
            c = cursors.c
            query = sa.select(cursors).where(c.life == key[0], c.slot == key[1], c.segment == key[2])
            with self._store.reading() as connection:
                row = connection.execute(query).one_or_none()
                if row is None and not is_forgotten(connection, key):
                    return None
            self._cursors[key] = Cursor(0, done=True) if row is None else _cursor(row)
        return self._cursors[key]

    def _compact(self, infos: Iterable[SegmentInfo]) -> int:
        batch, stored, commits = Batch(), 0, 0
        self._is_behind, unreadable = False, dict[Key, str]()
        for info in infos:
            if commits >= MOST_COMMITS:
                self._is_behind = True
                break
            key: Key = info[:3]
            known = self._cursor(key)
            if known is not None and known.done:
                continue
            cursor = replace(known) if known else Cursor(self._next_cursor + len(batch.cursors))
            while True:
                before = replace(cursor)
                try:
                    self._read(info, cursor, batch)
                except OSError as error:
                    unreadable[key] = explain(error)
                    break
                if cursor != before:
                    batch.cursors[key] = cursor
                if batch.size >= MOST:
                    stored += self._commit(batch)
                    batch, cursor, commits = Batch(), replace(cursor), commits + 1
                if cursor.done or cursor.next == before.next:
                    break
        for key in sorted(unreadable.keys() - self._unreadable.keys()):
            self._log("ledger_segment_unreadable", segment=segment_name(key), error=unreadable[key])
        self._unreadable = unreadable
        return stored + self._commit(batch)

    def _read(self, info: SegmentInfo, cursor: Cursor, batch: Batch) -> None:
        """Read the next records of a segment. A fault of the disk in its middle loses records, and the ones after it are read."""
        start = cursor.next
        if (older := older_copy(info, start)) is not None:
            cursor.damage, cursor.done = older, True
            return
        entries, denials, doubts, cursor.next, damage = self._source.read(*info[:3], start, MOST - batch.size)
        batch.add(cursor, entries, denials, doubts)
        if damage is not None and damage not in (cursor.damage or ""):
            cursor.damage = damage if cursor.damage is None else f"{cursor.damage}; {damage}"[:MOST_TEXT]
        ends_early = damage is not None and cursor.next == start
        cursor.done = info.end is not None and (cursor.next >= info.end or ends_early)

    def _commit(self, batch: Batch) -> int:
        if not batch.cursors:
            return 0
        with self._store.writing() as connection:
            after = batch.store(connection, self._next_event, self._names, self._prices)
        if self._height is None and self._earlier is not None:
            self._restored += batch.count_of(self._earlier)
        self._unpriced.add(batch)
        self._next_event = after
        self._cursors.update(batch.cursors)
        self._next_cursor = max(self._next_cursor, *(cursor.n + 1 for cursor in batch.cursors.values()))
        return batch.count

    def _remove(self, infos: Iterable[SegmentInfo], missing: set[Key]) -> None:
        """Remove stored segments. One behind a missing one stays: it alone shows that one is missing."""
        for info in infos:
            cursor, before = self._cursors.get(info[:3]), (info.life, info.slot, info.number - 1)
            if cursor is not None and cursor.done and cursor.damage is None and before not in missing:
                self._source.remove(*info[:3])

    def _note(self, infos: list[SegmentInfo], missing: list[Key]) -> None:
        """Note damaged and missing segments, and log each once."""
        listed, self._lives = {info[:3] for info in infos}, {info[:2] for info in infos}
        found = {
            key: cursor.damage
            for key, cursor in self._cursors.items()
            if cursor.damage and key in listed and not (cursor.done and is_accepted(self._losses, key, DAMAGED))
        }
        for key in sorted(found.keys() - self._damaged.keys()):
            self._log("ledger_segment_damaged", segment=segment_name(key), damage=found[key])
        self._damaged = found
        for key in sorted(set(missing) - set(self._missing)):
            self._log("ledger_segment_missing", segment=segment_name(key))
        self._missing = missing
        needed = listed | {(life, slot, number - 1) for life, slot, number in listed}
        self._cursors = {key: cursor for key, cursor in self._cursors.items() if not cursor.done or key in needed}

    def _gaps(self, listed: set[Key]) -> Iterable[Key]:
        """Segments that must exist and do not: numbers are dense, and a stored segment is done."""
        for life, slot, number in listed:
            before = (life, slot, number - 1)
            if number and before not in listed and not self._is_done(before):
                yield before
        for key, cursor in self._cursors.items():
            if not cursor.done and key not in listed:
                yield key

    def _is_done(self, key: Key) -> bool:
        cursor = self._cursor(key)
        return cursor is not None and cursor.done

    def _tidy(self) -> None:
        """One step each of names and of deletion, an operator's word about losses, and the number of events."""
        with self._writing:
            if self._clock() >= self._height_due:
                self._note_height()
            try:
                if self._names.is_stale:
                    with self._store.writing() as connection:
                        self._names.refresh(connection)
                self._sweeper.step(self._store, self._lives)
                self._accept_losses()
            except BaseException:
                self._is_loaded = False  # names that were not stored are read again
                raise

    def _accept_losses(self) -> None:
        """Mark all losses of now as accepted, where the operator says so. The file goes first: it must not speak of later ones. It waits for
        the end of a backlog, which shows the others."""
        if self._height is None or self._is_behind:
            return
        try:
            (self._store.folder / FILE).unlink()
        except FileNotFoundError:
            return
        with self._store.writing() as connection:
            accepted = accept(connection, self._missing, time.time_ns())
            self._losses, self._older = read_losses(connection), read_older(connection)
        for file, loss in accepted:
            self._log("ledger_loss_accepted", file=file, loss=loss)

    def _compare_height(self) -> None:
        """Tell of a `ledger.db` that has fewer events than the ledger had, once the segments are stored. New events make nothing good."""
        had, has = self._store.height.read(), self._restored + lacking(self._older)
        if had > has:
            with self._store.writing() as connection:
                note_older(connection, had, has)
                self._older = read_older(connection)
            self._log("ledger_older_copy", entries=has, entries_before=had)
        self._height = had
        self._note_height()

    def _note_height(self) -> None:
        self._height_due = self._clock() + HEIGHT_S
        now = self._next_event - 1 + lacking(self._older)
        if self._height is not None and self._height != now:
            self._height = now
            self._store.height.write(now)

    def status(self) -> LedgerStatus:
        """The state for `GET /status`. Raises nothing."""
        try:
            source = SourceStatus(*self._source.status())
        except OSError as fault:
            source = SourceStatus(0, 0, explain(fault))
        lag = max(0.0, self._clock() - self._caught_up)
        error = self._failed or source.error or self._trouble()
        return LedgerStatus(self._next_event - 1, round(lag, 3), source.unsynced, source.segments, error)

    def _trouble(self) -> str | None:
        if self._unreadable:
            key, text = min(self._unreadable.items())
            return f"{len(self._unreadable)} segment(s) cannot be read, the others are stored ({segment_name(key)}: {text})"
        if self._missing:
            names = ", ".join(map(segment_name, self._missing[:3]))
            return (
                f"{len(self._missing)} segment(s) are missing ({names}): entries in them are not in the ledger. Restore them from a"
                f" backup into the folder ledger/; everything else is stored. Where they are lost for good, say so: {self._word}"
            )
        if older := [copy for copy in self._older if not copy.accepted_at]:
            return (
                f"ledger.db was restored from a backup: {older[-1].message}. Stop the gateway and restore the newest copy, soon: it lacks the"
                f" calls that were stored since then. Where there is none, accept the loss: {self._word}"
            )
        if self._damaged:
            key, text = next(iter(sorted(self._damaged.items())))
            return (
                f"{len(self._damaged)} segment(s) are damaged ({segment_name(key)}: {text}): the entries before the damage are in the"
                f" ledger. Move the file out of the folder ledger/ after you have looked at it, and accept the loss: {self._word}"
            )
        return None

    @property
    def _word(self) -> str:
        return f"touch {self._store.folder / FILE} (aigw audit names accepted losses)"

    def families(self) -> list[Family]:
        """Metrics of the ledger."""
        now = self.status()
        return own(
            {
                "aigw_ledger_entries_total": [({}, now.entries)],
                "aigw_ledger_lag_seconds": [({}, now.lag_seconds)],
                "aigw_ledger_unsynced_entries": [({}, now.unsynced_entries)],
                "aigw_ledger_segments": [({}, now.segments)],
                "aigw_ledger_damaged_segments": [({}, len(self._damaged) + len(self._missing) + len(self._unreadable))],
                "aigw_unpriced_total": self._unpriced.samples(self._store),
                "aigw_ledger_error": [({}, now.error is not None)],
            }
        )


def _cursor(row: Any) -> Cursor:
    """The cursor of a row of `cursors`."""
    return Cursor(row.n, row.next, bool(row.done), row.damage, row.entries, row.first)
