"""The event loop of a worker, and whether requests are stepped inline on it.

Out: a uvloop loop. For `inline`, its `call_soon_threadsafe`, the method through which Granian enters Python from its
own thread, is a native callable that steps our requests right there and passes everything else on. When the start-up
check finds that Granian enters in another way, the loop stays a stock one: slower, never wrong.
"""

import asyncio

import uvloop

from aigw._native import InlineSubmit
from aigw.serve.server import enters_by_run


class WorkerLoop(uvloop.Loop):  # type: ignore[misc]  # uvloop's Loop is a compiled class
    """A uvloop loop that has a place for instance attributes."""


def make_loop(wanted: str) -> tuple[asyncio.AbstractEventLoop, bool]:
    """The loop, made current, and whether it steps inline. `wanted`: `inline` or `stock`."""
    loop = WorkerLoop()
    inline = wanted == "inline" and enters_by_run()
    if inline:
        setattr(loop, "call_soon_threadsafe", InlineSubmit(loop.call_soon_threadsafe))  # noqa: B010
    asyncio.set_event_loop(loop)
    return loop, inline
