"""Counters of the control process that others move: workers that the supervisor killed, lines that a log dropped,
faults of the Admin API.

In: an event, by the name of its metric. Out: `families`. They begin at 0 with the process.
"""

import threading
from typing import Final

from aigw.telemetry.families import Family, own

SERIES: Final[dict[str, tuple[dict[str, str], ...]]] = {
    "aigw_admin_faults_total": ({},),
    "aigw_worker_hangs_total": ({},),
    "aigw_process_log_dropped_total": ({"process": "control"}, {"process": "supervisor"}),
}
"""Each metric with the labels of its series."""


class Counts:
    """The counters of one process, usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {
            (name, tuple(labels.items())): 0 for name, all_labels in SERIES.items() for labels in all_labels
        }

    def add(self, name: str, count: int = 1, **labels: str) -> None:
        """Count an event of a series in `SERIES`."""
        with self._lock:
            self._counts[name, tuple(labels.items())] += count

    def families(self) -> list[Family]:
        """The counters."""
        with self._lock:
            found = dict(self._counts)
        return own({
            name: [(labels, found[name, tuple(labels.items())]) for labels in all_labels]
            for name, all_labels in SERIES.items()
        })  # fmt: skip
