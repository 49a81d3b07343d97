"""Runs a mixed load for a while and looks for growth: `python -m benches.soak --minutes 10`. Exit code 1 for a finding, 2 for a run that
could not be made.

In turns: plain calls and streams with budgets, refusals, routes. Beside them at all times: clients that leave in the middle of a stream,
bodies of 1 MiB, consumers and keys that come and go, and a file that changes. At the end the books are audited.
"""

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benches.load import rig
from benches.load.scenarios import ALL
from benches.soak.samples import Sample, take, verdict

LOADS: Final = tuple(load for load in ALL if load.name in ("W1", "W2", "V1A", "V2B", "V3T", "V3U"))
SLICE_S: Final = 3.0
RELOAD_S: Final = 5.0
"""The gateway waits until a file stops changing."""
LEDGER: Final = {"max_disk": "64MiB"}


class Beside:
    """The clients and the operator beside the load. One thread; a failure ends the run."""

    def __init__(self, server: rig.Server, admin: rig.Admin, file: Path, key: str) -> None:
        self._port = int(server.url.rsplit(":", 1)[1])
        self._admin, self._file, self._key = admin, file, key
        self._text = json.loads(file.read_text())
        self._random = random.Random(1)
        self._stop = threading.Event()
        self.failed: Exception | None = None
        self.changes = 0
        self._thread = threading.Thread(target=self._run, name="beside")
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        works: list[Callable[[], None]] = [self._cut, self._large, self._keys]
        number, reload_at = 0, time.monotonic()
        while not self._stop.wait(0.05):
            try:
                works[number % len(works)]()
                if time.monotonic() >= reload_at:
                    reload_at = time.monotonic() + RELOAD_S
                    self._reload()
            except Exception as error:  # noqa: BLE001 - told by the main thread
                self.failed = error
                return
            number += 1

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)

    def _cut(self) -> None:
        """Leave in the middle of a stream."""
        connection = self._connect()
        body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"apikey": self._key})
        connection.getresponse().read(self._random.randrange(1, 4000))
        connection.close()

    def _large(self) -> None:
        connection = self._connect()
        body = {"model": "bench", "max_tokens": 1, "messages": [{"role": "user", "content": "lorem " * 170_000}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"apikey": self._key})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise rig.BenchError(f"a body of 1 MiB got {answer.status}")
        connection.close()

    def _keys(self) -> None:
        name = f"soak-{self._random.randrange(100)}"
        self._admin.ask("PUT", f"/consumers/{name}", {})
        self._admin.ask("POST", f"/consumers/{name}/key-auth", {})
        self._admin.ask("DELETE", f"/consumers/{name}")

    def _reload(self) -> None:
        self.changes += 1
        tiers = {**self._text["tiers"], "soak": {"limits": [{"requests": 1 + self.changes, "per": "day"}]}}
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({**self._text, "tiers": tiers, "ledger": LEDGER}))
        fresh.rename(self._file)


def soak(folder: Path, minutes: float) -> list[str]:
    """Run it. Returns the findings; prints figures. Raises BenchError."""
    servers: list[rig.Server] = []
    samples: list[Sample] = []
    try:
        mock, upstream = rig.start_mock()
        servers.append(mock)
        gateway, keys, url = rig.start_gateways(upstream, folder, workers=2, cores="0,1", loads=LOADS)
        servers.append(gateway)
        admin = rig.Admin(url)
        rig.write_requests(folder, keys)
        beside = Beside(gateway, admin, folder / "bench.yaml", keys["V3U"][0])
        try:
            end, number = time.monotonic() + minutes * 60, 0
            while time.monotonic() < end:
                rig.run(gateway, LOADS[number % len(LOADS)], folder, SLICE_S)
                number += 1
                if number % len(LOADS) == 0:
                    total = admin.ask("GET", "/status")["server"]["total_requests"]
                    samples.append(take(gateway.pids(), folder / "data", total))
                    left = max(0.0, end - time.monotonic())
                    sys.stderr.write(f"\rsoak: {total} requests, {left:.0f} s left   ")
                if beside.failed is not None:
                    raise rig.BenchError(f"beside the load: {beside.failed}")
        finally:
            beside.end()
        sys.stderr.write("\n")
        return _closing(admin, samples, beside.changes)
    finally:
        for server in reversed(servers):
            server.end()


def _closing(admin: rig.Admin, samples: list[Sample], changes: int) -> list[str]:
    if len(samples) < 4:
        raise rig.BenchError("too short for a verdict: give more minutes")
    lines, findings = verdict(samples)
    audit = admin.ask("GET", "/audit/ledger", timeout=600)
    if audit["differences"]:
        findings.append(f"the audit found differences: {audit['differences'][:3]}")
    lines.append(f"{samples[-1].requests} requests, {changes} changed files, audit: {audit['checked']}")
    sys.stdout.write("\n".join(lines) + "\n")
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.soak")
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aigw-soak-") as name:
        try:
            findings = soak(Path(name), options.minutes)
        except rig.BenchError as error:
            sys.stderr.write(f"soak: {error}\n")
            return 2
    for finding in findings:
        sys.stderr.write(f"soak: {finding}\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
