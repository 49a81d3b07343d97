"""One child and its restarts: the process, its readiness, and the time of the next start.

Time is an argument, and the caller passes `spawn`. A child that was ready is replaced at once, however often it dies. Deaths before
ready delay the next start, by at most `BACK_OFF_S`.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Final

from aigw.serve.child import MOST_SAID, READY

BACK_OFF_S: Final = 0.5
_FIRST_WAIT_S: Final = 0.05


class Slot:
    """One child. `spawn` starts a process and returns it with the descriptor of its ready pipe."""

    def __init__(self, name: str, spawn: "Callable[[], tuple[subprocess.Popen[bytes], int]]") -> None:
        self.name = name
        self._spawn = spawn
        self._child: subprocess.Popen[bytes] | None = None
        self.ready_fd = -1
        self.ready = False
        self.early_deaths = 0
        self.why = ""
        """The last child's reason for not serving."""
        self.due: float | None = 0.0
        """Time of the next start, monotonic seconds; None while a child lives."""

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    def start(self, now: float) -> int:
        """Start a child and return its pid. Raises OSError if the system cannot start a process, and sets a later `due`."""
        try:
            self._child, self.ready_fd = self._spawn()
        except OSError:
            self.due = now + BACK_OFF_S
            raise
        self.ready = False
        self.why = ""
        self.due = None
        return self._child.pid

    def hear(self) -> None:
        """Read the child's message: it serves, or the reason why it cannot."""
        said = os.read(self.ready_fd, MOST_SAID)
        if said == READY:
            self._close_ready()
            self.ready = True
            self.early_deaths = 0
        elif said:
            self.why = said.decode(errors="replace")

    def reap(self, now: float) -> int | None:
        """The exit status of a child that has died (negative: a signal), else None. Sets `due`."""
        if self._child is None or (status := self._child.poll()) is None:
            return None
        if self.ready_fd >= 0 and not self.why:
            self.hear()  # the child is dead, so this read cannot block
        self._close_ready()
        self._child = None
        self.due = now
        if not self.ready:
            self.due += min(BACK_OFF_S, _FIRST_WAIT_S * 2**self.early_deaths)
            self.early_deaths = min(self.early_deaths + 1, 10)
        self.ready = False
        return status

    def send(self, number: signal.Signals) -> None:
        """Signal a living child. It is not reaped yet, so its pid cannot belong to another process."""
        if self._child is not None:
            self._child.send_signal(number)

    def end(self) -> None:
        """Kill a living child and wait for its end."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _close_ready(self) -> None:
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1
