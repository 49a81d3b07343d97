"""The parts of a run: gateway, nginx and mock, each pinned to a core; their costs; the client.

Out: `Measure` per run. CPU is the run time of all threads of all processes of the server (supervisor, control and workers;
nginx master and worker), from the scheduler's counters. This module starts all processes and ends them by pid.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from benches.load.scenarios import ALL, CHUNKS, KEYS, LUA, SCENARIOS, Scenario, configuration, nginx_conf

SERVER_CORE, CLIENT_CORE = "0", "1"
CONNECTIONS = 32
START_S = 30.0


class BenchError(Exception):
    """The run is invalid: an unexpected answer, or a part that did not start."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One run of one server under one load."""

    requests: int
    requests_per_second: float
    cpu_us_per_request: float
    p50_us: int
    p99_us: int
    rss_kib: dict[str, int]


class Server:
    """A server under load: its processes and its URL."""

    def __init__(
        self,
        name: str,
        command: list[str],
        core: str,
        port: int,
        env: dict[str, str] | None = None,
        start_s: float = START_S,
    ) -> None:
        self.name = name
        self.counted = ""
        """A part of the command lines of the processes whose time counts; empty: of all."""
        self.url = f"http://127.0.0.1:{port}"
        self._popen = subprocess.Popen(
            ["taskset", "-c", core, *command], stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})}
        )
        wait(lambda: _answers(port), f"{name} answers on port {port}", self._popen, start_s)

    def pids(self) -> list[int]:
        found = [self._popen.pid]
        for pid in found:
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def cpu_ns(self, role: str = "") -> int:
        """Processor time, in nanoseconds, of all processes of the server, or of those with `role` in their command lines."""
        pids = [pid for pid in self.pids() if role.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
        tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(map(_thread_ns, tasks))

    def count_workers_alone(self) -> None:
        """Move the control process to the client's core, and count the time of workers only."""
        self.counted = "serve.worker"
        for pid in self.pids():
            if b"control_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                for task in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), {int(CLIENT_CORE)})

    def rss_kib(self) -> dict[str, int]:
        rss = {}
        for pid in self.pids():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            role = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            known = [
                word for word in ("serve.worker", "serve.control", "nginx: worker", "nginx: master") if word in role
            ]
            kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
            rss[f"{known[0] if known else self.name} {pid}"] = kib
        return rss

    def end(self) -> None:
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def wait(
    happened: Callable[[], bool],
    what: str,
    process: "subprocess.Popen[bytes] | None" = None,
    seconds: float = START_S,
) -> None:
    end = time.monotonic() + seconds
    while not happened():
        if (process is not None and process.poll() is not None) or time.monotonic() > end:
            raise BenchError(f"waited in vain until {what}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _thread_ns(task: Path) -> int:
    """Processor time of a thread; 0 of one that has ended since it was listed."""
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def start_mock() -> tuple[Server, int]:
    port = free_port()
    command = [sys.executable, "-P", "-m", "aigw", "mock-llm", "--port", str(port), "--chunks", str(CHUNKS)]
    return Server("mock", command, CLIENT_CORE, port), port


def start_nginx(upstream: int, folder: Path) -> Server:
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(nginx_conf(port, upstream, str(folder)))
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    return Server("nginx", [nginx, "-p", str(folder), "-c", str(conf)], SERVER_CORE, port)


def certificate(folder: Path) -> dict[str, str]:
    """Make a certificate with an ECDSA key. Returns the variables by which a gateway takes TLS with it."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return {"AIGW_TLS_CERT": str(chain), "AIGW_TLS_KEY": str(key)}


def serve(
    file: Path, data: Path, python: str = sys.executable, workers: int = 1, cores: str = SERVER_CORE
) -> tuple[Server, str]:
    """Start a gateway with this configuration file. Returns it and the URL of its Admin API."""
    proxy, admin = free_port(), free_port()
    command = [
        python,
        "-P",
        "-m",
        "aigw",
        "serve",
        "--data",
        str(data),
        "--workers",
        str(workers),
        "--config",
        str(file),
    ]
    command += ["--proxy", f"127.0.0.1:{proxy}", "--admin", f"127.0.0.1:{admin}"]
    return Server("gateway", command, cores, proxy), f"http://127.0.0.1:{admin}"


def start_gateway(
    upstream: int, folder: Path, python: str = sys.executable, loads: tuple[Scenario, ...] = SCENARIOS
) -> tuple[Server, dict[str, list[str]]]:
    """Start the gateway for these loads with one worker. Also returns keys by load; loads without a policy have no keys."""
    server, keys, _ = start_gateways(upstream, folder, python, loads)
    return server, keys


def start_gateways(
    upstream: int,
    folder: Path,
    python: str = sys.executable,
    loads: tuple[Scenario, ...] = SCENARIOS,
    workers: int = 1,
    cores: str = SERVER_CORE,
) -> tuple[Server, dict[str, list[str]], str]:
    """Start the gateway for these loads: those on /v1 from its configuration file, the others through its Admin API, whose URL comes back,
    too."""
    keys = {load.name: [f"{load.name}-{token_hex(12)}" for _ in range(KEYS)] for load in loads if load.v1}
    file = folder / "bench.yaml"
    file.write_text(configuration(upstream, keys))
    server, admin = serve(file, folder / "data", python, workers, cores)
    call = Admin(admin)
    on_routes = [load for load in loads if not load.v1]
    for load in on_routes:
        call("/services", name=load.name, url=f"http://127.0.0.1:{upstream}")
        call(f"/services/{load.name}/routes", name=load.name, paths=[load.path])
        keys[load.name] = ["none"] * KEYS
        if load.limits is not None:
            call(f"/routes/{load.name}/plugins", name="key-auth")
            call(f"/routes/{load.name}/plugins", name="rate-limiting", config={**load.limits, "policy": "local"})
    for number in range(KEYS):
        call("/consumers", username=f"bench-{number}")
        key = call(f"/consumers/bench-{number}/key-auth")["key"]
        for load in on_routes:
            if load.limits is not None:
                keys[load.name][number] = key
    return server, keys, admin


class Admin:
    """A client of the Admin API. `ask` sends a request, a call POSTs one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = build_opener(ProxyHandler({}))

    def __call__(self, path: str, **body: object) -> dict[str, Any]:
        return self.ask("POST", path, body)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 30) -> dict[str, Any]:
        """The JSON of the answer; empty for an answer without a body."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, {"content-type": "application/json"}, method=method)
        with self._opener.open(request, timeout=timeout) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found


def write_requests(folder: Path, keys: dict[str, list[str]]) -> None:
    """Write the client's script, and one line (key, body) per request of each load."""
    (folder / "load.lua").write_text(LUA)
    for load in (load for load in ALL if load.name in keys):
        lines = [f"{keys[load.name][number]}\t{load.body(number)}\n" for number in range(KEYS)]
        (folder / f"{load.name}.txt").write_text("".join(lines))


def run(server: Server, load: Scenario, folder: Path, seconds: float) -> Measure:
    """Run one load. Raises BenchError for any unexpected answer."""
    command = [
        "taskset",
        "-c",
        CLIENT_CORE,
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{max(1, round(seconds))}s",
        "--latency",
    ]
    command += ["-s", str(folder / "load.lua"), server.url]
    command += ["--", str(folder / f"{load.name}.txt"), load.target(server.name)]
    before = server.cpu_ns(server.counted)
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu_ns = server.cpu_ns(server.counted) - before
    result = json.loads(next(line for line in output.splitlines() if line.startswith("RESULT "))[7:])
    requests = result["requests"]
    broken = {name: result[name] for name in ("connect", "read", "write", "timeout") if result[name]}
    # The first call of each key passes (nginx: one per minute); all later calls must be refused.
    passed = requests - result["status"] if load.refused else result["status"]
    if broken or not requests or passed > (2 * KEYS if load.refused else 0):
        raise BenchError(f"{load.name} on {server.name}: unexpected answers: {result}")
    return Measure(
        requests=requests,
        requests_per_second=requests / (result["duration_us"] / 1e6),
        cpu_us_per_request=cpu_ns / 1000 / requests,
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        rss_kib=server.rss_kib(),
    )
