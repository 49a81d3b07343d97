"""Watches the configuration file and the files that it references, and loads it after a complete change.

In: paths, polled twenty times per second; `hangup` for an immediate load. Out: calls of `Configuration.load`, from one thread.
`stat` in place of inotify also notices renames, symlink swaps, mounts, network disks and recreated folders, and has no instance
limit. The loader decides by content whether anything changed.

An incomplete file may be valid YAML, and loading it would delete most entities. So the watch waits until no process has the file
open for writing (if the kernel can tell) and the file has been quiet long enough (decision 007).
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from aigw.config import InTheMaking, being_written
from aigw.errors import ConfigError, StoreError
from aigw.telemetry.faults import Faults

LOOK_S: Final = 0.05
SHARE: Final = 20
"""With very many files, polling takes at most 1/SHARE of the time."""
QUIET_S: Final = 0.2
"""Seconds of quiet for a file that has no writer (by the kernel) and did not shrink."""
CAREFUL_S: Final = 0.6
"""Seconds of quiet for a file that shrank, has errors, or whose writers the kernel cannot report."""
PAUSES: Final = 2
"""A file written in pieces must be quiet for this many times the longest pause between pieces."""
LONG_S: Final = 3.0
"""If the kernel cannot report writers, a file must be quiet for as long as it kept changing, up to these seconds."""
WAITS_S: Final = 5.0
"""Seconds after which the status reports that the file is still being written."""
AGAIN_S: Final = 5.0
"""Seconds until the next try after the store could not be written."""

Seen = tuple[tuple[int, ...] | None, ...]
_SIZE: Final = 2


class Loads(Protocol):
    """The members of `Configuration` that the watch uses."""

    @property
    def watched(self) -> tuple[Path, ...]: ...
    def load(
        self, trigger: str, data: bytes | None = None, *, patient: bool = False, whole: Callable[[], bool] | None = None
    ) -> object: ...
    def waits(self, seconds: float) -> None: ...


class Settling:
    """Decides, without I/O, when to read the files. `due`: read now; `last`: errors of this read are final."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.reported = False
        """Whether the long wait was reported."""
        self._held = seen  # state of the files in force
        self._exact = False
        self._tried: Seen | None = None
        self._began: float | None = None
        self._since = self._moved = self._pause = 0.0

    @property
    def moving(self) -> bool:
        """Whether there is a change that was not read yet."""
        return self._began is not None

    def look(self, now: float, seen: Seen) -> None:
        """Record the state seen at `now`."""
        if seen == self.seen:
            return
        if self._began is None:
            self._begin(now)
        elif _others(self.seen, seen):
            self._since, self._pause = now, 0.0  # the pauses belong to another file
        else:
            self._pause = max(self._pause, now - self._moved)
        self.seen, self._moved = seen, now

    def ask(self, now: float, written: bool | None) -> None:
        """Record the kernel's answer: whether a process has one of the files open for writing. That counts as a change."""
        self._exact = written is not None
        if written:
            if self._began is None:
                self._begin(now)
            self._moved = now

    def due(self, now: float) -> bool:
        """Whether to read now. A state that had errors is read again only after a change or when errors become final."""
        if self._began is None:
            return False
        return self.last(now) or (self._tried != self.seen and now - self._moved >= self._enough())

    def last(self, now: float) -> bool:
        """Whether errors are final now."""
        return self._began is not None and now - self._moved >= max(CAREFUL_S, self._enough())

    def late(self, now: float) -> bool:
        """Whether to report the long wait now."""
        return self._began is not None and not self.reported and now - self._began >= WAITS_S

    def tried(self) -> None:
        """The state was read and has errors."""
        self._tried = self.seen

    def done(self, *, applied: bool) -> None:
        """The state was read. `applied`: it is in force."""
        self._began = self._tried = None
        self.reported = False
        if applied:
            self._held = self.seen

    def changed(self, paths: Sequence[Path]) -> Sequence[Path]:
        """The files that differ from the state in force."""
        if not len(paths) == len(self._held) == len(self.seen):
            return paths
        return [path for path, old, new in zip(paths, self._held, self.seen, strict=True) if old != new]

    def _begin(self, now: float) -> None:
        self._began = self._since = now
        self._pause = 0.0

    def _enough(self) -> float:
        """Seconds of quiet that the files need."""
        if self._exact:
            return max(CAREFUL_S if _smaller(self._held, self.seen) else QUIET_S, PAUSES * self._pause)
        return max(CAREFUL_S, PAUSES * self._pause, min(self._moved - self._since, LONG_S))


class Watch:
    """A running watch. Call `start` after the configuration's start; `stop` ends it."""

    def __init__(self, configuration: Loads, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._configuration = configuration
        self._faults = faults
        self._clock = clock
        # The file may have changed between the start's read and the first look, so the first look always reads.
        self._settling = Settling(())
        self._wake = threading.Event()
        self._hangup = False
        self._stop = False
        self._again: float | None = None
        self._thread = threading.Thread(target=self._run, name="aigw-watch", daemon=True)

    def start(self) -> None:
        """Start polling. The first look finds changes since the start's read."""
        self._thread.start()

    def hangup(self) -> None:
        """Read the file now, changed or not."""
        self._hangup = True
        self._wake.set()

    def stop(self) -> None:
        """End the watch, after a load in progress."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        pause = LOOK_S
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop:
                return
            with self._faults.outlived("watch", "look at the configuration file"):
                pause = self._look()

    def _look(self) -> float:
        """Look once, and load if due. Returns the seconds until the next look."""
        settling, began = self._settling, self._clock()
        paths = self._configuration.watched
        settling.look(began, looks(paths))
        pause = max(LOOK_S, SHARE * (self._clock() - began))
        hangup, written = self._hangup, None
        if hangup or settling.moving:
            written = being_written(paths if hangup else settling.changed(paths))
            settling.ask(began, written)
        if hangup and not written:
            self._hangup = False
            self._load("sighup", paths, final=True)
        elif settling.due(began):
            self._load("file", paths, final=settling.last(began))
        elif settling.late(began):
            settling.reported = True
            self._configuration.waits(WAITS_S)
        elif self._again is not None and began >= self._again:
            self._load("file", paths, final=True)
        return pause

    def _load(self, trigger: str, paths: tuple[Path, ...], *, final: bool) -> None:
        settling, applied = self._settling, False
        self._again = None

        def whole() -> bool:
            return looks(paths) == settling.seen and not being_written(settling.changed(paths))

        try:
            self._configuration.load(trigger, patient=not final, whole=whole)
            applied = True
        except InTheMaking:
            settling.ask(self._clock(), True)
            self._hangup |= trigger == "sighup"
            return
        except ConfigError:
            if not final:
                settling.tried()
                return
        except StoreError:
            self._again = self._clock() + AGAIN_S
        except BaseException:
            settling.done(applied=False)  # otherwise every look would read again
            raise
        settling.done(applied=applied)


def looks(paths: Iterable[Path]) -> Seen:
    """The identity of each file: device, inode, size, times, mode; None for an unreadable file."""
    return tuple(map(_look, paths))


def _look(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (follows symlinks: the target counts)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)


def _others(old: Seen, new: Seen) -> bool:
    """Whether one of the files has another inode now."""
    return any(a is not None and b is not None and a[:2] != b[:2] for a, b in zip(old, new, strict=False))


def _smaller(old: Seen, new: Seen) -> bool:
    """Whether one of the files disappeared or shrank."""
    return any(a is not None and (b is None or b[_SIZE] < a[_SIZE]) for a, b in zip(old, new, strict=False))
