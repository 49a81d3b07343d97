"""Bodies of requests on their way in: bounded in size and time, and all of them together in memory.

In: the messages of a request, its headers, the budget of its kind. Out: its bytes, or a Refusal. A part is claimed before it is kept, and the
claim lasts until the answer. The rest of a body that no handler reads is discarded, so that the next request of the connection is understood;
a longer rest ends the connection.
"""

import asyncio
import gc
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from aigw.admin.envelope import Refusal

LARGE: Final = 1 << 20
"""Bytes of a body that is handled alone among its kind: its values take many times its memory. The memory of a smaller one is reused."""
DISCARDED: Final = 1 << 20
DISCARDED_S: Final = 1.0
"""Bytes and seconds of the rest of a body that the gateway reads for the sake of the connection."""
SOON_S: Final = 1.0
LATER_S: Final = 4.0
"""Seconds after the end of a large body at which freed memory goes back to the system. The second walk finds pages that were in use at
the first. Bodies that end one after the other postpone the second only."""


class Patience(NamedTuple):
    """Bounds of a body's way: one silence, and the whole of it."""

    silence_s: float
    total_s: float


class Budget:
    """The memory of all bodies of one kind, used by one event loop. `most`: bytes; at least those of the largest body."""

    def __init__(self, most: int, give_back: Callable[[], None]) -> None:
        self.most: Final = most
        self.held = 0
        self.alone: Final = asyncio.Lock()
        """Held while a large body is handled."""
        self._give_back = give_back
        self._soon: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None

    def claim(self) -> "Claim":
        """A claim of nothing yet, for a `with` block."""
        return Claim(self)

    def ended(self, claimed: int) -> None:
        """The bytes of a body are free again."""
        self.held -= claimed
        if claimed >= LARGE:
            loop = asyncio.get_running_loop()
            if self._soon is None:
                self._soon = loop.call_later(SOON_S, self._walk_soon)
            if self._later is not None:
                self._later.cancel()
            self._later = loop.call_later(LATER_S, self._walk)

    def _walk_soon(self) -> None:
        self._soon = None
        self._walk()

    def _walk(self) -> None:
        asyncio.get_running_loop().run_in_executor(None, self._free)

    def _free(self) -> None:
        gc.collect()  # the trace of an error holds the values of a refused body in a cycle
        self._give_back()


class Claim:
    """The bytes that one body holds until the block ends."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bytes = 0

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.ended(self._bytes)

    def add(self, size: int) -> None:
        """Claim more. Raises a Refusal (503) if others hold too much."""
        if self._budget.held + size > self._budget.most:
            message = (
                f"the bodies of other requests hold {self._budget.most >> 20} MiB: send this one again in a second"
            )
            raise Refusal(503, {"message": message}, {"Retry-After": "1"})
        self._budget.held += size
        self._bytes += size


class Rest:
    """The `receive` of a request, which knows whether its body has been read to the end."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        names = {name for name, value in scope["headers"] if value != b"0"}
        self.is_read = not names & {b"content-length", b"transfer-encoding"}

    async def __call__(self) -> Message:
        message = await self._receive()
        self.is_read = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard(self) -> bool:
        """Read the rest, within bounds. Returns whether nothing is left."""
        left, end = DISCARDED, time.monotonic() + DISCARDED_S
        while not self.is_read and left > 0:
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    left -= len((await self()).get("body", b""))
            except TimeoutError:
                break
        return self.is_read


async def read(request: Request, most: int, patience: Patience, claim: Claim) -> bytes:
    """The whole body. Raises a Refusal: 413 above `most` bytes, 408 when it does not arrive in time, 503 from `Claim.add`."""
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared) > most:
        raise too_large(most)
    parts, size, stream = [], 0, request.stream()
    try:
        async with asyncio.timeout(patience.total_s):
            while True:
                async with asyncio.timeout(patience.silence_s):
                    part = await anext(stream, None)
                if part is None:
                    break
                size += len(part)
                if size > most:
                    raise too_large(most)
                claim.add(len(part))
                parts.append(part)
    except TimeoutError:
        message = f"the body did not arrive in time: {patience.silence_s:g} s of silence, {patience.total_s:g} s in all"
        raise Refusal(408, {"message": message}, {"Connection": "close"}) from None
    if size and (coding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
        message = f"a body with Content-Encoding '{coding[:64]}' cannot be read: send it without an encoding"
        raise Refusal(415, {"message": message}, {"Accept-Encoding": "identity"})
    return b"".join(parts)


def too_large(most: int) -> Refusal:
    """413 for a body above `most` bytes."""
    return Refusal(413, {"message": f"the body is larger than {most} bytes"}, {"Connection": "close"})
