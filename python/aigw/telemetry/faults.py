"""Faults that a thread of the control process outlives: what fails is told in the log, counted, and the thread goes on.

In: work of a thread, by the thread's name. Out: whether it was done, and `aigw_control_faults_total`. A panic of the native half
is one of them, which Python does not count among its exceptions.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from aigw.telemetry.prometheus import render

Thread = Literal["writer", "base", "watch", "repair", "export"]
THREADS: Final[tuple[Thread, ...]] = ("writer", "base", "watch", "repair", "export")

log = logging.getLogger("aigw.control")


class Faults:
    """One process's. Each thread counts its own."""

    def __init__(self) -> None:
        self._counts: dict[Thread, int] = dict.fromkeys(THREADS, 0)

    @contextmanager
    def outlived(self, thread: Thread, what: str) -> Iterator[None]:
        """Go on behind the block, whatever it raises: without this thread nothing would do its work any more. `what` could not be
        done then. What ends a thread by order passes."""
        try:
            yield
        except BaseException as fault:
            if not isinstance(fault, Exception) and not _is_panic(fault):
                raise
            self._counts[thread] += 1
            log.exception("could not %s; it is tried again", what)

    def metrics(self) -> str:
        """What Prometheus is told of them."""
        return render({"aigw_control_faults_total": [({"thread": t}, n) for t, n in self._counts.items()]})


def _is_panic(fault: BaseException) -> bool:
    return type(fault).__name__ == "PanicException"
