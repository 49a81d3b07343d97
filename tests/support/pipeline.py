"""One connection with many pipelined requests, for loads in which the client must cost less than the server.

In: requests as bytes. Out: whole answers in their order, as bytes. A broken connection raises; nothing is sent twice.
"""

import asyncio
import re
from urllib.parse import urlsplit

PATIENCE_S = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Pipeline:
    """Answers must have a Content-Length."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._rest = b""

    async def exchange(self, message: bytes, times: int) -> list[bytes]:
        """Send this request `times` times. Returns the answers (head and body)."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=1 << 20)
        reader, writer = self._streams
        writer.write(message * times)
        answers: list[bytes] = []
        held = self._rest
        while True:
            held = self._take(held, answers, times)
            if len(answers) == times:
                self._rest = held
                return answers
            more = await asyncio.wait_for(reader.read(1 << 18), PATIENCE_S)
            if not more:
                raise ConnectionResetError(f"closed after {len(answers)} of {times} answers")
            held += more

    @staticmethod
    def _take(held: bytes, answers: list[bytes], most: int) -> bytes:
        start = 0
        while len(answers) < most and (end := held.find(b"\r\n\r\n", start)) >= 0:
            length = _LENGTH.search(held, start, end + 2)
            assert length is not None, held[start:end]
            stop = end + 4 + int(length[1])
            if stop > len(held):
                break
            answers.append(held[start:stop])
            start = stop
        return held[start:]

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
