"""The process log: one line per event on standard error. Also checks, at start, that the access log can be written.

In: an event's name and its facts. Out: JSON (`{"time", "event", ...}`) or a line for people. Callers never pass credentials, only
addresses, pids, counts and causes. Workers write the access log natively.
"""

import contextlib
import json
import logging
import os
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aigw.errors import ConfigError
from aigw.serve.outlet import Outlet

FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 600.0


class Seldom:
    """Whether a fault that goes on is worth a line: the first time, then after pauses that double."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = FIRST_PAUSE_S
        self._next = float("-inf")

    def is_due(self) -> bool:
        """The fault is there."""
        now = self._clock()
        if now < self._next:
            return False
        self._next, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE_S)
        return True

    def ended(self) -> None:
        """The fault is gone: the next one is another one."""
        self._pause, self._next = FIRST_PAUSE_S, float("-inf")


class Log:
    """Writes to standard error, one write per line, so lines of several processes do not mix. It never waits: lines without room are
    dropped, and a later line tells how many."""

    def __init__(self, format: str, process: str, outlet: Outlet, **always: object) -> None:
        """`format`: `json` or `console`. `always`: facts of every line."""
        self.outlet: Final = outlet
        self._json = format == "json"
        self._process = process
        self._always = always
        outlet.gap = lambda lines: self._line("log_dropped", {"lines": lines})

    def __call__(self, event: str, /, **facts: object) -> None:
        self.outlet.put(self._line(event, facts))

    def _line(self, event: str, facts: dict[str, object]) -> str:
        facts = {**self._always, **facts}
        written = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._json:
            line = json.dumps({"time": written, "process": self._process, "event": event, **facts}, default=str)
        else:
            line = " ".join([written, self._process, event, *(f"{name}={value}" for name, value in facts.items())])
        return line + "\n"


class Records(logging.Handler):
    """Brings the messages of Python's `logging`, ours and those of libraries, into the form of the process log: one line each, an
    exception as its text and its place instead of a traceback."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        facts = {"level": record.levelname.lower(), "logger": record.name, "text": _one_line(record.getMessage())}
        fault = record.exc_info[1] if record.exc_info else None
        if fault is not None:
            frames = traceback.extract_tb(fault.__traceback__)[-3:]
            facts["error"] = _one_line(f"{type(fault).__name__}: {fault}")
            facts["at"] = " > ".join(f"{Path(f.filename).name}:{f.lineno}:{f.name}" for f in frames)
        self._log("message", **facts)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def check_access_log(target: str) -> None:
    """Raise ConfigError for a file that workers could not append to. Opens the file like a worker, and removes it again if it is new:
    the start may still fail."""
    if target in ("-", "off"):
        return
    made = not os.path.lexists(target)
    try:
        # O_NONBLOCK: a pipe without a reader is an error here; it would block a worker for ever.
        os.close(os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666))
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(
            f"--access-log: cannot append to {target!r}: {why}; name a file in a folder that is there and that this user may"
            " write, or '-' for standard output, or 'off'"
        ) from None
    if made:
        with contextlib.suppress(OSError):
            Path(target).unlink()
