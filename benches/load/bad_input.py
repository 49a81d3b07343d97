"""Measures the time to refuse bad input: `python -m benches.load.bad_input --calls 200`.

One gateway with one worker, one client, one kept connection. The client sends one bad request of each sort in turn, so a noisy moment
affects all sorts. Each time runs from before the first byte sent to the last byte received; for 200 KB of nesting that includes
sending it. An unexpected status ends the run.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from benches.load import rig
from benches.load.report import keep

KEY: Final = "key-of-the-bench-0123456789"
CHAT: Final = "/v1/chat/completions"
BOUND_MS: Final = 10.0
VALID: Final[dict[str, Any]] = {"model": "open", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
DEPTH: Final = 100_000


def file_of(upstream: int) -> str:
    """The configuration: one model that the tier allows, and one that it does not allow."""
    at = [{"url": f"http://127.0.0.1:{upstream}/v1"}]
    return json.dumps(
        {
            "models": {"open": {"upstreams": at}, "gated": {"upstreams": at, "features": ["reasoning"]}},
            "tiers": {"base": {"limits": [{"requests": 4_000_000_000, "per": "day"}], "allow": {"features": []}}},
            "consumers": [{"username": "one", "tier": "base", "keyauth_credentials": [{"key": KEY}]}],
        }
    )


def kinds() -> dict[str, tuple[int, bytes]]:
    """Name -> expected status and request."""
    valid = json.dumps(VALID).encode()
    deep = b"[" * DEPTH + b"]" * DEPTH
    bodies: dict[str, tuple[int, bytes]] = {
        "a valid call, to compare": (200, valid),
        "invalid JSON": (400, valid[:-1]),
        "UTF-16": (400, json.dumps(VALID).encode("utf-16")),
        "a byte order mark": (400, b"\xef\xbb\xbf" + valid),
        "100,000 levels of nesting": (400, deep),
        "100,000 levels within": (400, valid[:-1] + b', "metadata": ' + deep + b"}"),
        "two models": (400, valid[:-1] + b', "model": "open"}'),
        **{
            f"max_tokens of {shown}": (400, json.dumps({**VALID, "max_tokens": value}).encode())
            for shown, value in (("-1", -1), ("1.5", 1.5), ('"10"', "10"), ("2^63", 2**63))
        },
        "empty messages": (400, json.dumps({**VALID, "messages": []}).encode()),
        "an unknown model": (404, json.dumps({**VALID, "model": "nothing"}).encode()),
        "a gated model": (403, json.dumps({**VALID, "model": "gated"}).encode()),
    }
    found = {name: (status, request(CHAT, body)) for name, (status, body) in bodies.items()}
    return {**found, "an unknown path under /v1": (404, request("/v1/nothing", valid))}


def request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One kept connection. `opened` counts the connects."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._socket: socket.socket | None = None
        self.opened = 0

    def call(self, message: bytes) -> int:
        """Send a request, read the whole answer, return its status."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=30)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened += 1
        self._socket.sendall(message)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            body += self._more()
        if fields.get(b"connection") == b"close":
            self.close()
        return int(head.split()[1])

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            raise rig.BenchError("the gateway closed the connection instead of answering")
        return data


def measure(url: str, calls: int) -> Iterator[dict[str, Any]]:
    """One row for each sort of request."""
    asked, connection = kinds(), Connection(url)
    times: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(calls + 5):  # the first five warm up
        for name, (wanted, message) in asked.items():
            started = time.perf_counter()
            status = connection.call(message)
            taken = (time.perf_counter() - started) * 1000
            if status != wanted:
                raise rig.BenchError(f"{name}: answered {status}, not {wanted}")
            if turn >= 5:
                times[name].append(taken)
    if connection.opened != 1:
        raise rig.BenchError(f"the connection was not kept: it was made {connection.opened} times")
    connection.close()
    for name, found in times.items():
        found.sort()
        row = {"median_ms": median(found), "p99_ms": found[len(found) * 99 // 100], "worst_ms": found[-1]}
        yield {"kind": name, "status": asked[name][0], **{key: round(value, 3) for key, value in row.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.load.bad_input")
    parser.add_argument("--calls", type=int, default=200, help="of each kind")
    options = parser.parse_args()
    servers: list[rig.Server] = []
    os.sched_setaffinity(0, {int(rig.CLIENT_CORE)})
    with tempfile.TemporaryDirectory(prefix="aigw-bench-") as name:
        try:
            mock, upstream = rig.start_mock()
            servers.append(mock)
            file = Path(name) / "bench.yaml"
            file.write_text(file_of(upstream))
            gateway, _ = rig.serve(file, Path(name) / "data")
            servers.append(gateway)
            rows = list(measure(gateway.url, options.calls))
        except (rig.BenchError, OSError) as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
        finally:
            for server in reversed(servers):
                server.end()
    lines = [f"{row['median_ms']:8.3f} {row['worst_ms']:8.3f}  {row['status']}  {row['kind']}" for row in rows]
    sys.stdout.write("\n".join(["median ms   worst", *lines, ""]))
    bad = [row for row in rows if row["status"] != 200]
    slow = [row["kind"] for row in bad if row["median_ms"] > BOUND_MS]
    command = f"python -m benches.load.bad_input --calls {options.calls}"
    path = keep("bad-input", command, {"calls": options.calls, "rows": rows, "medians_beyond_10_ms": slow})
    sys.stdout.write(f"written to {path}\n")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
