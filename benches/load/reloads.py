"""Measures the cost of reloads to callers: `python -m benches.load.reloads --consumers 5000 --rounds 7 --seconds 5`.

One gateway with one worker, all its processes on one core, N consumers in its configuration file, under the steady load V1. Rounds
are interleaved: one without reloads, one with the file rewritten once per second with another limit of the called tier. A reload that
takes longer than a second may cover several writes: `generations` counts the loads. A failed request makes the run invalid and ends
it.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from benches.load import rig
from benches.load.changes import call, file_of
from benches.load.report import keep
from benches.load.scenarios import KEYS, LUA, SCENARIOS

LOAD: Final = next(load for load in SCENARIOS if load.name == "V1")
LIMITS: Final = (1_000_000_000, 2_000_000_000)
EVERY_S: Final = 1.0
QUIET_S: Final = 2.0


class Reloads:
    """Context manager: writes the file once per second, alternating between two limits."""

    def __init__(self, file: Path, texts: tuple[str, str]) -> None:
        self._file, self._texts = file, texts
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.written = 0

    def __enter__(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self.written += 1
            draft = self._file.with_suffix(".draft")
            draft.write_text(self._texts[self.written % 2])
            draft.replace(self._file)
            if self._stop.wait(EVERY_S):
                return


def one_round(gateway: rig.Server, folder: Path, seconds: float) -> dict[str, Any]:
    """Run one round. Returns its measures and the worker's share of the processor time."""
    before = gateway.cpu_ns("serve.worker")
    found = rig.run(gateway, LOAD, folder, seconds)
    worker = (gateway.cpu_ns("serve.worker") - before) / 1000 / found.requests
    return {**asdict(found), "worker_us_per_request": worker, "failed": 0}


def settled(admin: str) -> int:
    """The generation in force after `QUIET_S` seconds without a change."""
    seen, since = -1, time.monotonic()
    while time.monotonic() < since + QUIET_S:
        if (now := int(call("GET", f"{admin}/status")["configuration"]["generation"])) != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.1)
    return seen


def measure(consumers: int, rounds: int, seconds: float, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rounds with and without reloads."""
    mock, upstream = rig.start_mock()
    servers = [mock]
    try:
        texts = (file_of(consumers, upstream, LIMITS[0]), file_of(consumers, upstream, LIMITS[1]))
        file = folder / "tiers.yaml"
        file.write_text(texts[0])
        gateway, admin = rig.serve(file, folder / "data")
        servers.append(gateway)
        (folder / "load.lua").write_text(LUA)
        lines = [f"key-of-consumer-{number}\t{LOAD.body(number)}\n" for number in range(min(KEYS, consumers))]
        (folder / f"{LOAD.name}.txt").write_text("".join(lines))
        rig.run(gateway, LOAD, folder, 1)
        found: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
        reloads = Reloads(file, texts)
        for number in range(rounds):
            for kind in ("without", "with") if number % 2 == 0 else ("with", "without"):
                before, written = settled(admin), reloads.written
                with reloads if kind == "with" else nullcontext():
                    row = one_round(gateway, folder, seconds)
                after = settled(admin)
                row |= {"files_written": reloads.written - written, "generations": after - before}
                if (after > before) != (kind == "with"):
                    raise rig.BenchError(
                        f"{row['files_written']} files were written, {after - before} reloads came of it"
                    )
                found[kind].append(row)
                sys.stderr.write(
                    f"round {number + 1} {kind} reloads: {row['requests_per_second']:,.0f} req/s, p50 {row['p50_us']} us, "
                    f"p99 {row['p99_us']} us, {row['cpu_us_per_request']:.1f} us/req ({after - before} reloads)\n"
                )
    finally:
        for server in reversed(servers):
            server.end()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load.reloads")
    parser.add_argument("--consumers", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aigw-bench-") as name:
        try:
            found = measure(options.consumers, options.rounds, options.seconds, Path(name))
        except (rig.BenchError, OSError) as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
    names = (
        "requests_per_second",
        "p50_us",
        "p99_us",
        "cpu_us_per_request",
        "worker_us_per_request",
        "generations",
        "failed",
    )
    medians = {kind: {n: round(median(row[n] for row in rows), 1) for n in names} for kind, rows in found.items()}
    command = (
        f"python -m benches.load.reloads --consumers {options.consumers} --rounds {options.rounds} "
        f"--seconds {options.seconds:g}"
    )
    path = keep("reloads", command, {"consumers": options.consumers, "medians": medians, "rounds": found})
    sys.stdout.write(f"{json.dumps(medians, indent=1)}\nwritten to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
