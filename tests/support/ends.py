"""Both ends of a gateway as raw sockets: an upstream that follows a script exactly, a client that reads every byte.

In: scripts, bytes. Out: the received bytes. No HTTP library is between a test and the wire, so nothing is repaired, retried or
hidden.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from tests.support.processes import PATIENCE_S


class Wire:
    """One connection at the upstream's end."""

    def __init__(self, connection: socket.socket, upstream: "Upstream") -> None:
        self.socket = connection
        self._upstream = upstream
        self._rest = b""

    def request(self) -> tuple[bytes, bytes] | None:
        """The next request's head and body, also added to the upstream's list; None if the gateway closed the connection."""
        while b"\r\n\r\n" not in self._rest:
            piece = self.socket.recv(65536)
            if not piece:
                return None
            self._rest += piece
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        length = int(header(head, "content-length") or 0)
        while len(self._rest) < length:
            piece = self.socket.recv(65536)
            if not piece:
                return None
            self._rest += piece
        body, self._rest = self._rest[:length], self._rest[length:]
        self._upstream.note(head, body)
        return head, body

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        self.socket.sendall(data)

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def wait_closed(self) -> bool:
        """Wait until the gateway closes the connection; False on timeout."""
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


class Upstream:
    """A listening socket. Each connection runs `script` on its own thread and is closed afterwards. A script that raises fails its own test."""

    def __init__(self, script: Callable[[Wire], None], host: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._failed: list[Exception] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            with self._lock:
                self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._script(Wire(connection, self))
            except OSError:
                pass  # the gateway or the end of the test closed it
            except Exception as error:  # noqa: BLE001 - raised in this thread, it would fail whichever test runs then
                with self._lock:
                    self._failed.append(error)

    def note(self, head: bytes, body: bytes) -> None:
        """Record a request."""
        with self._lock:
            self.requests.append((head, body))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        """End all connections. A script's exception is raised here, unless the test has failed already."""
        shut(self._listener)
        with self._lock:
            for connection in self._open:
                shut(connection)
            if self._failed and kind is None:
                raise self._failed[0]


def shut(one: socket.socket) -> None:
    """Close a socket and wake a thread that waits on it."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def header(head: bytes, name: str) -> str | None:
    """The value of a header in a raw head; None if absent."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name.encode():
            return value.strip().decode("latin-1")
    return None


@dataclass(frozen=True)
class Answer:
    """An answer from the wire. `whole`: its framing says that it is complete."""

    head: bytes
    body: bytes
    whole: bool

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    def header(self, name: str) -> str | None:
        return header(self.head, name)


def connect(url: str) -> socket.socket:
    """A connection with a read timeout."""
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=PATIENCE_S)


def message(method: str, path: str, *lines: str, body: bytes = b"", close: bool = True) -> bytes:
    """The bytes of a request."""
    head = [f"{method} {path} HTTP/1.1", "Host: gateway.test", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    if close:
        head.append("Connection: close")
    return "\r\n".join([*head, "", ""]).encode() + body


def parse(method: str, data: bytes) -> Answer:
    """All bytes of a connection until its end, as one answer."""
    head, _, rest = data.partition(b"\r\n\r\n")
    if method == "HEAD" or head[9:12] in (b"204", b"304"):
        return Answer(head, rest, rest == b"")
    if header(head, "transfer-encoding") == "chunked":
        body, whole = dechunk(rest)
        return Answer(head, body, whole)
    length = header(head, "content-length")
    return Answer(head, rest, length is not None and len(rest) == int(length))


def dechunk(data: bytes) -> tuple[bytes, bool]:
    """The content of chunks, and whether the last chunk ends the data."""
    pieces: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return b"".join(pieces), False
        size = int(data[at:end], 16)
        if size == 0:
            return b"".join(pieces), data[end:] == b"\r\n\r\n"
        pieces.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def read_to_end(client: socket.socket) -> bytes:
    """Read until the other side closes or resets."""
    pieces = []
    try:
        while piece := client.recv(1 << 20):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def ask(url: str, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
    """Send one request on a new connection and read until its end."""
    with connect(url) as client:
        client.sendall(message(method, path, *lines, body=body))
        return parse(method, read_to_end(client))


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    """Read up to and including this marker, and maybe more."""
    got = b""
    while wanted not in got:
        piece = client.recv(65536)
        assert piece, f"it ended after {got!r}"
        got += piece
    return got
