"""A model's server that keeps books by request id, and clients that call it without end: the oracle of the ledger.

In: how often answers break and clients leave. Out: for each request that the server answered, the tokens that it sent and whether the
answer was whole; for each call that a client got whole, the usage that it was told. The ledger must have the same, once.
"""

import asyncio
import contextlib
import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from tests.support.books import PROMPT, WORD, chunk, event, usage

TOKENS: Final = 12
"""Tokens of a whole answer."""
_ids = itertools.count(1)


@dataclass
class Answered:
    """A request that the server has answered, as far as it came."""

    stream: bool
    sent: int = 0
    whole: bool = False


@dataclass
class ServerBooks:
    """The server's books, by the gateway's id of the request. `asyncio.start_server` takes `answer`."""

    breaks: float
    """Share of answers that end at a random byte."""
    answered: dict[str, Answered] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                asked = json.loads(await reader.readexactly(int(headers["content-length"])))
                await self._serve(headers["x-request-id"], bool(asked.get("stream")), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the gateway closed it, or the answer broke
        finally:
            writer.close()

    async def _serve(self, request: str, stream: bool, writer: asyncio.StreamWriter) -> None:
        if request in self.answered:
            self.twice.append(request)
        own = self.answered[request] = Answered(stream)
        pieces = _stream() if stream else _plain()
        total = sum(len(piece) for piece, _ in pieces)
        # The head is whole: an answer without one is no answer.
        end = self.dice.randrange(len(pieces[0][0]), total) if self.dice.random() < self.breaks else total
        gone = 0
        for piece, tokens in pieces:
            writer.write(piece[: end - gone])
            await writer.drain()
            gone += len(piece)
            if gone > end:
                raise ConnectionError
            own.sent += tokens
            if stream:
                await asyncio.sleep(0.004)
        own.whole = True


def _plain() -> list[tuple[bytes, int]]:
    message = {"role": "assistant", "content": WORD * TOKENS}
    body = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "message": message}],
                       "usage": usage(TOKENS)}).encode()  # fmt: skip
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return [(head, 0), (body, TOKENS)]


def _stream() -> list[tuple[bytes, int]]:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    words = [(event({"choices": [{"index": 0, "delta": {"content": WORD}}]}), 1)] * TOKENS
    end = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    end += event({"choices": [], "usage": usage(TOKENS)}) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return [(head, 0), *words, (end, 0)]


@dataclass
class Clients:
    """Clients that call until `stop` is set. `proxy` may change while they run: a gateway that starts again has other ports."""

    proxy: str
    key: str
    leaves: int
    """Calls whose client leaves at a random byte, until so many have."""
    whole: dict[str, bool] = field(default_factory=dict)
    """Request id -> whether it was a stream, of calls that came whole."""
    ends: "Counter[str]" = field(default_factory=Counter)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    dice: random.Random = field(default_factory=lambda: random.Random(11))

    async def run(self, *, plain: int, streams: int) -> None:
        """Let so many clients call at once."""
        async with asyncio.TaskGroup() as group:
            for number in range(plain + streams):
                group.create_task(self._client(stream=number >= plain))

    async def _client(self, *, stream: bool) -> None:
        while not self.stop.is_set():
            leaves = self.leaves > 0 and self.dice.random() < 0.15
            self.leaves -= leaves
            data = await self._call(stream, self.dice.randrange(1, 2500) if leaves else None)
            head, _, body = data.partition(b"\r\n\r\n")
            whole = head.startswith(b"HTTP/1.1 200") and (
                body.endswith(b"0\r\n\r\n") if stream else body.endswith(b"}")
            )
            self.ends["left" if leaves else "whole" if whole else _status(head)] += 1
            if whole and not leaves:
                lines = head.decode("latin-1").lower().split("\r\n")
                request = next(line.split(": ")[1] for line in lines if line.startswith("x-request-id"))
                assert request not in self.whole
                self.whole[request] = stream
            if not whole and not leaves:
                await asyncio.sleep(0.02)

    async def _call(self, stream: bool, most: int | None) -> bytes:
        """The bytes of an answer, as far as they came, or up to `most` of them."""
        parts = urlsplit(self.proxy)
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "user": f"call-{next(_ids)}",
            "stream": stream,
        }
        body |= {"stream_options": {"include_usage": True}} if stream else {}
        text = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {self.key}\r\nConnection: close\r\n"
        found = b""
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection(str(parts.hostname), int(parts.port or 0))
            try:
                writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
                async with asyncio.timeout(30):
                    while piece := await reader.read(65_536 if most is None else min(512, most - len(found))):
                        found += piece
                        if most is not None and len(found) >= most:
                            break
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        return found


def _status(head: bytes) -> str:
    return head[9:12].decode("latin-1") or "none"


def differences(books: ServerBooks, clients: Clients, events: list[dict[str, Any]]) -> list[str]:
    """Each way in which the ledger's entries differ from the books; empty when they are equal."""
    by_request: dict[str, list[dict[str, Any]]] = {}
    for one in events:
        by_request.setdefault(one["request_id"], []).append(one)
    found = [f"{request} was sent twice" for request in books.twice]
    for request, answered in books.answered.items():
        entries = by_request.get(request, [])
        if len(entries) != 1:
            found.append(f"{request}: {len(entries)} entries for {answered}")
            continue
        tokens = entries[0]["input_tokens"], entries[0]["output_tokens"]
        if request in clients.whole and (tokens != (PROMPT, TOKENS) or entries[0]["outcome"] != "completed"):
            found.append(f"{request} reached its client whole: {entries[0]}")
        if tokens[1] > TOKENS and entries[0]["usage_source"] != "reserved":
            found.append(f"{request} has more tokens than {answered}: {entries[0]}")
    found += [f"{request} reached a client and no server" for request in clients.whole.keys() - books.answered.keys()]
    unknown = [
        request for request in by_request.keys() - books.answered.keys() if by_request[request][0]["status"] == 200
    ]
    return found + [f"{request} has an answer that no server gave: {by_request[request]}" for request in unknown]
