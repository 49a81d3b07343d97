"""A model's server with books of its own, and clients that call it through a gateway until a budget is spent.

In: the tokens that each answer has at most. Out: for each call the tokens that the server produced, and those that its client got.
The prompt of a call is the same text each time. An answer's tokens are one word each, one to an event of a stream. The server
has a thread of its own.
"""

import asyncio
import contextlib
import itertools
import json
import queue
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from tests.support.processes import PATIENCE_S

PROMPT: Final = 9
"""Tokens of the prompt `hi` as the gateway counts them: one, its role, four of the message, three of the chat."""
WORD: Final = " token"
PATIENCE: Final = 60.0
_ids = itertools.count(1)


@dataclass
class Books:
    """The server's entries, by the caller's id of a call, and the most calls that it worked on at once."""

    length: int
    """Tokens of an answer whose cap allows them."""
    pause: float
    """Seconds between the events of a stream."""
    produced: dict[str, int] = field(default_factory=dict)
    streams: set[str] = field(default_factory=set)
    here: int = 0
    most: int = 0

    def tokens(self) -> int:
        """The tokens of all calls, with their prompts."""
        return sum(self.produced.values()) + PROMPT * len(self.produced)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                asked = json.loads(await reader.readexactly(int(length.split(b":")[1])))
                self.here += 1
                self.most = max(self.most, self.here)
                try:
                    last = await (self.stream if asked.get("stream") else self.plain)(asked, writer)
                finally:
                    self.here -= 1
                writer.write(last)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the gateway closed it
        finally:
            writer.close()

    async def plain(self, asked: Any, _: asyncio.StreamWriter) -> bytes:
        name, tokens = self.begin(asked)
        self.produced[name] = tokens
        await asyncio.sleep(self.pause)
        body = json.dumps(
            {
                "id": name,
                "object": "chat.completion",
                "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": WORD * tokens}}],
                "usage": usage(tokens),
            }
        ).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def stream(self, asked: Any, writer: asyncio.StreamWriter) -> bytes:
        name, tokens = self.begin(asked)
        self.streams.add(name)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(tokens):
            if writer.is_closing():
                raise ConnectionError
            self.produced[name] += 1
            writer.write(event({"choices": [{"index": 0, "delta": {"content": WORD}}]}))
            await writer.drain()
            await asyncio.sleep(self.pause)
        end = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        end += event({"choices": [], "usage": usage(tokens)})
        return end + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    def begin(self, asked: Any) -> tuple[str, int]:
        name = asked["user"]
        assert name not in self.produced, "a call was sent twice"
        self.produced[name] = 0
        return name, min(self.length, asked.get("max_tokens") or self.length)


async def exchange(host: str, port: int, message: bytes) -> bytes:
    """The bytes of an answer, as far as they came."""
    pieces: list[bytes] = []
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(message)
            async with asyncio.timeout(PATIENCE):
                while piece := await reader.read(65_536):
                    pieces.append(piece)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return b"".join(pieces)


def usage(tokens: int) -> Any:
    return {"prompt_tokens": PROMPT, "completion_tokens": tokens, "total_tokens": PROMPT + tokens}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(body: Any) -> bytes:
    return chunk(
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "m", **body}).encode() + b"\n\n"
    )


@dataclass
class Storm:
    """Clients that call until the gateway says that the budget is spent."""

    proxy: str
    key: str
    books: Books
    got: dict[str, int] = field(default_factory=dict)
    """Call -> tokens that its client got."""
    ends: "Counter[str]" = field(default_factory=Counter)
    """Ends of calls: whole, cut (at the boundary), broken (a killed worker), and the codes of refusals."""

    async def rage(self, *, plain: int, streams: int, beside: Coroutine[Any, Any, None] | None = None) -> None:
        """Let so many clients call at once. `beside` runs at the same time and is awaited."""
        async with asyncio.TaskGroup() as group:
            for number in range(plain + streams):
                group.create_task(self.client(streams=number >= plain))
            if beside is not None:
                await beside

    async def client(self, *, streams: bool) -> None:
        """Call, one call after the other, until the budget is spent."""
        parts = urlsplit(self.proxy)
        while True:
            name = f"call-{next(_ids)}"
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "user": name, "stream": streams}
            if not streams:
                body["max_tokens"] = 16
            text = json.dumps(body).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {self.key}\r\nConnection: close\r\n"
            message = f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text
            wait = self.note(name, await exchange(str(parts.hostname), int(parts.port or 0), message))
            if wait is None:
                return
            await asyncio.sleep(wait)

    def note(self, name: str, data: bytes) -> float | None:
        """Enter an answer. The seconds until the next call; None when the budget is spent."""
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 429"):
            self.got[name] = body.count(b'"%s"' % WORD.encode())
            broken = not head.startswith(b"HTTP/1.1 200") or not (body.endswith(b"0\r\n\r\n") or b'"usage"' in body)
            self.ends["broken" if broken else "cut" if b"budget_exhausted" in body else "whole"] += 1
            return 0.05 if broken else 0
        error = json.loads(body)["error"]
        self.ends[error["code"]] += 1
        limit = error["aigw"]
        # A bucket is spent when no call holds a part of it: then it refills.
        if error["code"] == "insufficient_quota" or (limit["meter"] != "concurrency" and not limit.get("reserved")):
            return None
        assert b"x-should-retry" not in head.lower(), head
        return 0.1  # the tests do not wait as long as clients are asked to


class Answers(Protocol):
    """Books that answer connections."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""


class Server:
    """The books' server on a free port, in a thread with a loop of its own, while the context lasts."""

    def __init__(self, books: Answers) -> None:
        self._books = books
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._url: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._books.answer, "127.0.0.1", 0, backlog=512)
        self._url.put(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await self._end.wait()
        server.close()

    def __enter__(self) -> str:
        """The server's URL."""
        self._thread.start()
        return self._url.get(timeout=PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)


def delivered(books: Books, storm: Storm) -> int:
    """The tokens that plain calls cost the server, and those of streams that reached a client, with their prompts."""
    return sum(
        PROMPT + (storm.got.get(name, 0) if name in books.streams else tokens)
        for name, tokens in books.produced.items()
    )
