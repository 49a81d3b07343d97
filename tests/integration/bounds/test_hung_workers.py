"""Workers that stand still: readiness and a metric say so, the supervisor replaces them, and the others serve meanwhile."""

import os
import signal
import threading
import time
from collections.abc import Callable

import httpx2 as httpx

from tests.support.processes import PATIENCE_S, Gateway, wait_until
from tests.support.surface import metric

New = Callable[..., Gateway]


def ready(gateway: Gateway) -> bool:
    return httpx.get(gateway.admin + "/readyz", trust_env=False, timeout=PATIENCE_S).status_code == 200


def answers(gateway: Gateway) -> bool:
    try:
        return httpx.get(gateway.proxy + "/nothing", trust_env=False, timeout=PATIENCE_S).status_code == 404
    except httpx.TransportError:
        return False


def test_stopped_worker_is_told_and_replaced(new_gateway: New) -> None:
    gateway = new_gateway(workers=2)
    worker = gateway.children()["worker-1"]
    assert ready(gateway)
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: not ready(gateway), "readiness tells")
    silent = [metric(gateway, "aigw_worker_silent_seconds", slot=slot) for slot in "01"]
    assert max(silent) >= 2 and min(silent) < max(silent), silent
    workers = httpx.get(gateway.admin + "/status", trust_env=False).json()["workers"]
    assert sorted(row["state"] for row in workers) == ["ready", "silent"], "one truth"
    assert sorted(metric(gateway, "aigw_worker_ready", slot=slot) for slot in "01") == [0, 1]
    hung = gateway.wait_event("hung", child="worker-1")
    assert hung["pid"] == worker and 5 <= hung["silent_s"] < PATIENCE_S, hung
    died = gateway.wait_event("died", child="worker-1")
    assert died["pid"] == worker and died["status"] == -signal.SIGKILL
    gateway.wait_event("ready", child="worker-1")
    wait_until(lambda: ready(gateway), "readiness is back")
    assert [answers(gateway) for _ in range(40)] == [True] * 40
    wait_until(lambda: metric(gateway, "aigw_worker_hangs_total") == 1, "it is counted")


def test_stop_of_everybody_kills_nobody(new_gateway: New) -> None:
    """As of a machine that is suspended, or a container that is paused: the time is nobody's silence."""
    gateway = new_gateway(workers=2, env={"AIGW_HANG_TIMEOUT": "2"})
    processes = [gateway.process.popen.pid, *gateway.children().values()]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3)  # longer than the limit
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: ready(gateway), "it goes on")
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert answers(gateway)
    assert sorted(gateway.children().values()) == sorted(processes[1:])


def test_working_gateway_is_no_hung_one(new_gateway: New) -> None:
    """Under the shortest limit, with both workers as busy as two clients make them."""
    gateway = new_gateway(workers=2, env={"AIGW_HANG_TIMEOUT": "1"})
    before, over = gateway.children(), threading.Event()

    def call() -> None:
        with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
            while not over.is_set():
                assert client.get(gateway.proxy + "/nothing").status_code == 404

    callers = [threading.Thread(target=call) for _ in range(2)]
    for one in callers:
        one.start()
    time.sleep(3)  # three limits
    over.set()
    for one in callers:
        one.join()
    assert gateway.children() == before
