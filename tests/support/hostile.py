"""Bad clients and bad upstreams in numbers, a healthy client beside them, and the memory of workers from /proc.

In: how many, how large. Out: the answers of the bad ones, the healthy client's times, resident bytes. Nothing sleeps for a fixed time: a
crowd waits for answers, memory is looked at until it is as low as it must be, or for as long as it may take.
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import urlsplit

from tests.support.ends import connect
from tests.support.processes import PATIENCE_S, Gateway
from tests.support.wire import Connection

MIB = 1 << 20


def resident(gateway: Gateway) -> int:
    """Resident bytes of all workers that are ready, without pages of files: the kernel drops those by itself, and the first request of each
    kind reads some of the program's own."""
    return sum(_resident(pid) for name, pid in gateway.children().items() if name.startswith("worker"))


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:", 1)[1].split()[0]) * 1024


def kernels_memory() -> int:
    """Bytes that the kernel holds for TCP sockets of this machine."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(line.split("mem ", 1)[1].split()[0]) * 4096


def wait_memory(gateway: Gateway, most: int, within_s: float = 10.0) -> int:
    """Wait until the workers hold at most so many bytes. Returns the bytes."""
    end = time.monotonic() + within_s
    while (now := resident(gateway)) > most:
        assert time.monotonic() < end, f"workers hold {now / MIB:.0f} MiB, not {most / MIB:.0f} MiB"
        time.sleep(0.1)
    return now


class Background:
    """A daemon thread that works while it is entered, until `_over` is set."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class Peak(Background):
    """The most memory of the workers while it is entered, looked at every 20 ms."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.before = self.most = resident(gateway)
        super().__init__(self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, resident(self._gateway))

    @property
    def grown(self) -> int:
        """Bytes above those at the begin."""
        return self.most - self.before


@dataclass
class Healthy:
    """A client that sends one request after the other on one connection, in a thread. Each must succeed.

    It ends behind `ENOUGH` answers, however fast the machine is; `meanwhile`: those that came while it was entered.
    """

    ENOUGH: ClassVar[int] = 10
    url: str
    request: bytes
    times: list[float] = field(default_factory=list)
    statuses: "Counter[int]" = field(default_factory=Counter)
    meanwhile: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def _call(self) -> None:
        with contextlib.suppress(ConnectionError), Connection(self.url) as connection:
            while len(self.times) < self.ENOUGH or not self._over.is_set():
                began = time.monotonic()
                answer = connection.ask(self.request)
                self.times.append(time.monotonic() - began)
                self.statuses[answer.status] += 1

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.meanwhile = len(self.times)
        self._over.set()
        assert self._thread is not None
        self._thread.join(PATIENCE_S)
        if kind is None:
            assert set(self.statuses) == {200} and len(self.times) >= self.ENOUGH, self.statuses

    def quantile(self, share: float = 0.99) -> float:
        """Seconds that this share of the requests took at most."""
        assert self.times, "no request was answered"
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * share))]


@dataclass
class Senders:
    """Clients that send bytes as fast as they are taken, and read the answers that come meanwhile."""

    sockets: list[socket.socket] = field(default_factory=list)
    data: dict[int, bytearray] = field(default_factory=dict)
    """By number: the bytes that were received."""

    @classmethod
    def send(cls, url: str, messages: list[bytes], enough_s: float = PATIENCE_S) -> Self:
        """Connect, and send each message to its end, or until its connection breaks or the time is up."""
        crowd = cls()
        with selectors.DefaultSelector() as ready:
            for number, message in enumerate(messages):
                one = connect(url)
                one.setblocking(False)
                crowd.sockets.append(one)
                crowd.data[number] = bytearray()
                ready.register(one, selectors.EVENT_READ | selectors.EVENT_WRITE, (number, memoryview(message)))
            end, left = time.monotonic() + enough_s, len(messages)
            while left and time.monotonic() < end:
                for key, what in ready.select(0.1):
                    left -= crowd._step(ready, key, what)
        return crowd

    def _step(self, ready: selectors.BaseSelector, key: selectors.SelectorKey, what: int) -> bool:
        """Whether the client is done with sending."""
        (number, rest), one = key.data, self.sockets[key.data[0]]
        try:
            if what & selectors.EVENT_READ:
                piece = one.recv(65536)
                self.data[number] += piece
                if not piece:
                    raise ConnectionResetError
            if what & selectors.EVENT_WRITE:
                rest = rest[one.send(rest[: 1 << 18]) :]
        except BlockingIOError:
            return False
        except (ConnectionError, BrokenPipeError):
            ready.unregister(one)
            return True
        if not rest:
            ready.unregister(one)
            return True
        ready.modify(one, selectors.EVENT_READ | selectors.EVENT_WRITE, (number, rest))
        return False

    def statuses(self) -> "Counter[int]":
        """Status -> clients that have an answer with it."""
        return Counter(int(data[9:12]) for data in self.data.values() if data.startswith(b"HTTP/1.1 "))

    def leave(self) -> None:
        """Close all connections."""
        for one in self.sockets:
            one.close()


def kept_for_clients(url: str) -> int:
    """Bytes that the kernel holds for clients of this address, of connections that the gateway has closed, too."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = urlsplit(url).port
    return sum(int(row[4].split(":")[0], 16) for row in rows if int(row[1].rpartition(":")[2], 16) == port)


def slow_readers(url: str, request: bytes, count: int) -> list[socket.socket]:
    """Clients that ask and never read, with the smallest receive buffer. They take any certificate of a TLS address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    parts, made = urlsplit(url), []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(PATIENCE_S)
        one.connect((str(parts.hostname), int(parts.port or 80)))
        if parts.scheme == "https":
            one = context.wrap_socket(one, suppress_ragged_eofs=False)
        one.sendall(request)
        made.append(one)
    return made


class Flood(Background):
    """An upstream on one thread that answers each request with so many bytes, as fast as they are taken. A context manager."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._piece = bytes(1 << 16)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._listener, selectors.EVENT_READ)
        self._left: dict[socket.socket, int] = {}
        super().__init__(self._serve)

    def _serve(self) -> None:
        while not self._over.is_set():
            for key, _ in self._ready.select(0.05):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self._listener:
                    with contextlib.suppress(BlockingIOError):
                        fresh = self._listener.accept()[0]
                        fresh.setblocking(False)
                        self._ready.register(fresh, selectors.EVENT_READ)
                else:
                    self._step(one)

    def _step(self, one: socket.socket) -> None:
        try:
            if one not in self._left:
                if not one.recv(65536):
                    raise ConnectionResetError
                head = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: %d\r\n\r\n" % self._length
                one.send(head)
                self._left[one] = self._length
                self._ready.modify(one, selectors.EVENT_WRITE)
                return
            sent = one.send(self._piece[: self._left[one]])
        except BlockingIOError:
            return
        except ConnectionError:
            self._ready.unregister(one)
            self._left.pop(one, None)
            one.close()
            return
        self._left[one] -= sent
        if not self._left[one]:
            del self._left[one]
            self._ready.modify(one, selectors.EVENT_READ)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for key in list(self._ready.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._ready.close()
