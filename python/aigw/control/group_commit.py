"""Group commit: the one thread that writes. In: operations (functions of a `WriteSession`). Out: their results, as futures.

Operations that arrive during a write become the next group: one transaction, one fsync and one publication for all. A
future gets its result after the generation word is stored, so a client that has its answer sees the change in force.
Between groups the thread repeats failed publications, deletes expired credentials and installs new bases.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from sqlalchemy.exc import OperationalError

from aigw._native import give_back_memory
from aigw.control.publish.publication import Base, Publication
from aigw.control.store.database import Store
from aigw.control.store.write import WriteSession
from aigw.errors import AigwError, Bug, NotInForce, StoreError, Unservable, explain
from aigw.telemetry.faults import Faults

log = logging.getLogger("aigw.control")

T = TypeVar("T")
Operation = Callable[[WriteSession], T]

MOST_IN_GROUP: Final = 256
RETRY_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 30.0
LOGGED_CHANGES: Final = 32
"""Changes after which the writer copies the log's pages into the store: about 200 pages with a million keys. SQLite would copy 1000
pages inside a commit, while a client waits."""


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    operation: Operation[T]
    future: "Future[T]"
    alone: bool = False


class _Undone(Exception):
    """The only operation of a group failed, so its transaction is rolled back."""


class GroupCommit:
    """Writes the store and the publication. `start` puts the stored state in force; `close` ends the thread."""

    def __init__(
        self, store: Store, publication: Publication, faults: Faults, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._publication = publication
        self._faults = faults
        self._now = now
        self._jobs: queue.SimpleQueue[_Job[Any] | Base | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="aigw-writer")
        self._reader: threading.Thread | None = None
        self._logged = 0
        self._closed = False
        self._closing = threading.Lock()
        self._stale = False

    def start(self) -> None:
        """Publish the stored state, then accept writes. Raises StoreError."""
        publication = self._publication
        self._store.checkpoint(truncate=True)  # a killed gateway may leave a large log
        with self._store.writing() as session:
            publication.load(session)
            publication.start_base()
            numbers = publication.numbers.copy()
            base = publication.read_base(session, publication.world, numbers, int(self._now()), may_number=True)
        self._install(base)
        self._thread.start()

    def submit(self, operation: Operation[T], *, alone: bool = False) -> "Future[T]":
        """Run `operation` in the next group, or `alone` in its own group: a large one is faster without a savepoint. The future
        raises the operation's exception, or StoreError. A future that is cancelled before its group begins does not run."""
        future: Future[T] = Future()
        with self._closing:
            if not self._closed:
                self._jobs.put(_Job(operation, future, alone))
                return future
        future.set_exception(StoreError("the control process is stopping; nothing was changed"))
        return future

    @property
    def waiting(self) -> int:
        """The number of operations that wait for the next group."""
        return self._jobs.qsize()

    def renew(self) -> "Future[None]":
        """Write all published files again, as a new generation: a worker could not load one of them."""
        return self.submit(lambda _: self._publication.renew(), alone=True)

    def close(self) -> None:
        """Finish the submitted operations and end the thread."""
        with self._closing:
            self._closed = True
            self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()
        if self._reader is not None:
            self._reader.join()

    def _run(self) -> None:
        while not self._turn():
            with self._faults.outlived("writer", "begin a new base"):
                self._start_reading()

    def _turn(self) -> bool:
        """Wait for a group and write it; True after the last one. Its operations, which may hold a large file, end with this call."""
        wait = RETRY_SECONDS if self._publication.is_pending else IDLE_SECONDS
        try:
            job = self._jobs.get(timeout=wait)
        except queue.Empty:
            with self._faults.outlived("writer", "publish"):
                self.catch_up(int(self._now()))
            return False
        group: list[_Job[Any]] = []
        last = self._collect(job, group)
        if group:
            self._write(group)
        return last

    def _collect(self, item: "_Job[Any] | Base | None", group: list[_Job[Any]]) -> bool:
        while True:
            if item is None:
                return True
            if isinstance(item, Base):
                with self._faults.outlived("writer", "install a new base"):
                    self._install(item)
            elif not item.future.set_running_or_notify_cancel():
                pass  # cancelled: no caller waits for it
            elif item.alone:
                if group:  # in the order of arrival
                    self._write(group)
                    group.clear()
                self._write([item])
            else:
                group.append(item)
            if len(group) >= MOST_IN_GROUP:
                return False
            try:
                item = self._jobs.get_nowait()
            except queue.Empty:
                return False

    def _write(self, group: list[_Job[Any]]) -> None:
        with self._faults.outlived("writer", "write a group of changes"):
            self._write_group(group)
        for job in group:
            if not job.future.done():
                self._stale = True
                job.future.set_exception(
                    Bug("an internal fault of the gateway; its log has the details of this change")
                )

    def _write_group(self, group: list[_Job[Any]]) -> None:
        done: list[tuple[_Job[Any], Any]] = []
        large = False
        try:
            self._reload_if_stale()
            with self._store.writing() as session:
                for job in group:
                    try:
                        with nullcontext() if job.alone else session.attempt():
                            done.append((job, job.operation(session)))
                    except OperationalError:
                        raise  # the store is locked, or its disk full: for every caller, without another wait
                    except Exception as error:
                        job.future.set_exception(error)  # every exception goes to this caller only
                        if job.alone:
                            raise _Undone from error
                with self._publication.group(session.changes):
                    session.keep_numbers(*self._publication.prepare(session, int(self._now())))
                    session.commit()
                large = session.is_bulk
                self._logged += len(session.changes)
        except _Undone:
            return  # the publication has not seen its changes
        except (Unservable, OSError) as error:
            self._stale = True
            left = [job for job in group if not job.future.done()]
            if len(left) == 1:
                left[0].future.set_exception(error if isinstance(error, Unservable) else _no_room(error))
            for job in left if len(left) > 1 else ():
                self._write_group([job])  # each operation by itself gets its own error
            return
        except Exception as error:
            self._stale = True  # memory has changes that are not stored
            fault = error if isinstance(error, AigwError) else Bug(f"nothing was changed: {error!r}")
            if isinstance(fault, Bug):
                log.exception("a group of writes failed")
            for job in group:
                if not job.future.done():
                    job.future.set_exception(fault)
            return
        try:
            self._publication.send(self._now())
        except (OSError, ValueError) as error:
            fault = NotInForce(
                f"stored, but not in force yet: {explain(error)}; the gateway tries again every second, and with the next write"
            )
            for job, _ in done:
                job.future.set_exception(fault)
            return
        for job, result in done:
            job.future.set_result(result)
        if large or self._logged >= LOGGED_CHANGES:
            with self._faults.outlived("writer", "checkpoint the store's log"):
                self._store.checkpoint(truncate=large)
            self._logged = 0
        if large:
            give_back_memory()

    def catch_up(self, now: int) -> None:
        """Repeat a failed publication, and delete credentials that expired before `now` (unix seconds). The writer thread calls it
        when it has waited long enough; another thread may while no operation runs. Raises AigwError, OSError, ValueError."""
        self._reload_if_stale()
        try:
            with self._store.writing() as session:
                session.purge(now)
                with self._publication.group(session.changes):
                    session.keep_numbers(*self._publication.prepare(session, now))
                    session.commit()
        except BaseException:
            self._stale = True
            raise
        self._publication.send(self._now())

    def _reload_if_stale(self) -> None:
        if self._stale:
            with self._store.reading() as reader:
                self._publication.load(reader)
            self._stale = False

    def _install(self, base: Base) -> None:
        try:
            with self._store.writing() as session:
                session.keep_numbers(*self._publication.install_base(base, session, int(self._now())))
        finally:
            self._publication.drop_base()
        self._publication.send(self._now())
        give_back_memory()

    def _start_reading(self) -> None:
        if self._closed or not self._publication.wants_base:
            return
        self._publication.start_base()
        world, numbers = replace(self._publication.world), self._publication.numbers.copy()

        def read() -> None:
            base: Base | None = None
            with self._faults.outlived("base", "read a new base"):
                try:
                    with self._store.reading() as reader:
                        base = self._publication.read_base(reader, world, numbers, int(self._now()))
                except (AigwError, KeyError) as error:
                    log.warning("a new base could not be read: %s; tried again later", error)
            if base is None:
                self._publication.drop_base()
            else:
                self._jobs.put(base)

        reader = threading.Thread(target=read, name="aigw-base")
        try:
            reader.start()
        except RuntimeError:  # the system allows no more threads
            self._publication.drop_base()
            raise
        self._reader = reader


def _no_room(error: OSError) -> StoreError:
    """The error of a change whose files or counters have no room on the disk."""
    return StoreError(f"the change could not be written, and nothing of this was changed: {explain(error)}")
