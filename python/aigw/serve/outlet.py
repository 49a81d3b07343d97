"""Standard error that holds nobody up: a thread of its own writes, and lines that find no room are dropped and counted.

In: whole lines. Out: the same lines on the descriptor, in their order. The reader may be slow, stopped or gone: a full pipe, a terminal
that is held, a log collector that hangs. At the end of the process `flush` waits for the writer, not longer than it is told.
"""

import atexit
import contextlib
import io
import os
import select
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_BYTES: Final = 256 * 1024
"""Text that may wait for the writer."""
END_S: Final = 1.0
"""Time that the end of a process waits for its lines."""


class Outlet:
    """Lines on their way to a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes, those in the writer's hands too
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._untold = 0
        self.gap: Callable[[int], str] | None = None
        """Makes the line that stands for so many dropped ones."""

    def put(self, text: str) -> bool:
        """Hand lines to the writer, without a wait. False: there is no room, and they are dropped."""
        with self._changed:
            if self._waiting > MOST_BYTES:
                lines = text.count("\n")
                self._dropped += lines
                self._untold += lines
                return False
            if self._untold and self.gap is not None:
                text, self._untold = self.gap(self._untold) + text, 0
            data = text.encode(errors="backslashreplace")
            self._lines.append(data)
            self._waiting += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="aigw-log", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    def take_dropped(self) -> int:
        """Lines dropped since the last call."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def flush(self, within_s: float = END_S) -> None:
        """Wait until all lines are written, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, within_s)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            with contextlib.suppress(OSError):  # the reader of the log is gone
                _write_all(self._descriptor, line)
            with self._changed:
                self._waiting -= len(line)
                self._changed.notify_all()


class Stream(io.TextIOBase):
    """An outlet in the place of `sys.stderr`."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._terminal = os.isatty(2)

    def write(self, text: str) -> int:
        self._outlet.put(text)
        return len(text)

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return 2

    def writable(self) -> bool:
        return True


def take_over(*, stream: bool) -> Outlet:
    """An outlet to standard error, with a descriptor of its own. `stream`: all Python code of this process writes through it, and
    native code that writes to a full pipe gets an error and does not wait."""
    outlet = Outlet(os.dup(2))
    atexit.register(outlet.flush)
    if not stream:
        return outlet
    sys.stderr = Stream(outlet)
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(2).st_mode):
            # Opened again, the pipe has flags of its own: the processes that share it keep theirs.
            fresh = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.dup2(fresh, 2)
            os.close(fresh)
    return outlet


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
