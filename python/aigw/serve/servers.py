"""The servers of one worker: one for its plain address, one for the private port behind its TLS address.

In: makers of servers, an order to stop. Out: one call of `listening` when all of them listen, and the reason when one ends by itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol


class Server(Protocol):
    """The methods of a server that are used here."""

    async def serve(self) -> None: ...
    def stop(self) -> None: ...


class Servers:
    """`start` once, `stop` at the end. Each maker gets the function that its server calls when it listens."""

    def __init__(self, makers: Sequence[Callable[[Callable[[], None]], Server]], listening: Callable[[], None]) -> None:
        self._silent = len(makers)
        self._listening = listening
        self._servers = [make(self._listens) for make in makers]
        self._serving: list[asyncio.Task[None]] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The reason why a server ended by itself."""

    def start(self) -> None:
        """Start all servers."""
        for server in self._servers:
            serving = asyncio.get_running_loop().create_task(server.serve())
            serving.add_done_callback(self._look_after)
            self._serving.append(serving)

    def stop(self) -> None:
        """Accept no more, and close idle connections; requests in flight go on."""
        for server in self._servers:
            server.stop()

    async def finished(self) -> None:
        """Wait until no server has a connection."""
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _listens(self) -> None:
        self._silent -= 1
        if not self._silent:
            self._listening()

    def _look_after(self, serving: "asyncio.Task[None]") -> None:
        if not self.ended.done():
            self.ended.set_result(str(serving.exception() if not serving.cancelled() else "cancelled"))
