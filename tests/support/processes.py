"""Starts the real gateway and real upstreams for tests, waits for their output, ends them by their pids.

In: arguments of the command line. Out: handles with URLs. Nothing sleeps for a fixed time: a process is ready when its output says so.
"""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx

AIGW = [sys.executable, "-P", "-m", "aigw"]
PATIENCE_S = 30.0  # seconds; a bound for hanging processes, never a measurement


class Process:
    """A child process. A thread reads the lines of one stream, and tests can wait for them."""

    def __init__(
        self, command: list[str], *, stream: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """`stream`: stdout, stderr, or both as one."""
        pipes = {"stdout": None if stream == "stderr" else subprocess.PIPE}
        pipes["stderr"] = {"stdout": None, "stderr": subprocess.PIPE, "both": subprocess.STDOUT}[stream]
        self.popen = subprocess.Popen(command, text=True, cwd=cwd, env={**os.environ, **(env or {})}, **pipes)
        self.pid = self.popen.pid
        self.lines: list[str] = []
        self._fresh: queue.Queue[str | None] = queue.Queue()
        self._pipe = self.popen.stderr if stream == "stderr" else self.popen.stdout
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._pipe is not None
        for line in self._pipe:
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put(None)

    def wait_line(self, wanted: Callable[[str], bool]) -> str:
        """The next line that is `wanted` and was not returned before. Fails at the end of the stream or after `PATIENCE_S`."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._fresh.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited in vain; the process said:\n{''.join(self.lines)}") from None
            if line is None:
                raise AssertionError(f"the process ended ({self.popen.poll()}); it said:\n{''.join(self.lines)}")
            if wanted(line):
                return line

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process and wait for its status. Kills it after a timeout."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            self.popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._thread.join(PATIENCE_S)
        if self._pipe is not None:
            self._pipe.close()
        return self.popen.returncode


@dataclass
class Gateway:
    """A running gateway. URLs without a trailing slash."""

    process: Process
    data: Path
    proxy: str = ""
    admin: str = ""
    secure: str = ""
    """The TLS address beside the plain one; empty without `--proxy-tls`."""
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_event(self, name: str, **facts: object) -> dict[str, Any]:
        """The next event of the process log with this name and these facts."""

        def wanted(line: str) -> bool:
            event = json.loads(line) if line.startswith("{") else {}
            self.events.append(event)
            return event.get("event") == name and all(event.get(key) == value for key, value in facts.items())

        return json.loads(self.process.wait_line(wanted))

    def children(self) -> dict[str, int]:
        """Name (`control`, `worker-1`, ...) -> pid of the children that are ready according to the log."""
        found = {}
        for line in self.process.lines:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "ready":
                found[event["child"]] = event["pid"]
        return found

    def make(self, path: str, **body: object) -> dict[str, Any]:
        """POST a JSON body to the Admin API. Returns the new entity."""
        answer = httpx.post(self.admin + path, json=body, trust_env=False)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def route(self, url: str, path: str, name: str = "s1") -> None:
        """Create a service at `url` with a route at `path`."""
        self.make("/services", name=name, url=url)
        self.make(f"/services/{name}/routes", name=f"{name}-route", paths=[path])


def start_gateway(
    data: Path,
    *arguments: str,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Gateway:
    """Start `aigw serve` on free ports and wait until it serves. End it with `.process.end()`. `prefix`: a command that becomes it."""
    command = [*prefix, *AIGW, "serve", "--data", str(data), "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--workers", str(workers), "--log-format", "json", *arguments]
    gateway = Gateway(Process(command, stream="stderr", env=env), data)
    try:
        serving = gateway.wait_event("serving")
    except AssertionError:
        gateway.process.end(signal.SIGKILL)
        raise
    gateway.proxy, gateway.admin = f"http://{serving['proxy']}", f"http://{serving['admin']}"
    gateway.secure = f"https://{serving['proxy_tls']}" if "proxy_tls" in serving else ""
    return gateway


def start_upstream(verb: str, *arguments: str) -> tuple[Process, str]:
    """Start `aigw mock-llm` or `aigw echo` on a free port. Returns the process and its URL."""
    process = Process([*AIGW, verb, "--port", "0", *arguments], stream="stdout")
    line = process.wait_line(lambda line: " on http://" in line)
    return process, line.rsplit(" on ", 1)[1].strip()


@dataclass
class Demo:
    """The processes of `make run`, on free ports: URLs without a trailing slash, and keys by variable name."""

    process: Process
    folder: Path
    ports: dict[int, int]
    keys: dict[str, str]

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.ports[8000]}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.ports[8001]}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point commands to this demo."""
        return {"AIGW_PROXY": self.proxy.removeprefix("http://"), "AIGW_ADMIN": self.admin.removeprefix("http://")}

    def here(self, text: str) -> str:
        """A command line of the documentation with this demo's ports."""
        for usual, ours in self.ports.items():
            text = re.sub(rf"(127\.0\.0\.1|localhost):{usual}\b", rf"\1:{ours}", text)
        return text


def start_demo(place: Path, *file: str) -> Demo:
    """Start `aigw demo [FILE]` in a folder that its commands accept as the checkout. End it with `.process.end()`."""
    for name in (".venv", "deploy"):
        if not (place / name).exists():
            (place / name).symlink_to(Path(__file__).parents[2] / name)
    free = free_ports(4)
    ports = dict(zip((8000, 8001, 9100, 5000), free, strict=True))
    options = zip(("--proxy-port", "--admin-port", "--llm-port", "--echo-port"), map(str, free), strict=True)
    command = [*AIGW, "demo", *file, *(word for option in options for word in option)]
    process = Process(command, stream="both", cwd=place)
    try:
        process.wait_line(lambda line: "Ctrl-C ends everything" in line)
    except AssertionError:
        process.end()
        raise
    kept = place / ".aigw-demo/keys"
    lines = kept.read_text().splitlines() if kept.exists() else []
    keys = dict(line.removeprefix("export ").split("=", 1) for line in lines if not line.startswith("#"))
    return Demo(process, place / ".aigw-demo", ports, keys)


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody has at this moment."""
    with contextlib.ExitStack() as held:
        return [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def start_collector(*arguments: str) -> tuple[Process, str]:
    """Start an OpenTelemetry collector on a free port. Returns the process, whose lines are the exports, and its URL."""
    program = Path(__file__).with_name("collector.py")
    process = Process([sys.executable, "-P", str(program), *arguments], stream="stdout")
    return process, process.wait_line(lambda line: " on http://" in line).rsplit(" on ", 1)[1].strip()


def start_httpbin() -> tuple[Process, str]:
    """Start the real httpbin on a free port. Returns the process and its URL."""
    command = [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:0", "-k", "gthread", "--threads", "16", "httpbin:app"]
    process = Process(command, stream="stderr")
    line = process.wait_line(lambda line: "Listening at: http://" in line)
    return process, line.split("Listening at: ", 1)[1].split()[0]


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie counts as ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Poll a condition that no event announces."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.02)
