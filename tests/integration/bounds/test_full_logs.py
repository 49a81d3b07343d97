"""A reader of the logs that stands still: dead workers are replaced, changes are in force, calls are answered, and the end comes in time."""

import fcntl
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import AIGW, PATIENCE_S, Gateway, Process, wait_until
from tests.support.surface import metric

CHANGES = 40
"""Changes of one configuration; the log has a line for each."""


class Unread(Process):
    """A gateway whose logs nobody reads after its start: pipes of one page each."""

    def __init__(self, data: Path) -> None:
        ports = ("--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2")
        command = [*AIGW, "serve", "--data", str(data), *ports, "--log-format", "json", "--access-log", "-"]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pid = self.popen.pid
        self.lines = []
        self._pipe = None
        self._thread = threading.Thread(target=lambda: None)
        self._thread.start()
        assert self.popen.stderr is not None and self.popen.stdout is not None
        for pipe in (self.popen.stdout, self.popen.stderr):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        while not (self.lines and '"serving"' in self.lines[-1]):
            line = self.popen.stderr.readline().decode()
            assert line, self.lines
            self.lines.append(line)

    def read(self) -> str:
        """Read the process log again, to its end."""
        assert self.popen.stderr is not None and self.popen.stdout is not None
        other = threading.Thread(target=self.popen.stdout.read)
        other.start()
        text = self.popen.stderr.read().decode()
        other.join()
        return text

    def close(self) -> None:
        """End the gateway at once, and close the pipes."""
        self.end(signal.SIGKILL)
        for pipe in (self.popen.stdout, self.popen.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    process = Unread(tmp_path / "data")
    serving = json.loads(process.lines[-1])
    running = Gateway(process, tmp_path / "data", f"http://{serving['proxy']}", f"http://{serving['admin']}")
    yield running
    process.close()


def workers(gateway: Gateway) -> list[int]:
    rows = httpx.get(gateway.admin + "/status", trust_env=False, timeout=PATIENCE_S).json()["workers"]
    return [row["pid"] for row in rows if row["state"] == "ready"]


def change(gateway: Gateway, word: str) -> None:
    """Put a configuration in force that differs in `CHANGES` entities."""
    consumers = [{"username": f"user-{n}", "tags": [word * 40]} for n in range(CHANGES)]
    text = json.dumps({"_format_version": "3.0", "consumers": consumers})
    answer = httpx.post(gateway.admin + "/config", json={"config": text}, trust_env=False, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text


def test_logs_that_nobody_reads_hold_nothing_up(gateway: Gateway) -> None:
    words = iter("ab" * 1000)
    while metric(gateway, "aigw_process_log_dropped_total", process="control") == 0:
        change(gateway, next(words))
    before = workers(gateway)
    for pid in before:  # the supervisor has lines to write, too
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(workers(gateway)) - set(before)) == 2, "both are replaced")
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        for _ in range(1000):  # the access log is full, too
            assert client.get(gateway.proxy + "/nothing").status_code == 404
    change(gateway, "c")
    tags = httpx.get(gateway.admin + "/consumers/user-1", trust_env=False, timeout=PATIENCE_S).json()["tags"]
    assert tags == ["c" * 40]
    change(gateway, "d")  # some lines of one change may still find room
    wait_until(
        lambda: metric(gateway, "aigw_process_log_dropped_total", process="control") >= CHANGES,
        "lines are dropped and counted",
    )
    os.kill(gateway.pid, signal.SIGTERM)
    assert gateway.process.popen.wait(15) == 0  # each process waits 1 s for its lines


def test_later_line_tells_of_dropped_ones(gateway: Gateway) -> None:
    words = iter("ab" * 1000)
    while metric(gateway, "aigw_process_log_dropped_total", process="control") == 0:
        change(gateway, next(words))
    assert isinstance(gateway.process, Unread)
    text: list[str] = []
    reader = threading.Thread(target=lambda: text.append(gateway.process.read()))  # type: ignore[attr-defined]
    reader.start()
    for _ in range(3):
        change(gateway, next(words))
    os.kill(gateway.pid, signal.SIGTERM)
    reader.join(PATIENCE_S)
    lines = [json.loads(line) for line in text[0].splitlines()]
    lost = [line for line in lines if line["event"] == "log_dropped"]
    assert lost and lost[0]["process"] == "control" and lost[0]["lines"] > 0
    assert lines[-1]["event"] == "stopped"
