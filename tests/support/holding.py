"""An upstream that keeps calls until a test lets them go, and a crowd of raw clients that call at the same moment.

In: the number of calls to let go, requests as bytes. Out: the upstream's own count of calls at once, and each client's answer.
Nothing sleeps for a fixed time: the upstream tells when calls have arrived, the clients when answers have.
"""

import select
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from tests.support.ends import Answer, Upstream, Wire, chunk, connect, parse
from tests.support.processes import PATIENCE_S

CHAT = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"well"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}'
)
EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"well "},"finish_reason":null}]}\n\n'
)
DONE = b"data: [DONE]\n\n"


class Holding(Upstream):
    """Answers each call when the test lets it go. A stream passes its head and one event before."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._free = 0
        self.here = 0
        """Calls that wait here."""
        self.most = 0
        """Most calls at once, since the last `forget`."""
        self.came = 0
        """Calls that came, since the last `forget`."""
        super().__init__(self._serve_call)

    def _serve_call(self, wire: Wire) -> None:
        while (request := wire.request()) is not None:
            streams = b'"stream": true' in request[1]
            with self._news:
                self.here, self.came = self.here + 1, self.came + 1
                self.most = max(self.most, self.here)
                self._news.notify_all()
            if streams:
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                wire.send(head + chunk(EVENT))
            try:
                self._wait_turn(wire)
            finally:
                with self._news:
                    self.here -= 1
                    self._news.notify_all()
            if streams:
                wire.send(chunk(DONE) + b"0\r\n\r\n")
            else:
                wire.send(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(CHAT)
                )
                wire.send(CHAT)

    def _wait_turn(self, wire: Wire) -> None:
        """Wait to be let go. Raises OSError when the gateway has closed the connection."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with self._news:
                if self._free > 0:
                    self._free -= 1
                    return
                self._news.wait(0.02)
            if select.select([wire.socket], [], [], 0)[0] and not wire.socket.recv(1, socket.MSG_PEEK):
                raise ConnectionError("the gateway left")

    def let_go(self, calls: int) -> None:
        """Answer this many of the calls that are here or will come."""
        with self._news:
            self._free += calls
            self._news.notify_all()

    def wait(self, calls: int) -> None:
        """Wait until exactly this many calls are here."""
        with self._news:
            assert self._news.wait_for(lambda: self.here == calls, PATIENCE_S), (
                f"{self.here} calls are here, not {calls}"
            )

    def forget(self) -> None:
        """Begin a new count. Fails if calls are still here."""
        with self._news:
            assert self._news.wait_for(lambda: self.here == 0, PATIENCE_S), f"{self.here} calls are here"
            self._free = self.most = self.came = 0


@dataclass
class Client:
    """One call on its own connection."""

    socket: socket.socket
    data: bytes = b""
    ended: bool = False

    @property
    def answer(self) -> Answer:
        return parse("POST", self.data)

    def read(self) -> None:
        """Read bytes that are there, or the end."""
        try:
            piece = self.socket.recv(1 << 20)
        except ConnectionResetError:
            piece = b""
        self.data += piece
        if not piece:
            self.ended = True
            self.socket.close()


@dataclass
class Crowd:
    """Clients that have sent their calls. Each closes its connection after the answer."""

    clients: list[Client] = field(default_factory=list)

    @classmethod
    def call(cls, url: str, messages: Iterable[bytes]) -> Self:
        """Connect all clients, then send all calls. The messages ask to close the connection."""
        made = [(message, Client(connect(url))) for message in messages]
        for message, client in made:
            client.socket.sendall(message)
        return cls([client for _, client in made])

    def look(self, within: float = 0) -> None:
        """Read the bytes and ends that are there, or come in these seconds."""
        with selectors.DefaultSelector() as ready:
            for client in self.clients:
                if not client.ended:
                    ready.register(client.socket, selectors.EVENT_READ, client)
            for key, _ in ready.select(within):
                key.data.read()

    def wait(self, happened: Callable[[], bool]) -> None:
        """Read answers until this is so. Fails after `PATIENCE_S`."""
        end = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < end, f"waited in vain: {self.statuses()} of {len(self.clients)} have ended"
            self.look(0.05)

    def ended(self) -> list[Client]:
        """Clients whose connection has ended."""
        return [client for client in self.clients if client.ended]

    def wait_ended(self, count: int) -> list[Answer]:
        """Wait until the connections of so many clients have ended, and no more than that. Their answers."""
        self.wait(lambda: len(self.ended()) >= count)
        assert len(self.ended()) == count, self.statuses()
        return [client.answer for client in self.ended()]

    def finish(self) -> list[Answer]:
        """Wait until all have ended. All answers."""
        return self.wait_ended(len(self.clients))

    def statuses(self) -> "Counter[int]":
        """Status -> number of clients with this answer, of those that have ended with one."""
        return Counter(client.answer.status for client in self.ended() if client.data)

    def leave(self) -> None:
        """Close all connections that are still open."""
        for client in self.clients:
            if not client.ended:
                client.ended = True
                client.socket.close()
