"""What the supervisor promises of its processes: each sentence, with real processes and real signals."""

import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.support.processes import AIGW, PATIENCE_S, Gateway, gone, start_upstream, wait_until

New = Callable[..., Gateway]


def serve(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*AIGW, "serve", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def get(url: str) -> int:
    return httpx.get(url, trust_env=False, timeout=PATIENCE_S).status_code


@pytest.mark.parametrize("option", ["--proxy", "--admin"])
def test_a_port_in_use_is_exit_2_with_the_repair(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = "--admin" if option == "--proxy" else "--proxy"
        end = serve("--data", str(tmp_path / "d"), option, f"127.0.0.1:{port}", other, "127.0.0.1:0")
    assert end.returncode == 2
    assert f"port {port}" in end.stderr and f"choose another port with {option}" in end.stderr
    assert "Traceback" not in end.stderr


def test_a_port_of_another_gateway_is_in_use_although_it_is_shared(tmp_path: Path, new_gateway: New) -> None:
    gateway = new_gateway()
    end = serve("--data", str(tmp_path / "other"), "--proxy", gateway.proxy.removeprefix("http://"))
    assert end.returncode == 2, end.stderr
    assert "is in use" in end.stderr


def test_a_data_folder_in_use_is_exit_2(new_gateway: New) -> None:
    gateway = new_gateway()
    end = serve("--data", str(gateway.data), "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    assert end.returncode == 2
    assert "in use by another gateway" in end.stderr and "--data" in end.stderr


def test_it_serves_with_all_of_its_streams_closed(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        "--data",
        str(tmp_path / "d"),
        "--proxy",
        "127.0.0.1:0",
        "--admin",
        f"127.0.0.1:{port}",
        "--workers",
        "1",
    ]
    closing = ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *AIGW, "serve", *options]
    with subprocess.Popen(closing) as process:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "it is ready")
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0


def answers(url: str) -> bool:
    try:
        return get(url) == 200
    except httpx.TransportError:
        return False


def test_an_access_log_that_cannot_be_written_is_exit_2_before_anything_starts(tmp_path: Path) -> None:
    ports = ("--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    end = serve("--data", str(tmp_path / "d"), "--access-log", str(tmp_path / "nope" / "x"), *ports)
    assert end.returncode == 2, end.stderr
    assert f"--access-log: cannot append to '{tmp_path}/nope/x': No such file or directory" in end.stderr
    assert "started" not in end.stderr and "Traceback" not in end.stderr
    assert not (tmp_path / "d").exists()


def test_an_access_log_may_be_in_a_data_folder_that_is_still_to_be_made(tmp_path: Path, new_gateway: New) -> None:
    gateway = new_gateway("--access-log", str(tmp_path / "data" / "access.log"), data=tmp_path / "data")
    assert get(gateway.proxy + "/nothing") == 404
    wait_until(lambda: (tmp_path / "data" / "access.log").stat().st_size > 0, "the request is in the log")


def test_a_killed_worker_is_replaced_however_often(new_gateway: New) -> None:
    gateway = new_gateway(workers=1)
    for _ in range(4):  # well inside the five seconds in which the server's own supervision would give up
        worker = gateway.children()["worker-1"]
        os.kill(worker, signal.SIGKILL)
        died = gateway.wait_event("died", child="worker-1")
        assert died["pid"] == worker and died["was_ready"]
        gateway.wait_event("ready", child="worker-1")
        assert get(gateway.proxy + "/nothing") == 404
    assert gateway.process.popen.poll() is None


def test_a_worker_that_cannot_be_started_for_a_while_does_not_end_the_gateway(new_gateway: New) -> None:
    gateway = new_gateway(workers=2)
    supervisor = gateway.process.popen.pid
    allowed = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, allowed[1]))
    os.kill(gateway.children()["worker-1"], signal.SIGKILL)
    assert "Too many open files" in str(gateway.wait_event("not_started", child="worker-1")["error"])
    assert get(gateway.proxy + "/nothing") == 404, "the other one serves"
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, allowed)
    gateway.wait_event("ready", child="worker-1")


def test_the_gateway_reclaims_and_logs_the_permits_of_a_killed_worker(new_gateway: New) -> None:
    upstream, url = start_upstream("mock-llm", "--first-byte-ms", "600000")
    try:
        gateway = new_gateway(workers=1)
        gateway.route(url, "/llm")
        gateway.make("/services/s1/plugins", name="rate-limiting", config={"year": 5, "policy": "local"})
        target = urlsplit(gateway.proxy)
        with socket.create_connection((str(target.hostname), int(target.port or 0)), PATIENCE_S) as client:
            body = b'{"model":"m"}'
            head = f"POST /llm/v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            wait_until(lambda: _stats(url)["in_flight"] == 1, "the upstream has the request")
            os.kill(gateway.children()["worker-1"], signal.SIGKILL)
            gateway.wait_event("slots_reclaimed", slots=1, permits=1)
    finally:
        upstream.end()


def test_a_clean_end_reclaims_nothing(new_gateway: New, echo: str) -> None:
    gateway = new_gateway(workers=2)
    gateway.route(echo, "/e")
    gateway.make("/services/s1/plugins", name="rate-limiting", config={"year": 50, "policy": "local"})
    assert [get(gateway.proxy + "/e/get") for _ in range(10)] == [200] * 10
    assert gateway.process.end() == 0
    assert "reclaimed" not in "".join(gateway.process.lines)


def test_a_killed_control_process_comes_back_and_workers_serve_meanwhile(new_gateway: New, echo: str) -> None:
    gateway = new_gateway(workers=1)
    gateway.route(echo, "/e")
    assert get(gateway.proxy + "/e/get") == 200
    os.kill(gateway.children()["control"], signal.SIGKILL)
    assert get(gateway.proxy + "/e/get") == 200
    gateway.wait_event("ready", child="control")
    assert httpx.get(gateway.admin + "/services/s1", trust_env=False).status_code == 200


def test_nothing_is_left_behind_a_killed_supervisor(new_gateway: New) -> None:
    gateway = new_gateway(workers=2)
    children = gateway.children()
    assert set(children) == {"control", "worker-1", "worker-2"}
    gateway.process.end(signal.SIGKILL)
    for name, pid in children.items():
        wait_until(lambda pid=pid: gone(pid), f"{name} is gone")
    again = new_gateway(data=gateway.data)  # lock and slots were let go
    assert get(again.proxy + "/nothing") == 404


def test_all_processes_stay_in_one_session(new_gateway: New) -> None:
    gateway = new_gateway(workers=1)
    sessions = {os.getsid(pid) for pid in [gateway.pid, *gateway.children().values()]}
    assert len(sessions) == 1


def test_sighup_keeps_every_process(new_gateway: New) -> None:
    gateway = new_gateway(workers=2)
    before = gateway.children()
    os.kill(gateway.pid, signal.SIGHUP)
    gateway.wait_event("reload_ignored")  # control was told
    assert gateway.children() == before
    assert get(gateway.proxy + "/nothing") == 404


def test_a_drain_lets_a_request_finish(new_gateway: New) -> None:
    upstream, url = start_upstream("mock-llm", "--first-byte-ms", "700")
    try:
        gateway = new_gateway("--drain-timeout", "20", workers=1)
        gateway.route(url, "/llm")
        status: list[int] = []
        client = threading.Thread(target=lambda: status.append(_ask(gateway.proxy + "/llm/v1/chat/completions")))
        client.start()
        wait_until(lambda: _stats(url)["in_flight"] == 1, "the upstream has the request")
        os.kill(gateway.pid, signal.SIGTERM)
        client.join(PATIENCE_S)
        assert status == [200]
        assert gateway.process.end() == 0
    finally:
        upstream.end()


@pytest.mark.parametrize("second", [False, True], ids=["by the deadline", "by a second signal"])
def test_a_drain_cuts_requests_that_do_not_finish(new_gateway: New, second: bool) -> None:
    upstream, url = start_upstream("mock-llm", "--chunk-ms", "50", "--chunks", "100000")
    try:
        gateway = new_gateway("--drain-timeout", "3600" if second else "0.2", workers=1)
        gateway.route(url, "/llm")
        target = gateway.proxy + "/llm/v1/chat/completions"
        with httpx.stream("POST", target, json={"model": "m", "stream": True}, trust_env=False) as answer:
            pieces = answer.iter_raw()
            assert b"data:" in next(pieces)
            os.kill(gateway.pid, signal.SIGTERM)
            gateway.wait_event("draining")
            if second:
                os.kill(gateway.pid, signal.SIGTERM)
            gateway.wait_event("requests_cut", requests=1)
            with pytest.raises(httpx.RemoteProtocolError):  # a cut stream never looks complete
                for _ in pieces:
                    pass
        assert gateway.process.end() == 0
        wait_until(lambda: _stats(url)["cancelled"] == 1, "the upstream call is cancelled")
    finally:
        upstream.end()


def test_a_terminal_interrupt_drains_too(new_gateway: New) -> None:
    gateway = new_gateway(workers=1)
    os.kill(gateway.pid, signal.SIGINT)
    gateway.wait_event("stopped")
    gateway.process.popen.wait(PATIENCE_S)  # it said so, and ends: no signal of ours may come in between
    assert gateway.process.end() == 0


def test_a_worker_loads_no_control_plane(new_gateway: New) -> None:
    gateway = new_gateway(workers=1)
    maps = Path(f"/proc/{gateway.children()['worker-1']}/maps").read_text()
    assert "_native" in maps
    assert not any(word in maps for word in ("sqlite", "sqlalchemy", "pydantic"))


def _ask(url: str) -> int:
    return httpx.post(url, json={"model": "m"}, trust_env=False, timeout=PATIENCE_S).status_code


def _stats(url: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(url + "/__stats", trust_env=False).json()
    return found
