"""Measures how soon a new key opens: `python -m benches.load.keys --consumers 1000000`.

A gateway with two workers and a store of N consumers with one key each (written into the store directly: a file of that size would
exceed the bound). The client makes keys through the Admin API, one by one, and uses each at once. It measures the time of the Admin
API's answer, and the time from the start of that call to the answer of the first call with the key.
"""

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from secrets import token_bytes
from uuid import uuid4

import orjson

from benches.load import rig
from benches.load.changes import call
from benches.load.report import keep

ROUNDS = 200
START_S = 180.0


def bodies(consumers: int) -> Iterator[tuple[tuple[object, ...], tuple[object, ...]]]:
    """Rows of consumers and their keys, in the form that the Admin API writes."""
    now = int(time.time())
    for n in range(1, consumers + 1):
        mine, key = str(uuid4()), str(uuid4())
        names = {"username": f"c-{n}", "custom_id": None, "tags": None}
        body = {"id": mine, "created_at": now, "updated_at": now, **names}
        about = {"consumer": {"id": mine}, "key": None, "key_hint": "...", "tags": None, "ttl": None}
        credential = {"id": key, "created_at": now, **about}
        yield (
            (n, mine, f"c-{n}", orjson.dumps(body).decode()),
            (n, key, mine, token_bytes(32), orjson.dumps(credential).decode()),
        )


def fill(store: Path, consumers: int) -> None:
    """Insert consumers into a store without any."""
    with closing(sqlite3.connect(store)) as connection, connection:
        rows = bodies(consumers)
        while part := list(islice(rows, 20_000)):
            connection.executemany(
                "INSERT INTO consumers (n, id, username, body) VALUES (?, ?, ?, ?)", (mine for mine, _ in part)
            )
            connection.executemany(
                "INSERT INTO keyauth_credentials (n, id, consumer, hash, expires_at, body) VALUES (?, ?, ?, ?, 0, ?)",
                (key for _, key in part),
            )


def measure(consumers: int, folder: Path) -> dict[str, object]:
    """Run all measurements on one gateway."""
    proxy, admin = rig.free_port(), rig.free_port()
    command = [sys.executable, "-P", "-m", "aigw", "serve", "--data", str(folder / "data"), "--workers", "2"]
    command += ["--proxy", f"127.0.0.1:{proxy}", "--admin", f"127.0.0.1:{admin}"]
    api, service = f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{proxy}/bench"
    mock, upstream = rig.start_mock()
    servers = [mock, rig.Server("gateway", command, "0,1", proxy)]
    try:
        call("POST", f"{api}/services", {"name": "bench", "url": f"http://127.0.0.1:{upstream}/v1/models"})
        call("POST", f"{api}/services/bench/routes", {"name": "bench", "paths": ["/bench"]})
        call("POST", f"{api}/services/bench/plugins", {"name": "key-auth"})
        call("POST", f"{api}/consumers", {"username": "one"})
        servers.pop().end()
        fill_from = folder / "data" / "store.db"
        with closing(sqlite3.connect(fill_from)) as connection, connection:
            connection.execute("UPDATE consumers SET n = n + ?", (consumers,))
        fill(fill_from, consumers)
        started = time.perf_counter()
        gateway = rig.Server("gateway", command, "0,1", proxy, start_s=START_S)
        servers.append(gateway)
        results: dict[str, object] = {"start_s": round(time.perf_counter() - started, 2)}
        os.sync()  # flush the fill, so it does not slow the measured changes
        made, used = [], []
        for _ in range(ROUNDS):
            at = time.perf_counter()
            key = call("POST", f"{api}/consumers/one/key-auth", {})["key"]
            made.append(time.perf_counter() - at)
            call("GET", f"{service}?apikey={key}")
            used.append(time.perf_counter() - at)
        for name, times in (("admin answered", made), ("key used", used)):
            first = round(times[0] * 1000, 1)
            times.sort()
            middle, late, worst = (round(times[n] * 1000, 1) for n in (ROUNDS // 2, ROUNDS * 99 // 100, -1))
            results[name] = {"first_ms": first, "median_ms": middle, "p99_ms": late, "worst_ms": worst}
        results["rss_mib"] = {role: round(kib / 1024) for role, kib in gateway.rss_kib().items()}
        return results
    finally:
        for server in reversed(servers):
            server.end()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load.keys")
    parser.add_argument("--consumers", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aigw-bench-") as name:
        try:
            results = measure(options.consumers, Path(name))
        except (rig.BenchError, OSError) as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
    command = f"python -m benches.load.keys --consumers {options.consumers}"
    path = keep("keys", command, {"consumers": options.consumers, "rounds": ROUNDS, **results})
    sys.stdout.write(path.read_text() + f"written to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
