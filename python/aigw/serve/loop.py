"""The event loop of a worker, and whether requests are stepped inline on it.

Out: a uvloop loop. Granian enters Python from its own thread through `call_soon_threadsafe`. For `inline` that method is a native
callable: it steps requests on the spot and passes all other callbacks on. If the check at start finds that Granian enters Python
another way, the worker uses a stock loop: slower, never wrong.
"""

import asyncio

import uvloop

from aigw._native import InlineSubmit
from aigw.serve.server import enters_by_run


class WorkerLoop(uvloop.Loop):  # type: ignore[misc]  # uvloop's Loop is a compiled class
    """A uvloop loop with instance attributes."""


def make_loop(wanted: str) -> tuple[asyncio.AbstractEventLoop, bool]:
    """Make a loop and set it as the current one. Returns it, and whether it steps inline. `wanted` is `inline` or `stock`."""
    loop = WorkerLoop()
    inline = wanted == "inline" and enters_by_run()
    if inline:
        setattr(loop, "call_soon_threadsafe", InlineSubmit(loop.call_soon_threadsafe))  # noqa: B010
    asyncio.set_event_loop(loop)
    return loop, inline
