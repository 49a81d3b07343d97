"""Granian's embedded server. Only this Python file depends on its internals.

In: an application, an address or a socket, limits. Out: `Embedded`, which listens from `serve` until `stop`. Differences from the
library: this module makes the listening socket (so it listens at a known moment, with our backlog), and `enters_by_run` checks that
requests still enter Python the way the inline loop expects.
"""

import contextvars
import socket
from collections.abc import Callable
from typing import Any, Final

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from aigw.serve.listen import BACKLOG, listen
from aigw.settings import Settings
from aigw.types import HostPort

KEEP_GRACE_S: Final = 1.0
"""Seconds that a connection is kept longer than its answers tell: a request that a client sends at the last moment still arrives."""
IDLE_GRACE_S: Final = 5.0
"""Seconds after which the worker itself ends a connection that the server's own timer does not see, such as an open TLS handshake."""
ADMIN_HEAD_S: Final = 10.0  # one timer for the wait before a head, and for the head
MAX_BUFFER_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 16_384  # per worker; idle ones count


class Embedded(Server):  # type: ignore[misc]  # untyped in the library
    """One server in this process. `serve()` listens from its first step and returns after `stop()`. It speaks no TLS."""

    def __init__(
        self,
        app: Any,
        interface: Interfaces,
        at: HostPort | socket.socket,
        listening: Callable[[], None],
        idle_s: float,
    ):
        """`at`: the address to listen on, or a socket that listens. `idle_s`: seconds that a connection may be without a whole head."""
        super().__init__(
            app,
            interface=interface,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=MAX_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=round(idle_s * 1000), max_buffer_size=MAX_BUFFER_BYTES),
            log_enabled=False,
        )
        self._at = at
        self._listening = listening

    def _init_shared_socket(self) -> None:
        listener = listen(self._at) if isinstance(self._at, HostPort) else self._at
        self._shd = SocketHolder(listener.detach(), False, BACKLOG)  # type: ignore[call-arg]  # (fd, uds, backlog)
        self._sfd = self._shd.get_fd()
        self._ssp = None
        self._listening()


def rsgi(app: Any, at: HostPort | socket.socket, settings: Settings, listening: Callable[[], None]) -> Embedded:
    """A server of a worker. Its timer ends idle connections; the worker itself bounds heads (`Gateway.watch_idle`)."""
    return Embedded(app, Interfaces.RSGI, at, listening, settings.keep_alive + KEEP_GRACE_S)


def asgi(app: Any, address: HostPort, listening: Callable[[], None]) -> Embedded:
    """The server of the control process; the application's lifespan is not used."""
    return Embedded(app, Interfaces.ASGINL, address, listening, ADMIN_HEAD_S)


def enters_by_run() -> bool:
    """Whether this Granian starts a request by `loop.call_soon_threadsafe(_run, coroutine, ...)`."""
    calls: list[tuple[Any, ...]] = []

    class Recorder:
        def call_soon_threadsafe(self, *args: Any, context: Any = None) -> None:
            calls.append(args)

    async def request(_watcher: object) -> None:
        return None

    try:
        from granian._futures import _cbsched_aioschedule  # noqa: PLC0415  (private: may be gone)

        _cbsched_aioschedule(Recorder(), contextvars.copy_context(), request)(object())
    except (ImportError, TypeError, AttributeError):
        return False
    if len(calls) != 1 or len(calls[0]) < 2 or not hasattr(calls[0][1], "close"):
        return False
    calls[0][1].close()
    return getattr(calls[0][0], "__name__", "") == "_run"
