"""Many concurrent clients over kept connections, without a client library; counts their answers.

In: the gateway's address, requests as bytes. Out: statuses. A client reopens a broken connection (of a killed worker) and counts
its request as `None`, because it cannot know whether the request passed.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

PATIENCE_S = 60.0

Status = int | None
Headers = dict[str, str]


def request(path: str, key: str | None = None, body: bytes = b"", method: str = "GET") -> bytes:
    """One request, ready to be sent many times."""
    head = f"{method} {path} HTTP/1.1\r\nHost: test\r\n"
    if key:
        head += f"apikey: {key}\r\n"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Client:
    """One kept connection."""

    def __init__(self, url: str, address: str | None = None) -> None:
        """`address`: the client's local address, or None for any."""
        parts = urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._local = (address, 0) if address else None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, message: bytes) -> Status:
        """Read the whole answer; its status, or None if the connection broke."""
        answer = await self.exchange(message)
        return None if answer is None else answer[0]

    async def exchange(self, message: bytes) -> tuple[int, Headers] | None:
        """Read the whole answer; its status and headers (names in lower case), or None if the connection broke."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address, local_addr=self._local)
            reader, writer = self._streams
            writer.write(message)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            await reader.readexactly(int(headers.get("content-length", 0)))
            if headers.get("connection") == "close":
                self.close()
            return int(first[9:12]), headers
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def hammer(
    url: str, message: Callable[[int], bytes], *, clients: int, requests: int, beside: Awaitable[None] | None = None
) -> "Counter[Status]":
    """Send `requests` requests in total from concurrent clients. `beside` runs at the same time and is awaited."""
    counts: Counter[Status] = Counter()
    numbers = iter(range(requests))

    async def work() -> None:
        client = Client(url)
        for number in numbers:
            counts[await client.send(message(number))] += 1
        client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(work())
        if beside is not None:
            await beside
    return counts
