"""The event loop of a worker, and whether requests are stepped inline on it.

Out: a uvloop loop. Granian enters Python from its own thread through `call_soon_threadsafe`. For `inline` that method is a native
callable: it steps requests on the spot and passes all other callbacks on. If the check at start finds that Granian enters Python
another way, the worker uses a stock loop: slower, never wrong.
"""

import asyncio
from collections.abc import Callable

import uvloop

from aigw._native import InlineSubmit
from aigw.serve.server import enters_by_run


class WorkerLoop(uvloop.Loop):  # type: ignore[misc]  # uvloop's Loop is a compiled class
    """A uvloop loop with instance attributes."""


def make_loop(wanted: str) -> tuple[asyncio.AbstractEventLoop, Callable[[], bool] | None]:
    """Make a loop and set it as the current one. Returns it, and whether the server's thread moves (None: the loop itself steps requests).
    `wanted` is `inline` or `stock`."""
    loop = WorkerLoop()
    asyncio.set_event_loop(loop)
    if wanted != "inline" or not enters_by_run():
        return loop, None
    submit = InlineSubmit(loop.call_soon_threadsafe)
    setattr(loop, "call_soon_threadsafe", submit)  # noqa: B010
    return loop, submit.moves
