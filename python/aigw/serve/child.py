"""Communication between the supervisor and a child: orders on the command line, pipes for ready and go.

A child is `python -P -m <module> <orders as JSON>`, spawned from the supervisor's main thread (the kernel ties the
parent-death signal to that thread). A child calls `enter` first; from then on it dies with its supervisor,
however the supervisor ends, and ignores Ctrl-C. Imports nothing heavy: both sides pay for it at start.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from aigw.settings import Settings, load

READY: Final = b"\n"
CONFIG_STATUS: Final = 2
"""A child's exit status if a restart cannot help."""
MOST_SAID: Final = 4096  # bytes; a pipe takes this much in one write (PIPE_BUF)
_PR_SET_PDEATHSIG: Final = 1
_ALLOCATORS: Final = {
    # The server's library has jemalloc inside. By itself it gives freed pages back only when somebody allocates: with a thread of its
    # own it does so also in a worker that a burst has left alone. It wakes 200 times in this time: in one second it cost 5 % of a call.
    "_RJEM_MALLOC_CONF": "background_thread:true,dirty_decay_ms:8000,muzzy_decay_ms:0",
    # The native half has mimalloc. In pages of 2 MiB a worker holds up to twice the memory that many small buffers need.
    "MIMALLOC_ALLOW_THP": "0",
}
"""Variables that the allocators of a child read when they are loaded. An operator's own win."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The orders of one child. File descriptors are inherited under these numbers; -1 means none."""

    name: str
    """The child's name in the log: `control`, `worker-1`."""
    settings: dict[str, str]
    supervisor: int
    """The supervisor's pid."""
    ready_fd: int
    """The child writes a line end here once it serves, or the reason why it cannot."""
    go_fd: int = -1
    """Reaches end of file when the data folder is usable. A worker opens no file before that."""
    certificate_fd: int = -1
    """The supervisor's own number of the memory file with the settings' certificate and key; not inherited."""
    first: bool = False
    """For control: the gateway has never served, so a configuration file with errors ends the start."""
    control_fd: int = -1
    """Lines from the supervisor to control: `reclaim`, `reload`, `hung`, `dropped:<lines of its log>`."""


def spawn(module: str, orders: Orders) -> "subprocess.Popen[bytes]":
    """Start `module` as a child. It inherits only the descriptors named in `orders`."""
    inherited = [fd for fd in (orders.ready_fd, orders.go_fd, orders.control_fd) if fd >= 0]
    command = [sys.executable, "-P", "-m", module, json.dumps(asdict(orders))]
    environment = _ALLOCATORS | os.environ
    return subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL, env=environment)


def enter(arguments: Iterable[str]) -> tuple[Orders, Settings]:
    """Read the orders and let this process die with the supervisor."""
    orders = Orders(**json.loads(next(iter(arguments))))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != orders.supervisor:
        os._exit(1)  # the supervisor died before prctl
    return orders, load(orders.settings)


def report_ready(orders: Orders) -> None:
    """Report to the supervisor that this child serves."""
    os.write(orders.ready_fd, READY)
    os.close(orders.ready_fd)


def report_failed(orders: Orders, why: str) -> None:
    """Report to the supervisor why this child cannot serve."""
    os.write(orders.ready_fd, why.encode()[:MOST_SAID])
    os.close(orders.ready_fd)
