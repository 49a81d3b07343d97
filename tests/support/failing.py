"""Upstreams of models that fail in each way, and the gateway in front of them, shared by the tests of OpenAI's clients."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.ends import Upstream, Wire
from tests.support.processes import PATIENCE_S, Gateway
from tests.support.surface import Json

YEAR: Json = {"requests": 1_000_000, "per": "year"}  # never exhausted, and its window does not end during a test

CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"half "},"finish_reason":null}]}\n\n'
)


def chunked(piece: bytes) -> bytes:
    """A chunk of HTTP."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def hang(wire: Wire) -> None:
    wire.wait_closed()


def garbage(wire: Wire) -> None:
    wire.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")


def die(wire: Wire) -> None:
    """Two events of a stream, then the end of the connection if `DYING` is set."""
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.send(chunked(CHUNK) + chunked(CHUNK))
    DYING.wait(PATIENCE_S)


DYING = threading.Event()
DYING.set()
FAILURES: dict[str, Callable[[Wire], None]] = {
    "fail-hang": hang,
    "fail-reset": lambda wire: wire.reset(),
    "fail-garbage": garbage,
    "fail-midway": die,
}


@dataclass(frozen=True)
class Surface:
    """A gateway and its upstreams."""

    gateway: Gateway
    llm: str
    slow: str
    failing: dict[str, Upstream]

    def asked(self, model: str) -> int:
        """The number of requests that a failing model's upstream has read."""
        return len(self.failing[model].requests)


def after_reading(act: Callable[[Wire], None]) -> Callable[[Wire], None]:
    def script(wire: Wire) -> None:
        if wire.request() is not None:
            act(wire)

    return script


UNSAFE: Final = {
    "fail-hang": ("hasty", 504, "upstream_timeout"),
    "fail-reset": ("pro", 502, "upstream_error"),
    "fail-garbage": ("pro", 502, "upstream_error"),
}
"""Models whose upstream may have acted on a call: the calling tier, and the status and code of the answer."""
