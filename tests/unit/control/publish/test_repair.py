"""The repair publishes again after a failed load, with growing pauses while the load still fails."""

from concurrent.futures import Future
from itertools import pairwise

from aigw.control.publish.repair import LONGEST_S, PAUSE_S, Repair
from aigw.errors import StoreError
from aigw.types import JsonDict


class Worker:
    """One worker, and the counter that it shares."""

    def __init__(self) -> None:
        self.now, self.published, self.held, self.failures = 100.0, 1, 1, 3
        self.orders: list[Future[None]] = []
        self.log: list[str] = []
        self.repair = Repair(self, self._renew, lambda event, /, **facts: self.log.append(event), lambda: self.now)

    def generation(self) -> int:
        return self.published

    def slots(self) -> list[JsonDict]:
        return [{"state": "ready", "generation": self.held}]

    def load_failures(self) -> int:
        return self.failures

    def _renew(self) -> "Future[None]":
        self.orders.append(Future())
        return self.orders[-1]

    def fails(self) -> None:
        self.published += 1
        self.failures += 1

    def renewed(self, loads: bool) -> None:
        self.published += 1
        self.orders[-1].set_result(None)
        self.held = self.published if loads else self.held
        self.failures += not loads

    def looks(self, seconds: float) -> int:
        """The number of repairs in so many seconds."""
        before = len(self.orders)
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.repair.look()
        return len(self.orders) - before


def test_a_load_failure_is_repaired_once() -> None:
    worker = Worker()
    assert worker.looks(10) == 0, "what failed before this process began is made good by its start"
    worker.published += 1
    assert worker.looks(10) == 0, "a worker without requests is behind, and has not failed"
    worker.fails()
    assert worker.looks(1) == 1
    worker.renewed(loads=True)
    assert worker.looks(600) == 0 and worker.log == ["snapshot_renewed"]
    worker.fails()
    assert worker.looks(1) == 1


def test_repair_waits_longer_after_each_failure() -> None:
    worker = Worker()
    worker.fails()
    pauses, last = [], worker.now
    for _ in range(10):
        while worker.looks(0.25) == 0:
            pass
        pauses.append(worker.now - last)
        last = worker.now
        worker.renewed(loads=False)
    assert pauses[1] >= PAUSE_S and all(later >= 2 * sooner - 1 for sooner, later in pairwise(pauses[1:7]))
    assert LONGEST_S <= max(pauses) <= LONGEST_S + 1
    worker.held = worker.published
    worker.now += 3 * LONGEST_S
    worker.fails()
    assert worker.looks(1) == 1
    worker.renewed(loads=False)
    assert worker.looks(PAUSE_S + 1) == 1, "what began anew begins with the shortest pause"


def test_repair_logs_a_failed_write_and_waits() -> None:
    worker = Worker()
    worker.fails()
    assert worker.looks(60) == 1
    worker.orders[-1].set_exception(StoreError("disk full"))
    assert worker.looks(60) == 0 and worker.log == ["snapshot_not_renewed"]
