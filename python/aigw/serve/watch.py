"""Watches the configuration file and the files it refers to, and has it read again when one of them changed, and is whole.

In: paths, looked at twenty times a second; `hangup` for at once. Out: calls of `Configuration.load`, from one thread. It looks
(`stat`) instead of being told (inotify): that also sees what is renamed over, swapped by a symlink, mounted, on a network, or
back after its folder was gone, and has no limit to run into. Whether anything changed is for the content to say, not for it.

A file that is cut off may be valid, and would take away most of what is in force. So it is believed only when nobody has it
open for writing, if the kernel can say so, and when it has been quiet for as long as what was seen of it asks for.
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
"""Of very many files: at most one part in so many of the time is spent on looking."""
QUIET_S: Final = 0.2
"""A file that nobody writes, the kernel says, and that lost nothing, is whole when it has been quiet for so long."""
CAREFUL_S: Final = 0.6
"""The same for one that became smaller, of which nobody can say who writes it, or that has errors."""
PAUSES: Final = 2
"""A file that was written piece by piece must be quiet for so many of the longest pauses between them."""
LONG_S: Final = 3.0
"""A file that took long, and may still be open, must be quiet for as long as it took, but not for longer than this."""
WAITS_S: Final = 5.0
"""When it is said that a file is still being written."""
AGAIN_S: Final = 5.0
"""When a store that could not be written is tried again."""

Seen = tuple[tuple[int, ...] | None, ...]
_SIZE: Final = 2


class Loads(Protocol):
    """What of the configuration is used."""

    @property
    def watched(self) -> tuple[Path, ...]: ...
    def load(
        self, trigger: str, data: bytes | None = None, *, patient: bool = False, whole: Callable[[], bool] | None = None
    ) -> object: ...
    def waits(self, seconds: float) -> None: ...


class Settling:
    """Pure: when to read files whose looks are told. `due`: whether now; `last`: whether errors are final then."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.told = False
        """Whether it was said that it takes long."""
        self._held = seen  # as it was when it was put in force
        self._exact = False
        self._tried: Seen | None = None
        self._began: float | None = None
        self._since = self._moved = self._pause = 0.0

    @property
    def moving(self) -> bool:
        """Whether something changed that was not read yet."""
        return self._began is not None

    def look(self, now: float, seen: Seen) -> None:
        """Take one look."""
        if seen == self.seen:
            return
        if self._began is None:
            self._begin(now)
        elif _others(self.seen, seen):
            self._since, self._pause = now, 0.0  # the pauses were another file's
        else:
            self._pause = max(self._pause, now - self._moved)
        self.seen, self._moved = seen, now

    def ask(self, now: float, written: bool | None) -> None:
        """Take the kernel's word: whether somebody has one of them open for writing. That is as good as a change."""
        self._exact = written is not None
        if written:
            if self._began is None:
                self._begin(now)
            self._moved = now

    def due(self, now: float) -> bool:
        """Whether to read now: what was read in vain is not read again before it moves, or time is up."""
        if self._began is None:
            return False
        return self.last(now) or (self._tried != self.seen and now - self._moved >= self._enough())

    def last(self, now: float) -> bool:
        """Whether errors are to be believed now."""
        return self._began is not None and now - self._moved >= max(CAREFUL_S, self._enough())

    def late(self, now: float) -> bool:
        """Whether it is to be said that it takes long."""
        return self._began is not None and not self.told and now - self._began >= WAITS_S

    def tried(self) -> None:
        """It was read, and has errors."""
        self._tried = self.seen

    def done(self, *, held: bool) -> None:
        """It was read; `held`: and is in force."""
        self._began = self._tried = None
        self.told = False
        if held:
            self._held = self.seen

    def changed(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Those that are not as they were when they were put in force."""
        if not len(paths) == len(self._held) == len(self.seen):
            return paths
        return [path for path, old, new in zip(paths, self._held, self.seen, strict=True) if old != new]

    def _begin(self, now: float) -> None:
        self._began = self._since = now
        self._pause = 0.0

    def _enough(self) -> float:
        """How long it must have been quiet."""
        if self._exact:
            return max(CAREFUL_S if _smaller(self._held, self.seen) else QUIET_S, PAUSES * self._pause)
        return max(CAREFUL_S, PAUSES * self._pause, min(self._moved - self._since, LONG_S))


class Watch:
    """A running watch. `start` it once the configuration was started; `stop` ends it."""

    def __init__(self, configuration: Loads, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._configuration = configuration
        self._faults = faults
        self._clock = clock
        # Between the reading at start and the first look the file may have changed: the first look always reads.
        self._settling = Settling(())
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
        pause = LOOK_S
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop:
                return
            with self._faults.outlived("watch", "look at the configuration file"):
                pause = self._look()

    def _look(self) -> float:
        """Look once, and read what is due. Returns the pause until the next look, in seconds."""
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
            settling.told = True
            self._configuration.waits(WAITS_S)
        elif self._again is not None and began >= self._again:
            self._load("file", paths, final=True)
        return pause

    def _load(self, trigger: str, paths: tuple[Path, ...], *, final: bool) -> None:
        settling, held = self._settling, False
        self._again = None

        def whole() -> bool:
            return looks(paths) == settling.seen and not being_written(settling.changed(paths))

        try:
            self._configuration.load(trigger, patient=not final, whole=whole)
            held = True
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
            settling.done(held=False)  # or it would be read again at every look
            raise
        settling.done(held=held)


def looks(paths: Iterable[Path]) -> Seen:
    """What tells whether a file is the one that was seen: which it is, its size and times."""
    return tuple(map(_look, paths))


def _look(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (through symlinks: what they lead to counts)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)


def _others(old: Seen, new: Seen) -> bool:
    """Whether a file was replaced by another, of another inode."""
    return any(a is not None and b is not None and a[:2] != b[:2] for a, b in zip(old, new, strict=False))


def _smaller(old: Seen, new: Seen) -> bool:
    """Whether one of the files lost something: all of it, or its end."""
    return any(a is not None and (b is None or b[_SIZE] < a[_SIZE]) for a, b in zip(old, new, strict=False))
