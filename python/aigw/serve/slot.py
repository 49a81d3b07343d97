"""One child and its restarts: which process fills the slot, whether it is ready, when a dead one is replaced.

Pure but for `spawn`, which it is given; time is an argument. A child that had been ready is replaced at once, however
often it dies; only deaths before ready are slowed down, to at most `BACK_OFF_S`.
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
    """A place for one child. `spawn` starts one and returns it with the descriptor it will write to when ready."""

    def __init__(self, name: str, spawn: "Callable[[], tuple[subprocess.Popen[bytes], int]]") -> None:
        self.name = name
        self._spawn = spawn
        self._child: subprocess.Popen[bytes] | None = None
        self.ready_fd = -1
        self.ready = False
        self.early_deaths = 0
        self.why = ""
        """What the last child said of why it cannot serve."""
        self.due: float | None = 0.0
        """When the next child is to be started; None while one lives."""

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    def start(self, now: float) -> int:
        """Start a child; returns its pid. Raises OSError when the system has no room for one: then it is due again shortly."""
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
        """Take what the child says of itself: that it serves, or why it cannot."""
        said = os.read(self.ready_fd, MOST_SAID)
        if said == READY:
            self._close_ready()
            self.ready = True
            self.early_deaths = 0
        elif said:
            self.why = said.decode(errors="replace")

    def reap(self, now: float) -> int | None:
        """The exit status of a child that has died since (negative: by that signal), else None. Sets when to restart."""
        if self._child is None or (status := self._child.poll()) is None:
            return None
        if self.ready_fd >= 0 and not self.why:
            self.hear()  # its last words: it is dead, so this does not wait
        self._close_ready()
        self._child = None
        self.due = now
        if not self.ready:
            self.due += min(BACK_OFF_S, _FIRST_WAIT_S * 2**self.early_deaths)
            self.early_deaths = min(self.early_deaths + 1, 10)
        self.ready = False
        return status

    def send(self, number: signal.Signals) -> None:
        """Signal the child, if one lives (it is not reaped yet, so its pid is its own)."""
        if self._child is not None:
            self._child.send_signal(number)

    def end(self) -> None:
        """Kill the child, if one lives, and wait until it is gone."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _close_ready(self) -> None:
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1
