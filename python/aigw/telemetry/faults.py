"""Keeps threads of the control process alive: a fault is logged and counted, and the thread goes on.

In: work of a thread, by the thread's name. Out: `aigw_control_faults_total`. A panic of the native extension counts as a fault,
although it does not derive from Python's `Exception`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from aigw.telemetry.families import Family, own

Thread = Literal["writer", "base", "watch", "repair", "export", "ledger", "questions"]
THREADS: Final[tuple[Thread, ...]] = ("writer", "base", "watch", "repair", "export", "ledger", "questions")

log = logging.getLogger("aigw.control")


class Faults:
    """The fault counters of one process, one per thread."""

    def __init__(self) -> None:
        self._counts: dict[Thread, int] = dict.fromkeys(THREADS, 0)

    @contextmanager
    def outlived(self, thread: Thread, what: str) -> Iterator[None]:
        """Suppress faults of the block: without its thread the work would stop for good. `what` completes "could not ..." in the log.
        Exceptions that end a thread on purpose (SystemExit, KeyboardInterrupt) pass."""
        try:
            yield
        except BaseException as fault:
            if not is_fault(fault):
                raise
            self._counts[thread] += 1
            log.exception("could not %s; it is tried again", what)

    def families(self) -> list[Family]:
        """The counters."""
        return own({"aigw_control_faults_total": [({"thread": t}, n) for t, n in self._counts.items()]})


def is_fault(raised: BaseException) -> bool:
    """Whether this is a defect: an exception, or a panic of the native part, which does not derive from Python's `Exception`."""
    return isinstance(raised, Exception) or type(raised).__name__ == "PanicException"
