"""The end of a worker: no new connections, time for requests in flight, then the cut.

In: the gateway object, its server, a deadline. Out: the number of cut requests. When `drain` returns, every request is answered or
cut, and settled, and the process may `_exit`. The embedded server has no deadline: it would wait for an open stream for ever.
"""

import asyncio
from typing import Final, Protocol

SETTLE_S: Final = 1.0  # seconds to settle cut requests, and for a last answer to reach its socket
_STEP_S: Final = 0.01


class Gateway(Protocol):
    """The methods of the native gateway that a drain uses."""

    def begin_drain(self) -> None: ...
    def in_flight(self) -> int: ...
    def cut(self) -> int: ...


class Server(Protocol):
    """The method of the embedded server that a drain uses."""

    def stop(self) -> None: ...


async def drain(
    gateway: Gateway, server: Server, served: "asyncio.Future[None]", deadline_s: float, at_once: asyncio.Event
) -> int:
    """Drain within `deadline_s`; setting `at_once` ends the wait. Returns the number of cut requests."""
    gateway.begin_drain()
    server.stop()
    await _idle(gateway, deadline_s, at_once)
    cut = gateway.cut() if gateway.in_flight() else 0
    if cut:
        await _idle(gateway, SETTLE_S, asyncio.Event())
    await asyncio.wait([served], timeout=SETTLE_S if not at_once.is_set() else 0)
    return cut


async def _idle(gateway: Gateway, limit_s: float, at_once: asyncio.Event) -> None:
    """Wait until no request is in flight, `limit_s` seconds have passed, or `at_once` is set."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while gateway.in_flight() and loop.time() < end and not at_once.is_set():
        await asyncio.sleep(_STEP_S)
