"""Orders of the supervisor to the control process: each is followed, also after another one failed."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aigw.serve import control_process
from aigw.serve.control_process import _messages
from aigw.telemetry.counts import Counts
from aigw.telemetry.families import text
from aigw.telemetry.faults import Faults


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


def test_a_fault_of_the_watch_over_workers_is_told_seldom_and_with_the_repair(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks: list[Exception | None] = [OSError("gone")] * 50 + [None] + [OSError("gone")] * 5
    said: list[str] = []

    class Ended(BaseException):
        """All looks are over."""

    async def at_once(_: float) -> None:
        if not looks:
            raise Ended

    def look() -> None:
        if (fault := looks.pop(0)) is not None:
            raise fault

    control: Any = SimpleNamespace(
        faults=Faults(), counts=Counts(), repair=SimpleNamespace(look=look), reclaim=list,
        publisher=SimpleNamespace(make_room=lambda: None),
    )  # fmt: skip
    log: Any = Told(said)
    monkeypatch.setattr(control_process.asyncio, "sleep", at_once)
    with pytest.raises(Ended):
        asyncio.run(control_process._repair(control, log, tmp_path / "data"))
    assert len(said) == 2, "once for each fault"
    assert f"{tmp_path / 'data'} was removed or moved: put it back" in said[0]
    (tmp_path / "data" / "cells").mkdir(parents=True)
    assert "look at the disk of" in control_process._way_out(tmp_path / "data")


class Told:
    """A log that keeps the errors of its lines."""

    def __init__(self, said: list[str]) -> None:
        self._said = said
        self.outlet = SimpleNamespace(take_dropped=lambda: 0)

    def __call__(self, event: str, /, **facts: Any) -> None:
        assert event == "repair_failed"
        self._said.append(str(facts["error"]))
