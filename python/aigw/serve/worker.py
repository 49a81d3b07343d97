"""One proxy worker: builds its objects and runs them.

In: orders on the command line. Out: a process that serves the proxy address until SIGTERM, drains, and ends by `_exit`. It imports
no SQL and no Admin API code. The application is native, so no Python code of ours runs per request.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aigw._native import Gateway
from aigw.errors import explain
from aigw.serve import child
from aigw.serve.drain import drain
from aigw.serve.log import Log
from aigw.serve.loop import make_loop
from aigw.serve.outlet import take_over
from aigw.serve.server import IDLE_GRACE_S, Embedded, rsgi
from aigw.serve.servers import Servers
from aigw.serve.tls import TlsAddress
from aigw.settings import Settings

LOOK_S = 0.1
"""Seconds between tries of a worker that could not load the snapshot."""
LOOK_LOG_S = 1.0
BEAT_S = 0.5

Moves = Callable[[], bool] | None
"""Whether the server's thread moves; None where the event loop steps requests."""


def main(arguments: list[str]) -> None:
    orders, settings = child.enter(arguments)
    log = Log(settings.log_format, "worker", take_over(stream=True), child=orders.name)
    # Wake-up preemption between our threads costs a third of a request's CPU. SCHED_BATCH avoids it, and threads inherit it. A
    # sandbox may forbid the call; requests then cost more.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    loop, moves = make_loop(settings.loop)
    if settings.loop == "inline" and moves is None:
        log("loop_is_stock", why="this server enters Python in another way than the inline loop expects")
    os.read(orders.go_fd, 1)  # returns when control has made the data folder usable
    try:
        gateway = Gateway(
            str(settings.data),
            access_log=settings.access_log,
            max_in_flight=settings.max_in_flight,
            max_body_bytes=settings.max_body_bytes,
            max_body_members=settings.max_body_members,
            body_memory_bytes=settings.body_memory,
            body_memory_part=settings.body_memory_part,
            body_timeout_s=settings.body_timeout,
            body_total_s=settings.body_total,
            keep_alive_s=settings.keep_alive,
            probe_paths=None if settings.probe_path is None else list(settings.probe_path),
            upstream_allow=settings.upstream_allow or "",
        )
    except (OSError, ValueError) as error:
        sys.exit(_failed(orders, log, error))
    # All objects so far stay alive: freeze them, so collections skip them.
    gc.collect()
    gc.freeze()
    code = loop.run_until_complete(_serve(gateway, settings, orders, moves, log))
    log.outlet.flush()
    os._exit(code)


def _failed(orders: child.Orders, log: Log, error: Exception) -> int:
    """Report why this worker cannot serve. Returns its exit status."""
    why = explain(error)
    log("worker_failed", error=why)
    log.outlet.flush()  # the supervisor may end this process as soon as it knows
    child.report_failed(orders, why)
    return 1


async def _serve(gateway: Gateway, settings: Settings, orders: child.Orders, moves: Moves, log: Log) -> int:
    loop = asyncio.get_running_loop()
    stop, at_once = asyncio.Event(), asyncio.Event()
    beating: list[asyncio.Task[None]] = []  # until the process ends

    def on_quit() -> None:
        at_once.set()
        stop.set()

    def listening() -> None:
        if tls is not None:
            tls.listen()
        gateway.ready(moves is not None)
        child.report_ready(orders)
        beating.append(loop.create_task(_beat(gateway, moves, log)))

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGQUIT, on_quit)
    called = [address.port for address in (settings.plain_address, settings.tls_address) if address is not None]
    try:
        gateway.start(loop, log)
        gateway.watch_idle(called, settings.keep_alive + IDLE_GRACE_S)
    except OSError as error:
        return _failed(orders, log, error)
    if not await _loaded(gateway, stop, log):
        gateway.close()
        return 0
    watching = loop.create_task(_watch_log(gateway, log))
    tls = _tls_address(gateway, settings, orders, log)
    if tls is not None:
        loop.add_signal_handler(signal.SIGHUP, tls.renew)
    servers = Servers(_servers(gateway, settings, tls), listening)
    servers.start()
    stopping = loop.create_task(stop.wait())
    waited: list[asyncio.Future[Any]] = [servers.ended, stopping]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        log("server_ended", error=servers.ended.result())
        return 1
    watching.cancel()
    served = loop.create_task(_finished(servers, tls))
    cut = await drain(gateway, servers, served, settings.drain_timeout, at_once)
    if cut:
        log("requests_cut", requests=cut)
    gateway.close()
    return 0


async def _loaded(gateway: Gateway, stop: asyncio.Event, log: Log) -> bool:
    """Wait until the published snapshot can be loaded; False after a stop signal. Without a snapshot the worker would answer 404 to every
    call. Control notices that this worker is behind, and publishes again."""
    reported = False
    while not stop.is_set():
        try:
            gateway.refresh()  # before the first publish this succeeds, with an empty gateway
        except ValueError as error:
            if not reported:
                log("snapshot_unreadable", error=str(error))
            reported = True
            await asyncio.sleep(LOOK_S)
        else:
            return True
    return False


def _tls_address(gateway: Gateway, settings: Settings, orders: child.Orders, log: Log) -> TlsAddress | None:
    if settings.tls_address is None:
        return None
    held = orders.certificate_fd >= 0
    certificate = Path(f"/proc/{orders.supervisor}/fd/{orders.certificate_fd}") if held else None
    return TlsAddress(gateway, settings.tls_address, certificate, log)


def _servers(
    gateway: Gateway, settings: Settings, tls: TlsAddress | None
) -> list[Callable[[Callable[[], None]], Embedded]]:
    """Makers of the servers of the plain address and of the private port."""
    plain, makers = settings.plain_address, []
    if plain is not None:
        makers.append(lambda listening: rsgi(gateway, plain, settings, listening))
    if tls is not None:
        makers.append(lambda listening: rsgi(gateway.behind_tls(), tls.private, settings, listening))
    return makers


async def _finished(servers: Servers, tls: TlsAddress | None) -> None:
    """Wait until no connection is open."""
    await servers.finished()
    if tls is not None:
        await tls.finished()


async def _beat(gateway: Gateway, moves: Moves, log: Log) -> None:
    """Show the supervisor that this loop moves, and whether the server's thread does; count lines that the log dropped."""
    while True:
        gateway.beat(server=moves is None or moves())
        if dropped := log.outlet.take_dropped():
            gateway.log_dropped(dropped)
        await asyncio.sleep(BEAT_S)


async def _watch_log(gateway: Gateway, log: Log) -> None:
    """Log when the access log cannot be written any more, and when it can again."""
    known: str | None = None
    while True:
        await asyncio.sleep(LOOK_LOG_S)
        error = gateway.access_log_error()
        if (error is None) != (known is None):
            log("access_log_failed" if error else "access_log_restored", **({"error": error} if error else {}))
        known = error


if __name__ == "__main__":
    main(sys.argv[1:])
