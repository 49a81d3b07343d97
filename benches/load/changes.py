"""Measures the time until a change is in force: `python -m benches.load.changes --consumers 100000`.

A gateway with two workers and N consumers in its configuration file. Measured at the client: the start; a key added, a consumer moved
and a tier changed through the Admin API (the API answers when the change is in force); a tier changed in the file (until a request
shows it). `benches.load.reloads` measures the cost of reloads to callers.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from benches.load import rig
from benches.load.report import keep

ROUNDS = 20
_OPENER = build_opener(ProxyHandler({}))


def call(method: str, url: str, body: object = None, key: str | None = None) -> dict[str, Any]:
    """Send one request and return the JSON of its answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    with _OPENER.open(Request(url, data, headers, method=method), timeout=60) as answer:
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found


def file_of(consumers: int, upstream: int, limit: int) -> str:
    """The configuration. A reload changes `limit`."""
    lines = [
        "models:",
        f"  bench: {{upstreams: [{{url: 'http://127.0.0.1:{upstream}/v1'}}]}}",
        "tiers:",
        f"  base: {{limits: [{{requests: {limit}, per: day}}]}}",
        "consumers:",
    ]
    lines += [
        f"  - {{username: c-{n}, tier: base, keyauth_credentials: [{{key: key-of-consumer-{n}}}]}}"
        for n in range(consumers)
    ]
    return "\n".join(lines) + "\n"


def times(work: Callable[[int], None]) -> dict[str, float]:
    """Median and worst of the rounds, in milliseconds."""
    found = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        work(number)
        found.append((time.perf_counter() - started) * 1000)
    return {"median_ms": round(median(found), 1), "worst_ms": round(max(found), 1)}


def measure(consumers: int, folder: Path, results: dict[str, Any]) -> None:
    """Run all measurements on one gateway."""
    mock, upstream = rig.start_mock()
    servers = [mock]
    try:
        file = folder / "tiers.yaml"
        file.write_text(file_of(consumers, upstream, 1_000_000))
        proxy, admin = rig.free_port(), rig.free_port()
        command = [sys.executable, "-P", "-m", "aigw", "serve", "--data", str(folder / "data"), "--workers", "2"]
        command += ["--config", str(file), "--proxy", f"127.0.0.1:{proxy}", "--admin", f"127.0.0.1:{admin}"]
        started = time.perf_counter()
        gateway = rig.Server("gateway", command, "0,1", proxy)
        servers.append(gateway)
        results["first start_s"] = round(time.perf_counter() - started, 2)
        api, v1 = f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{proxy}/v1"
        for name in ("one", "two"):
            call("PUT", f"{api}/tiers/{name}", {"limits": [{"requests": 1000, "per": "day"}]})
        call("POST", f"{api}/consumers", {"username": "mover"})
        key = call("POST", f"{api}/consumers/mover/key-auth", {})["key"]

        def add(number: int) -> None:
            made = call("POST", f"{api}/consumers/mover/key-auth", {})["key"]
            call("GET", f"{v1}/limits", key=made) if number else None

        def move(number: int) -> None:
            call("POST", f"{api}/consumers/mover/consumer_groups", {"group": ("one", "two")[number % 2]})

        def change(number: int) -> None:
            call("PUT", f"{api}/tiers/one", {"limits": [{"requests": 1000 + number, "per": "day"}]})

        def rewrite(number: int) -> None:
            wanted = 2_000_000 + number
            draft = folder / "draft"
            draft.write_text(file_of(consumers, upstream, wanted))
            draft.replace(file)
            end = time.monotonic() + 60
            while call("GET", f"{v1}/limits", key="key-of-consumer-1")["data"][0]["limit"] != wanted:
                if time.monotonic() > end:
                    raise rig.BenchError("a changed file was not in force within a minute")
                time.sleep(0.005)

        move(0)
        results["key added"] = times(add)
        results["consumer moved"] = times(move)
        results["tier changed, Admin API"] = times(change)
        if call("GET", f"{v1}/limits", key=key)["data"][0]["limit"] not in (1000, 1000 + ROUNDS - 1):
            raise rig.BenchError("the change of a tier was not in force")
        results["tier changed, file"] = times(rewrite)
        results["rss_mib"] = {role: round(kib / 1024) for role, kib in gateway.rss_kib().items()}
        gateway.end()
        servers.remove(gateway)
        started = time.perf_counter()
        again = rig.Server("gateway", command, "0,1", proxy)
        servers.append(again)
        results["start with a known file_s"] = round(time.perf_counter() - started, 2)
    finally:
        for server in reversed(servers):
            server.end()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load.changes")
    parser.add_argument("--consumers", type=int, default=100_000)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="aigw-bench-") as name:
        try:
            measure(options.consumers, Path(name), results)
        except (rig.BenchError, OSError) as error:
            sys.stderr.write(f"bench: {error}\n{results}\n")
            return 1
    command = f"python -m benches.load.changes --consumers {options.consumers}"
    path = keep("changes", command, {"consumers": options.consumers, **results})
    sys.stdout.write(path.read_text() + f"written to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
