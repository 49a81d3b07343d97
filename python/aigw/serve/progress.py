"""A progress line for long work at a terminal. In: stages and counts. Out: one line, removed at the end."""

import sys
import time
from typing import Final

PATIENCE: Final = 0.5
"""Seconds of work without a progress line."""


class Bar:
    """One line on standard error, shown after `PATIENCE`."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._began = time.monotonic()
        self._wrote = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._shown and time.monotonic() - self._began > PATIENCE:
            share = f" {100 * done // total} %" if total and done else ""
            sys.stderr.write(f"\r\x1b[K{stage}{share}")
            sys.stderr.flush()
            self._wrote = True

    def clear(self) -> None:
        """Remove the line."""
        if self._wrote:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
