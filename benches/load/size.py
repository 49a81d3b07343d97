"""Measures a gateway with very many keys: `python -m benches.load.size --consumers 300000 [--by file|post|admin|each]`.

N consumers with a key each come from the configuration file (`file`), from a text to `POST /config` (`post`), from the store as the Admin
API leaves it (`admin`), or one by one through the Admin API over 16 connections (`each`). Measured at the client: the load; a limit
of one tier changed there, until a request shows it; a line more above the consumers. Each step has its seconds, the processor
seconds of the control process, and its memory: at the peak of the step, and 5 s after it. `benches.load.changes` measures single
changes through the Admin API.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benches.load import rig
from benches.load.changes import call, file_of
from benches.load.keys import fill
from benches.load.report import keep

ROUNDS = 3
CONNECTIONS = 16
CALM_S = 5.0
LOAD_S = 600.0
FIRST = "key-of-consumer-1"


class Steps:
    """The steps of one gateway, with the memory of its control process in MiB."""

    def __init__(self, gateway: rig.Server) -> None:
        self.gateway = gateway
        self.found: dict[str, dict[str, float]] = {}

    def __call__(self, name: str, work: Callable[[], object]) -> None:
        pid = self._control()
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins at the present size
        started, cpu = time.perf_counter(), self._cpu_s()
        work()
        self.note(name, time.perf_counter() - started, cpu)

    def note(self, name: str, seconds: float, cpu_before: float = 0.0) -> None:
        """Note a step that has just ended."""
        cpu = self._cpu_s() - cpu_before
        time.sleep(CALM_S)
        self.found[name] = {"s": round(seconds, 2), "control_cpu_s": round(cpu, 2), **self.memory()}
        sys.stderr.write(f"{name}: {self.found[name]}\n")

    def memory(self) -> dict[str, float]:
        text = Path(f"/proc/{self._control()}/status").read_text()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.endswith(" kB")}
        names = {"peak_mib": "VmHWM", "rss_mib": "VmRSS", "own_mib": "RssAnon"}
        return {ours: round(kib[name] / 1024) for ours, name in names.items()}

    def _cpu_s(self) -> float:
        return self.gateway.cpu_ns("control_process") / 1e9

    def _control(self) -> int:
        return next(p for p in self.gateway.pids() if b"control_process" in Path(f"/proc/{p}/cmdline").read_bytes())


def post(url: str, text: str) -> None:
    """Send a configuration."""
    request = Request(url, text.encode(), {"content-type": "application/yaml"}, method="POST")
    with urlopen(request, timeout=LOAD_S) as answer:
        answer.read()


class Run:
    """One gateway whose consumers come by one way, and changes by the same way."""

    def __init__(self, consumers: int, by: str, folder: Path, upstream: int) -> None:
        self.by = by
        self.folder = folder
        self.file, self.data = folder / "tiers.yaml", folder / "data"
        self.proxy, admin = rig.free_port(), rig.free_port()
        self.command = [sys.executable, "-P", "-m", "aigw", "serve", "--data", str(self.data), "--workers", "2"]
        self.command += ["--proxy", f"127.0.0.1:{self.proxy}", "--admin", f"127.0.0.1:{admin}"]
        self.api, self.v1 = f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{self.proxy}/v1"
        self.texts = {
            n: file_of(consumers if by in ("file", "post") else 0, upstream, n) for n in range(1000, 1001 + ROUNDS)
        }
        self.key = FIRST
        if by == "file":
            self.file.write_text(self.texts[1000])
            self.command += ["--config", str(self.file)]

    def start(self) -> rig.Server:
        return rig.Server(
            "gateway", self.command, "0,1", self.proxy, {"AIGW_MAX_CONFIG_BYTES": str(2**30)}, start_s=LOAD_S
        )

    def fill(self, consumers: int) -> None:
        """Give the store consumers and keys, as the Admin API writes them."""
        first = self.start()
        post(f"{self.api}/config", self.texts[1000].replace("consumers:", ""))
        call("PUT", f"{self.api}/tiers/other", {"limits": [{"requests": 1000, "per": "day"}]})
        first.end()
        fill(self.data / "store.db", consumers)

    def join(self) -> None:
        """A consumer of the tier that changes."""
        call("POST", f"{self.api}/consumers", {"username": "mover"})
        self.key = call("POST", f"{self.api}/consumers/mover/key-auth", {})["key"]
        call("POST", f"{self.api}/consumers/mover/consumer_groups", {"group": "other"})

    def each(self, consumers: int) -> None:
        """Make consumers with a key each, over several connections."""
        left = iter(range(consumers))

        def work() -> None:
            for n in left:
                call("POST", f"{self.api}/consumers", {"username": f"c-{n}"})
                call("POST", f"{self.api}/consumers/c-{n}/key-auth", {"key": f"key-of-consumer-{n}"})

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for done in [pool.submit(work) for _ in range(CONNECTIONS)]:
                done.result()

    def change(self, limit: int, head: str = "") -> None:
        """Change the tier, and wait until a request shows it."""
        if self.by in ("admin", "each"):
            call("PUT", f"{self.api}/tiers/other", {"limits": [{"requests": limit, "per": "day"}]})
        elif self.by == "post":
            post(f"{self.api}/config", head + self.texts[limit])
        else:
            (self.folder / "draft").write_text(head + self.texts[limit])
            (self.folder / "draft").replace(self.file)
        end = time.monotonic() + LOAD_S
        while call("GET", f"{self.v1}/limits", key=self.key)["data"][0]["limit"] != limit:
            if time.monotonic() > end:
                raise rig.BenchError("a change is not in force")
            time.sleep(0.005)

    def read(self, path: str) -> None:
        with urlopen(f"{self.api}{path}", timeout=60) as answer:
            answer.read()


def measure(consumers: int, by: str, folder: Path) -> dict[str, Any]:
    """Run all steps on one gateway."""
    mock, upstream = rig.start_mock()
    servers = [mock]
    try:
        run = Run(consumers, by, folder, upstream)
        if by == "admin":
            run.fill(consumers)
        began = time.perf_counter()
        gateway = run.start()
        servers.append(gateway)
        steps = Steps(gateway)
        steps.note("start", time.perf_counter() - began)
        if by == "each":
            post(f"{run.api}/config", run.texts[1000].replace("consumers:", ""))
            call("PUT", f"{run.api}/tiers/other", {"limits": [{"requests": 1000, "per": "day"}]})
            steps("load", partial(run.each, consumers))
        if by in ("admin", "each"):
            run.join()
        elif by == "post":
            steps("load", lambda: run.change(1000))
        for n in range(1001, 1001 + ROUNDS):
            steps(f"tier changed {n - 1000}", partial(run.change, n))
        if by in ("file", "post"):
            steps("a line more", lambda: run.change(1000, "# one line more\n"))
        for path in ("/metrics", "/usage?group_by=consumer"):
            steps(f"GET {path}", partial(run.read, path))
        workers = {role: round(kib / 1024) for role, kib in gateway.rss_kib().items() if "worker" in role}
        return {"bytes": len(run.texts[1000]), **steps.found, "workers_mib": workers}
    finally:
        for server in reversed(servers):
            server.end()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load.size")
    parser.add_argument("--consumers", type=int, default=300_000)
    parser.add_argument("--by", choices=("file", "post", "admin", "each"), default="file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aigw-bench-") as name:
        try:
            results = measure(options.consumers, options.by, Path(name))
        except (rig.BenchError, OSError) as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
    command = f"python -m benches.load.size --consumers {options.consumers} --by {options.by}"
    path = keep("size", command, {"consumers": options.consumers, "by": options.by, **results})
    sys.stdout.write(f"{json.dumps(results, indent=1)}\nwritten to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
