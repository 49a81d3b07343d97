"""Watches the configuration file and the files it refers to, and has it read again when one of them changed.

In: paths, looked at twenty times a second; `hangup` for at once. Out: calls of `Configuration.load`, from one thread. It looks
(`stat`) instead of being told (inotify): that also sees what is renamed over, swapped by a symlink, mounted, on a network, or
back after its folder was gone, and has no limit to run into. Whether anything changed is for the content to say, not for it.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from aigw.errors import AigwError, ConfigError, StoreError

LOOK_S: Final = 0.05
SHARE: Final = 20
"""Of very many files: at most one part in so many of the time is spent on looking."""
QUIET_S: Final = 0.2
"""A file that has not changed for so long is whole."""
LONGEST_S: Final = 0.4
"""A file that goes on changing is read all the same after so long."""
PATIENCE_S: Final = 0.6
"""How long a file with errors may be a file in the making."""
AGAIN_S: Final = 5.0
"""When a store that could not be written is tried again."""

log = logging.getLogger("aigw.serve")

Seen = tuple[tuple[int, ...] | None, ...]


class Loads(Protocol):
    """What of the configuration is used."""

    @property
    def watched(self) -> tuple[Path, ...]: ...
    def load(self, trigger: str, data: bytes | None = None, *, patient: bool = False) -> object: ...


class Settling:
    """Pure: when to read files whose looks are told. `due` is False, or True; `last` whether errors are final."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._began: float | None = None
        self._moved = 0.0
        self._tried: Seen | None = None

    def look(self, now: float, seen: Seen) -> None:
        """Take one look."""
        if seen != self._seen:
            self._seen, self._moved = seen, now
            self._began = now if self._began is None else self._began

    def due(self, now: float) -> bool:
        """Whether to read now: what was read in vain is not read again before it moves, or time is up."""
        if self._began is None:
            return False
        if self.last(now):
            return True
        return self._tried != self._seen and (now - self._moved >= QUIET_S or now - self._began >= LONGEST_S)

    def last(self, now: float) -> bool:
        """Whether errors are to be believed now."""
        return self._began is not None and now - self._began >= PATIENCE_S

    def tried(self) -> None:
        """It was read, and has errors."""
        self._tried = self._seen

    def done(self) -> None:
        """It was read."""
        self._began = self._tried = None


class Watch:
    """A running watch. `start` it once the configuration was started; `stop` ends it."""

    def __init__(self, configuration: Loads, clock: Callable[[], float] = time.monotonic) -> None:
        self._configuration = configuration
        self._clock = clock
        self._wake = threading.Event()
        self._hangup = False
        self._stop = False
        self._again: float | None = None
        self._thread = threading.Thread(target=self._run, name="aigw-watch", daemon=True)

    def start(self) -> None:
        """Begin to look: what changed since the configuration was read is seen by the first reading."""
        self._thread.start()

    def hangup(self) -> None:
        """Read the file now, whether it looks changed or not."""
        self._hangup = True
        self._wake.set()

    def stop(self) -> None:
        """End; a reading in progress is waited for."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        # Between the reading at start and this look the file may have changed: the first look always reads.
        settling, paths = Settling(()), self._configuration.watched
        pause = LOOK_S
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop:
                return
            began = self._clock()
            if paths != self._configuration.watched:
                paths = self._configuration.watched
            settling.look(began, looks(paths))
            pause = max(LOOK_S, SHARE * (self._clock() - began))
            if self._hangup:
                self._hangup = False
                self._load("sighup", settling, final=True)
            elif settling.due(began):
                self._load("file", settling, final=settling.last(began))
            elif self._again is not None and began >= self._again:
                self._load("file", settling, final=True)

    def _load(self, trigger: str, settling: Settling, *, final: bool) -> None:
        self._again = None
        try:
            self._configuration.load(trigger, patient=not final)
        except ConfigError:
            if not final:
                settling.tried()
                return
        except StoreError:
            self._again = self._clock() + AGAIN_S
        except AigwError:
            log.exception("the configuration file could not be read")
        except Exception:  # this thread must outlive every fault: without it no change is seen any more
            log.exception("the configuration file could not be read")
        settling.done()


def looks(paths: Iterable[Path]) -> Seen:
    """What tells whether a file is the one that was seen: which it is, its size and times."""
    return tuple(map(_look, paths))


def _look(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (through symlinks: what they lead to counts)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)
