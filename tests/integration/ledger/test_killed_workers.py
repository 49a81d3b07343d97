"""Killed workers beside segments of the control process that cannot be read: their calls get entries unless they may have them there."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.integration.ledger.test_folders import New, events, newer, status
from tests.support.ends import Upstream, Wire, connect, message
from tests.support.processes import Gateway, wait_until


def silent(wire: Wire) -> None:
    """An upstream that takes a request and never answers."""
    while wire.request() is not None:
        pass


def ask(gateway: Gateway, upstream: Upstream) -> socket.socket:
    """A call that is on its way until its connection is closed."""
    sent = len(upstream.requests)
    connection = connect(gateway.proxy)
    connection.sendall(message("GET", "/silent"))
    wait_until(lambda: len(upstream.requests) == sent + 1, "the call has reached its upstream")
    return connection


def kill_worker(gateway: Gateway) -> None:
    worker = gateway.children()["worker-1"]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: gateway.children().get("worker-1") not in (None, worker), "a new worker")
    wait_until(lambda: httpx.get(gateway.admin + "/readyz", trust_env=False).status_code == 200, "it serves")


def kill_all(gateway: Gateway) -> None:
    for pid in (gateway.pid, *gateway.children().values()):
        os.kill(pid, signal.SIGKILL)
    gateway.process.end()


def outcomes(gateway: Gateway) -> list[str]:
    return [event["outcome"] for event in events(gateway)]


def control_segment(gateway: Gateway, upstream: Upstream) -> Path:
    """The segment in which the control process wrote the entry of a killed worker's call; the gateway is killed."""
    gateway.route(upstream.url, "/silent")
    with ask(gateway, upstream):
        kill_worker(gateway)
    wait_until(lambda: outcomes(gateway) == ["crashed"], "the killed worker's call is stored")
    kill_all(gateway)
    (segment,) = gateway.data.glob("ledger/*-99-00000000.segment")
    return segment


def test_control_segment_of_another_gateway_holds_up_no_call(new_gateway: New, tmp_path: Path) -> None:
    with Upstream(silent) as upstream:
        foreign = control_segment(new_gateway(data=tmp_path / "other"), upstream)
        gateway = new_gateway(data=tmp_path / "data")
        gateway.route(upstream.url, "/silent")
        with ask(gateway, upstream):
            kill_all(gateway)  # its worker holds its place when the next gateway begins
        shutil.copy(foreign, gateway.data / "ledger")
        gateway = new_gateway(data=tmp_path / "data")
        wait_until(lambda: outcomes(gateway) == ["crashed"], "the call of the earlier worker is stored")
        with ask(gateway, upstream):
            kill_worker(gateway)
        wait_until(lambda: outcomes(gateway) == ["crashed"] * 2, "the call of the later worker is stored")
        error = status(gateway)["error"]
        assert "1 segment(s) cannot be read" in error and "killed workers wait" not in error, error


def test_control_segment_of_a_later_version_holds_up_only_calls_that_may_be_in_it(
    new_gateway: New, tmp_path: Path
) -> None:
    with Upstream(silent) as upstream:
        late = control_segment(new_gateway(data=tmp_path / "data"), upstream)
        backup = shutil.copy(late, tmp_path)  # the next gateway removes it: it is stored
        gateway = new_gateway(data=tmp_path / "data")
        wait_until(lambda: not late.exists(), "it is stored to its end")
        with ask(gateway, upstream):
            kill_all(gateway)
        shutil.copy(backup, late)
        newer(late)
        gateway = new_gateway(data=tmp_path / "data")
        wait_until(
            lambda: "1 call(s) of killed workers wait" in (status(gateway)["error"] or ""),
            "the earlier worker's call waits",
        )
        assert late.name in status(gateway)["error"] and "layout 99" in status(gateway)["error"]
        workers = httpx.get(gateway.admin + "/status", trust_env=False).json()["workers"]
        assert [worker["state"] for worker in workers] == ["ready"], "the dead one is no worker that stands still"
        with ask(gateway, upstream):
            kill_worker(gateway)
        wait_until(lambda: outcomes(gateway) == ["crashed"] * 2, "the call of the later worker is stored")
        assert "1 call(s) of killed workers wait" in status(gateway)["error"]
        late.unlink()  # the repair that the status names
        wait_until(lambda: outcomes(gateway) == ["crashed"] * 3, "the earlier worker's call is stored")
        wait_until(lambda: status(gateway)["error"] is None, "all is well")


CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Gives each start the same pids, as a container does."""


def inside(pid: int) -> dict[int, int]:
    """Pids in a container -> pids here, of all descendants of this process."""
    found: dict[int, int] = {}
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            own = Path(f"/proc/{child}/status").read_text().split("NSpid:")[1].split("\n")[0].split()
            found |= {int(own[-1]): child} | inside(child)
    return found


def test_worker_with_the_pid_of_a_dead_one_is_not_taken_for_it(new_gateway: New, tmp_path: Path) -> None:
    if subprocess.run([*CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("needs to make a PID namespace, which this user may not")
    with Upstream(silent) as upstream:
        gateway = new_gateway(data=tmp_path / "data", prefix=CONTAINER)
        gateway.route(upstream.url, "/silent")
        with ask(gateway, upstream):
            os.kill(inside(gateway.pid)[1], signal.SIGKILL)
            gateway.process.end()
        (segment,) = gateway.data.glob("ledger/*-00-00000000.segment")
        newer(Path(shutil.copy(segment, segment.with_name(segment.name.replace("-00-", "-99-")))))
        again = new_gateway(data=gateway.data, workers=2, env={"AIGW_HANG_TIMEOUT": "2"}, prefix=CONTAINER)
        try:
            wait_until(
                lambda: "1 call(s) of killed workers wait" in (status(again)["error"] or ""),
                "the dead one keeps its slot",
            )
            if again.children()["worker-1"] != gateway.children()["worker-1"]:
                pytest.skip("a busy machine gave the second start other pids")
            os.kill(inside(again.pid)[again.children()["worker-2"]], signal.SIGSTOP)
            assert again.wait_event("hung")["child"] == "worker-2"
        finally:
            os.kill(inside(again.pid)[1], signal.SIGKILL)
