"""Records the requests of decK's cycle with their answers, for a replay. In: the traffic between decK and a gateway. Out: a file, one exchange
a line, `[method, path, body, status, answer]`; a line `START` begins another gateway, with its environment.

decK makes the ids of all entities, so a replay sends the same ones. Times are replaced by 0. Of answers that describe the gateway (`/`,
`/status`, `/schemas/...`) only the names of members count. Of reads of a path that follow each other with the same
answer the first stands alone.
"""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx
import orjson

FILE: Final = Path(__file__).parents[2] / "integration" / "kong" / "deck-cycle.jsonl"
TIMES: Final = ("created_at", "updated_at")
NAMES_ONLY: Final = ("/status", "/schemas/")
Exchange = list[Any]


def shape(path: str, answer: Any) -> Any:
    """The part of an answer that a replay compares."""
    if path == "/" or path.startswith(NAMES_ONLY):
        return sorted(answer) if isinstance(answer, dict) else answer
    return without_times(answer)


def without_times(value: Any) -> Any:
    """`value` with each time replaced by 0."""
    if isinstance(value, dict):
        return {k: 0 if k in TIMES and v else without_times(v) for k, v in value.items()}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def ask(client: httpx.Client, method: str, path: str, body: Any) -> tuple[int, bytes]:
    """Send one request."""
    headers = {} if body is None else {"content-type": "application/json"}
    answer = client.request(method, path, content=b"" if body is None else orjson.dumps(body), headers=headers)
    return answer.status_code, answer.content


@contextmanager
def recording(admin: str, found: list[Exchange]) -> Iterator[str]:
    """A proxy in front of the Admin API, which adds each exchange to `found`. Yields its URL."""
    lock = threading.Lock()
    client = httpx.Client(base_url=admin, trust_env=False, timeout=30)

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            body = orjson.loads(raw) if raw else None
            with lock:  # the order of the file is the order at the gateway
                status, content = ask(client, self.command, self.path, body)
                answer = shape(self.path, orjson.loads(content)) if content else None
                found.append([self.command, self.path, without_times(body), status, answer])
            self.send_response(status)
            self.send_header("content-type", "application/json; charset=utf-8")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """decK ends with connections open."""

    server = Server(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        client.close()


def write(found: list[Exchange]) -> None:
    """Write the file, without repeated reads."""
    lines, last = [], dict[str, bytes]()
    for exchange in found:
        line, (method, path, *_) = orjson.dumps(exchange), exchange
        if method == "START":
            last.clear()
        elif method == "GET" and last.get(path) == line:
            continue
        else:
            last[path] = line
        lines.append(line)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(b"\n".join([*lines, b""]))


def exchanges() -> list[Exchange]:
    """The recorded ones."""
    return [orjson.loads(line) for line in FILE.read_bytes().splitlines()]
