"""The control process: the Admin API served on its address, and the supervisor's messages.

In: orders on the command line, lines `reclaim`, `reload`, `hung` and `dropped:<lines>` from the supervisor. Out: a process that serves until
SIGTERM. Exit status 2 means that the operator must repair something first; after another status the supervisor restarts it.
`control_plane` builds the objects that this process runs.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop

from aigw.config import ConfigErrors
from aigw.entities.host import allow
from aigw.errors import AigwError, ConfigError, explain
from aigw.serve import child
from aigw.serve.control_plane import Control, ControlSettings, open_control
from aigw.serve.control_socket import ControlSocket
from aigw.serve.log import Log, Records, Seldom
from aigw.serve.outlet import take_over
from aigw.serve.progress import Bar
from aigw.serve.server import asgi
from aigw.serve.watch import Watch
from aigw.settings import Settings
from aigw.telemetry import start_exporter

LOOK_S: Final = 0.25
"""Seconds between two checks of the workers."""
FLUSH_S: Final = 5.0
"""Time that the reasons of a failed start get to be written."""


def main(arguments: list[str]) -> int:
    orders, settings = child.enter(arguments)
    log = Log(settings.log_format, "control", take_over(stream=True))
    logging.getLogger().addHandler(Records(log))
    logging.getLogger("python_multipart").setLevel(
        logging.CRITICAL
    )  # a line for each odd form of a client, and its content
    allow(settings.upstream_allow or "")
    bar = Bar(sys.stderr.isatty())
    gc.disable()  # objects of a start either stay or are freed by reference counting
    try:
        options = ControlSettings(
            data=settings.data,
            admin=settings.admin,
            proxy=settings.proxy,
            admin_token=settings.admin_token,
            body_timeout=settings.body_timeout,
            body_total=settings.body_total,
            max_config_bytes=settings.max_config_bytes,
            config=settings.config if isinstance(settings.config, Path) else None,
            forget=settings.config == "none",
            metrics_consumers=settings.metrics_consumers == 1,
            tls_address=settings.tls_address,
            schemes=settings.schemes,
            shows_keys=settings.admin_shows_keys == 1,
            must=orders.first,
        )
        control = open_control(options, log=log, progress=bar)
        if orders.first:
            control.publisher.begin_clock()
        bar("storing", 0, 0)
        control.start()
        bar.clear()
    except ConfigErrors as errors:
        bar.clear()
        sys.stderr.write(errors.rendered() + "\n")
        log.outlet.flush(FLUSH_S)  # the supervisor ends this process as soon as it knows
        count = len(errors.findings)
        kept = "" if not (settings.data / "store.db").exists() else (
            "; nothing has changed, and a start without --config goes on with the configuration that the data folder holds"
        )  # fmt: skip
        child.report_failed(orders, f"{settings.config}: {count} error{'s' if count > 1 else ''}, listed above{kept}")
        return child.CONFIG_STATUS
    except (AigwError, OSError) as error:
        why = explain(error)
        log("control_failed", error=why)
        log.outlet.flush(FLUSH_S)
        child.report_failed(orders, why)
        return child.CONFIG_STATUS if isinstance(error, ConfigError) else 1
    gc.enable()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(control, settings, orders, log))
    control.close()
    return 0


async def _serve(control: Control, settings: Settings, orders: child.Orders, log: Log) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    os.set_blocking(orders.control_fd, False)
    watch = Watch(control.configuration, control.faults) if control.configuration.path is not None else None
    loop.add_reader(orders.control_fd, _messages, control, watch, orders.control_fd, log)
    if watch is not None:
        watch.start()
    exporter = start_exporter(settings.otlp_endpoint, control.store.store_id, control.families, control.faults, log)
    questions = ControlSocket(settings.data, control.ledger.answers(), control.faults)
    try:
        await questions.start()
    except OSError as error:
        log("control_socket_failed", error=explain(error))
    server = asgi(control.app, settings.admin, lambda: child.report_ready(orders))
    served = loop.create_task(server.serve())
    stopping = loop.create_task(stop.wait())
    repairing = loop.create_task(_repair(control, log, settings.data))
    await asyncio.wait([served, stopping], return_when=asyncio.FIRST_COMPLETED)
    repairing.cancel()
    if served.done():
        log("server_ended", error=str(served.exception()))
    server.stop()
    if watch is not None:
        await loop.run_in_executor(None, watch.stop)
    await asyncio.wait([served], timeout=2)
    questions.stop()
    if exporter is not None:
        await loop.run_in_executor(None, exporter.shutdown)


async def _repair(control: Control, log: Log, data: Path) -> None:
    seldom = Seldom()
    while True:
        await asyncio.sleep(LOOK_S)
        with control.faults.outlived("repair", "look at the workers"):
            try:
                control.repair.look()
                control.publisher.make_room()
                # Permits whose rows cannot be written now wait for the next look.
                _reclaim(control, log)
                seldom.ended()
            except OSError as error:
                if seldom.is_due():
                    log("repair_failed", error=f"{explain(error)}; {_way_out(data)}")
        control.counts.add("aigw_process_log_dropped_total", log.outlet.take_dropped(), process="control")


def _way_out(data: Path) -> str:
    """The repair of a data folder whose files cannot be used."""
    if (data / "cells").is_dir():
        return f"look at the disk of {data} and at the owner of its files: the gateway goes on by itself"
    return f"{data} was removed or moved: put it back, or stop the gateway, restore the folder from a backup and start it again"


def _reclaim(control: Control, log: Log) -> None:
    """End the permits of dead workers. Raises OSError."""
    reclaimed = control.reclaim()
    # The sweep also finds slots of workers that ended normally: a worker does not free its slot, because its threads may
    # touch a permit until the process is gone. Only open permits are worth a log line.
    if permits := sum(permits for _, permits in reclaimed):
        log("slots_reclaimed", slots=len(reclaimed), permits=permits)


def _messages(control: Control, watch: Watch | None, fd: int, log: Log) -> None:
    """Handle the supervisor's messages. Several deaths need one sweep. Without a configuration file a reload is ignored."""
    lines = os.read(fd, 4096).split()
    asked = set(lines)
    control.counts.add("aigw_worker_hangs_total", lines.count(b"hung"))
    for line in lines:
        if (dropped := line.removeprefix(b"dropped:")) != line and dropped.isdigit():
            control.counts.add("aigw_process_log_dropped_total", int(dropped), process="supervisor")
    if b"reclaim" in asked:
        try:
            _reclaim(control, log)
        except OSError as error:
            log("reclaim_failed", error=str(error))
    if b"reload" in asked and watch is not None:
        watch.hangup()
    elif b"reload" in asked:
        log("reload_ignored", why="no configuration file: start with --config FILE, or send the text to POST /config")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
