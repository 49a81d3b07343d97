"""HTTP/1.1 as bytes on a socket: a client for requests that no library would send, and an upstream that records requests.

In: bytes. Out: answers and requests, parsed strictly: malformed bytes fail the test. Nothing is repaired.
"""

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 30.0

Headers = list[tuple[str, str]]


@dataclass
class Message:
    """A request or an answer: its first line, its headers (names in lower case, in order), its body."""

    first: str
    headers: Headers
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.first.split(" ", 2)[1])

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    def all(self, name: str) -> list[str]:
        return [value for own, value in self.headers if own == name]

    def one(self, name: str) -> str:
        """The value of a header that occurs exactly once."""
        (value,) = self.all(name)
        return value

    def json(self) -> Any:
        return json.loads(self.body)


def read_message(stream: BufferedIOBase) -> Message | None:
    """The next message; None at the end of the stream. Raises ValueError for malformed HTTP/1.1."""
    first = stream.readline()
    if not first:
        return None
    lines = [first]
    while lines[-1] != b"\r\n":
        lines.append(stream.readline())
        if not lines[-1].endswith(b"\r\n"):
            raise ValueError(f"a line without its end: {lines[-1]!r}")
    headers: Headers = []
    for line in lines[1:-1]:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError(f"not a header: {line!r}")
        headers.append((name.lower(), value.strip()))
    message = Message(first.decode("latin-1").rstrip("\r\n"), headers)
    lengths, codings = message.all("content-length"), message.all("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise ValueError(f"more than one framing: {headers!r}")
    if lengths:
        message.body = _exactly(stream, int(lengths[0]))
    elif codings:
        pieces = []
        while size := int(stream.readline().split(b";")[0], 16):
            pieces.append(_exactly(stream, size))
            if _exactly(stream, 2) != b"\r\n":
                raise ValueError("a chunk without its end")
        if stream.readline() != b"\r\n":
            raise ValueError("trailers")
        message.body = b"".join(pieces)
    return message


def _exactly(stream: BufferedIOBase, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ValueError(f"{len(data)} bytes where {count} were announced")
    return data


class Connection:
    """One connection to `url`. A context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((str(parts.hostname), int(parts.port or 80)), PATIENCE_S)
        self.socket.settimeout(PATIENCE_S)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Message:
        """The next answer. Fails if the connection ends first."""
        message = read_message(self._stream)
        assert message is not None, "the connection ended without an answer"
        return message

    def ask(self, data: bytes) -> Message:
        self.send(data)
        return self.answer()

    def rest(self) -> list[Message]:
        """All answers until the other side closes or resets the connection."""
        found = []
        with contextlib.suppress(ConnectionError):
            while message := read_message(self._stream):
                found.append(message)
        return found

    def ended(self) -> bool:
        """Wait until the other side ends the connection; False if it sends data."""
        try:
            return self._stream.read(1) == b""
        except ConnectionError:
            return True


@dataclass
class Upstream:
    """A server that answers 200 to each readable request and records all of them. `torn` holds unreadable input."""

    url: str = ""
    requests: list[Message] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def take(self) -> list[Message]:
        """The requests since the last call. Fails if unreadable input arrived."""
        assert self.torn == []
        taken, self.requests = self.requests, []
        return taken


def told(request: Message) -> bytes:
    """The default answer: the request line and the size of the body."""
    body = json.dumps({"target": request.target, "bytes": len(request.body)}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@contextlib.contextmanager
def upstream(answer: Callable[[Message], bytes] = told) -> Iterator[Upstream]:
    """Run an `Upstream` on a free port. `answer` makes its answer to each request."""
    kept = Upstream()

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                self._serve()

        def _serve(self) -> None:
            while True:
                try:
                    request = read_message(self.rfile)
                except ValueError as error:
                    kept.torn.append(str(error))
                    return
                if request is None:
                    return
                kept.requests.append(request)
                self.wfile.write(answer(request))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield kept
        server.shutdown()
        thread.join(PATIENCE_S)
