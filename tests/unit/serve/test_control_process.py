"""Orders of the supervisor to the control process: each is followed, also after another one failed."""

import os
from typing import Any

import pytest

from aigw.serve.control_process import _messages
from aigw.telemetry.counts import Counts
from aigw.telemetry.families import text


class Process:
    """Stands in for the control plane and the watch."""

    def __init__(self, found: list[tuple[int, int]] | OSError) -> None:
        self.found = found
        self.hangups = 0
        self.counts = Counts()
        self.said: list[tuple[str, dict[str, Any]]] = []

    def reclaim(self) -> list[tuple[int, int]]:
        if isinstance(self.found, OSError):
            raise self.found
        return self.found

    def hangup(self) -> None:
        self.hangups += 1

    def log(self, event: str, /, **facts: Any) -> None:
        self.said.append((event, facts))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], []),
        ([(0, 0), (3, 2)], [("slots_reclaimed", {"slots": 2, "permits": 2})]),
        (OSError("a slot is damaged"), [("reclaim_failed", {"error": "a slot is damaged"})]),
    ],
)
def test_a_reload_during_a_reclaim_is_not_lost(
    found: list[tuple[int, int]] | OSError, said: list[tuple[str, dict[str, Any]]]
) -> None:
    process = Process(found)
    read, write = os.pipe()
    os.write(write, b"reclaim\nreload\nreclaim\n")
    _messages(process, process, read, process.log)  # type: ignore[arg-type]
    assert (process.said, process.hangups) == (said, 1)
    os.write(write, b"hung\nreload\nhung\ndropped:7\ndropped:\n")
    _messages(process, None, read, process.log)  # type: ignore[arg-type]
    assert process.said[-1][0] == "reload_ignored"
    page = text(process.counts.families())
    assert "aigw_worker_hangs_total 2\n" in page
    assert 'aigw_process_log_dropped_total{process="supervisor"} 7\n' in page
    os.close(read)
    os.close(write)
