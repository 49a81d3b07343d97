"""One line per event of the processes, on standard error; and whether the access log can be written, before a worker tries.

In: an event's name and its facts. Out: JSON (`{"time", "event", ...}`) or a line for people. Never a credential: callers
log addresses, pids, counts and causes only. Not the access log, which workers write natively.
"""

import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from aigw.errors import ConfigError


class Log:
    """Writes to standard error; one write per line, so that lines of several processes do not mix."""

    def __init__(self, format: str, process: str) -> None:
        """`format`: `json` or `console`."""
        self._json = format == "json"
        self._process = process

    def __call__(self, event: str, /, **facts: object) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._json:
            line = json.dumps({"time": time, "process": self._process, "event": event, **facts}, default=str)
        else:
            line = " ".join([time, self._process, event, *(f"{name}={value}" for name, value in facts.items())])
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except OSError:
            pass  # whoever read our log is gone; serving matters more


def check_access_log(target: str) -> None:
    """Refuse a file that no worker could append to, opening it as they do; one that is not there is not made yet, since
    the start may fail for another reason. Raises ConfigError."""
    if target in ("-", "off"):
        return
    made = not os.path.lexists(target)
    try:
        # Not waiting: a pipe without a reader would stop a worker for ever, here it is an error.
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
