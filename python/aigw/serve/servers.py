"""The servers of one worker: the one that accepts, and earlier ones that serve the connections which they have.

In: a maker of servers, orders to renew or stop. Out: one listening socket for the worker's life. The embedded server reads its
certificate once, so another certificate needs another server. It takes the socket over with the connections that wait in it;
the server before accepts no more, and its handshakes, requests and streams go on. No connection is lost.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aigw.serve.server import Embedded

LINGER_S: Final = 90.0
"""Seconds until an earlier server closes its idle connections; most have ended by themselves then (keep-alive of 75 s)."""
PROOF_S: Final = 0.2
"""A server that cannot use its certificate ends in its first steps, within this time."""

Running = tuple[Embedded, "asyncio.Task[None]"]


class Servers:
    """`start` once, `renew` for another certificate, `stop` at the end. `make` gets the server before, whose socket it takes."""

    def __init__(self, make: Callable[[Embedded | None], Embedded]) -> None:
        self._make = make
        self._running: list[Running] = []
        self._stopped = False
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The reason why the accepting server ended by itself."""

    @property
    def certificate(self) -> str | None:
        """The fingerprint of the accepting server's certificate; None without TLS."""
        return self._running[-1][0].certificate

    def start(self) -> None:
        """Start the first server; it calls its `listening` when it listens."""
        running = self._begin(None)
        self._running.append(running)
        running[1].add_done_callback(self._look_after)

    async def renew(self) -> bool:
        """Put a server with the current certificate in the place of the accepting one. False: it could not start, and the one
        before goes on."""
        before = self._running[-1]
        fresh = self._begin(before[0])
        await asyncio.wait([fresh[1]], timeout=PROOF_S)
        if fresh[1].done():
            return False
        self._running.append(fresh)
        fresh[1].add_done_callback(self._look_after)
        if self._stopped:
            fresh[0].stop()
            return True
        before[0].retire()
        asyncio.get_running_loop().call_later(LINGER_S, before[0].stop)
        return True

    def stop(self) -> None:
        """Accept no more, and close idle connections; requests in flight go on."""
        self._stopped = True
        for server, _ in self._running:
            server.stop()

    async def finished(self) -> None:
        """Wait until no server has a connection."""
        await asyncio.gather(*(served for _, served in self._running), return_exceptions=True)

    def _begin(self, before: Embedded | None) -> Running:
        server = self._make(before)
        return server, asyncio.get_running_loop().create_task(server.serve())

    def _look_after(self, served: "asyncio.Task[None]") -> None:
        accepting = self._running[-1][1]
        self._running = [one for one in self._running if one[1] is not served or served is accepting]
        if served is accepting and not self.ended.done():
            self.ended.set_result(str(served.exception() if not served.cancelled() else "cancelled"))
