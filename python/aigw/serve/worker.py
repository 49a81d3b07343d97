"""One proxy worker: the only place that builds its objects.

In: orders on the command line. Out: a process that serves the proxy address until it is told to drain, and then ends by
`_exit`. It imports no SQL and no admin code, and runs no Python of ours per request: the application is native.
"""

import asyncio
import gc
import os
import signal
import sys

from aigw._native import Gateway
from aigw.errors import explain
from aigw.serve import child
from aigw.serve.drain import drain
from aigw.serve.log import Log
from aigw.serve.loop import make_loop
from aigw.serve.server import rsgi
from aigw.settings import Settings


def main(arguments: list[str]) -> None:
    orders, settings = child.enter(arguments)
    log = Log(settings.log_format, "worker")
    # Wake-up preemption between our own threads costs a third of a request's CPU; threads inherit this.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    loop, inline = make_loop(settings.loop)
    if settings.loop == "inline" and not inline:
        log("loop_is_stock", why="this server enters Python in another way than the inline loop expects")
    os.read(orders.go_fd, 1)  # ends when control has made the data folder usable
    try:
        gateway = Gateway(
            str(settings.data),
            access_log=settings.access_log,
            max_in_flight=settings.max_in_flight,
            max_body_bytes=settings.max_body_bytes,
            body_timeout_s=settings.body_timeout,
            tls=settings.tls_cert is not None,
        )
    except (OSError, ValueError) as error:
        why = explain(error)
        log("worker_failed", error=why)
        child.tell_failed(orders, why)
        sys.exit(1)
    # What is alive now stays: collections need not walk it.
    gc.collect()
    gc.freeze()
    code = loop.run_until_complete(_serve(gateway, settings, orders, inline, log))
    os._exit(code)


async def _serve(gateway: Gateway, settings: Settings, orders: child.Orders, inline: bool, log: Log) -> int:
    loop = asyncio.get_running_loop()
    stop, at_once = asyncio.Event(), asyncio.Event()

    def on_quit() -> None:
        at_once.set()
        stop.set()

    def listening() -> None:
        gateway.ready(inline)
        child.tell_ready(orders)

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGQUIT, on_quit)
    gateway.start(loop)
    server = rsgi(gateway, settings, listening)
    served = loop.create_task(server.serve())
    stopping = loop.create_task(stop.wait())
    await asyncio.wait([served, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        log("server_ended", error=str(served.exception()))
        return 1
    cut = await drain(gateway, server, served, settings.drain_timeout, at_once)
    if cut:
        log("requests_cut", requests=cut)
    gateway.close()
    return 0


if __name__ == "__main__":
    main(sys.argv[1:])
