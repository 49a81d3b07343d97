"""One line per event of the processes, on standard error.

In: an event's name and its facts. Out: JSON (`{"time", "event", ...}`) or a line for people. Never a credential: callers
log addresses, pids, counts and causes only. Not the access log, which workers write natively.
"""

import json
import sys
from datetime import UTC, datetime
from typing import Literal, TypeAlias

Format: TypeAlias = Literal["json", "console"]


class Log:
    """Writes to standard error; one write per line, so that lines of several processes do not mix."""

    def __init__(self, format: str, process: str) -> None:
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
