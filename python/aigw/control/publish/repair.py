"""Publishes the snapshot again after a worker failed to load it. A worker that cannot read a damaged file keeps the old
configuration, in which revoked keys still work.

In: the generations of workers and the counter of failed loads, a few times a second. Out: a call of `renew`, which writes every file
again, if the counter rose and a worker is behind. The pause doubles after a failed repair, so a bad disk does not keep the
gateway busy.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

from aigw.types import JsonDict

PAUSE_S: Final = 5.0
LONGEST_S: Final = 300.0


class Files(Protocol):
    """The part of the native publisher that the repair reads."""

    def generation(self) -> int: ...
    def slots(self) -> list[JsonDict]: ...
    def load_failures(self) -> int: ...


class Repair:
    """The repair of one gateway. `renew` writes every file of the snapshot again; its future ends when they are in force."""

    def __init__(
        self,
        files: Files,
        renew: Callable[[], "Future[None]"],
        log: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._renew = renew
        self._log = log
        self._clock = clock
        self._seen = files.load_failures()
        self._pause = PAUSE_S
        self._last = float("-inf")
        self._running: Future[None] | None = None

    def look(self) -> None:
        """Compare once, and start a repair if a worker needs one. Does not wait for its end."""
        if self._running is not None:
            if not self._running.done():
                return
            self._report(self._running)
            self._running = None
        # A starting worker serves only after it has loaded the generation in force.
        loaded = [slot["generation"] for slot in self._files.slots() if slot["state"] != "draining"]
        now = self._clock()
        if all(generation >= self._files.generation() for generation in loaded) or now < self._last + self._pause:
            return
        failures = self._files.load_failures()
        if failures > self._seen:
            self._pause = min(self._pause * 2, LONGEST_S) if now < self._last + 2 * self._pause else PAUSE_S
            self._last = now
            self._running = self._renew()
        self._seen = failures

    def _report(self, renewed: "Future[None]") -> None:
        if (fault := renewed.exception()) is None:
            self._log("snapshot_renewed", generation=self._files.generation(), load_failures=self._seen)
        else:
            self._log("snapshot_not_renewed", error=str(fault))
