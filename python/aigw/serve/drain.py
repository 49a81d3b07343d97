"""How a worker ends: no new connections, time for what is in flight, then the cut.

In: the gateway object, its server, a deadline. Out: nothing; when it returns, everything in flight was answered or cut
and settled, and the process may `_exit`. The deadline is ours: the embedded server would wait for an open stream for ever.
"""

import asyncio
from typing import Final, Protocol

SETTLE_S: Final = 1.0  # what a cut request gets to be settled, and a last answer to reach its socket
_STEP_S: Final = 0.01


class Gateway(Protocol):
    """What of the native gateway a drain uses."""

    def begin_drain(self) -> None: ...
    def in_flight(self) -> int: ...
    def cut(self) -> int: ...


class Server(Protocol):
    """What of the embedded server a drain uses."""

    def stop(self) -> None: ...


async def drain(
    gateway: Gateway, server: Server, served: "asyncio.Future[None]", deadline_s: float, at_once: asyncio.Event
) -> int:
    """Drain; `at_once` set means no more time. Returns the number of requests that were cut."""
    gateway.begin_drain()
    server.stop()
    await _idle(gateway, deadline_s, at_once)
    cut = gateway.cut() if gateway.in_flight() else 0
    if cut:
        await _idle(gateway, SETTLE_S, asyncio.Event())
    await asyncio.wait([served], timeout=SETTLE_S if not at_once.is_set() else 0)
    return cut


async def _idle(gateway: Gateway, limit_s: float, at_once: asyncio.Event) -> None:
    """Until nothing is in flight, `limit_s` have passed or `at_once` is set."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while gateway.in_flight() and loop.time() < end and not at_once.is_set():
        await asyncio.sleep(_STEP_S)
