"""Granian's embedded server. Only this Python file depends on its internals.

In: an application, an address, limits. Out: `Embedded`, which listens from `serve` until `stop`. Differences from the library: this
module makes the listening socket (so it listens at a known moment, with our backlog) and can hand it to a successor, certificates come
from a memory file, and `enters_by_run` checks that requests still enter Python the way the inline loop expects.
"""

import contextvars
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from aigw.pem import fingerprint
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
    """One server in this process. `serve()` listens from its first step and returns after `stop()`."""

    def __init__(
        self,
        app: Any,
        interface: Interfaces,
        address: HostPort,
        listening: Callable[[], None],
        idle_s: float,
        *,
        pem: str | None = None,
        before: "Embedded | None" = None,
    ):
        """`idle_s`: seconds that a connection may be without a whole head. `pem`: a file with certificates and key, for TLS. `before`: the
        server whose socket this one takes over."""
        self._opened = None if pem is None else Path(pem).open("rb")  # noqa: SIM115 - closed by `retire`
        """The pair of this moment: its name may lead to a later pair when the library reads it."""
        self.certificate = None if self._opened is None else fingerprint(self._opened.read())
        """The fingerprint of the certificate that this server shows; None without TLS."""
        super().__init__(
            app,
            address=address.host,
            port=address.port,
            interface=interface,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=MAX_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=round(idle_s * 1000), max_buffer_size=MAX_BUFFER_BYTES),
            ssl_protocol_min=SSLProtocols.tls12,  # some old clients have no 1.3
            log_enabled=False,
        )
        self._address = address
        self._listening = listening
        self._before = before
        self._socket = -1

    def _init_shared_socket(self) -> None:
        before = self._before
        self._socket = listen(self._address).detach() if before is None else os.dup(before._socket)
        self._shd = SocketHolder(self._socket, False, BACKLOG)  # type: ignore[call-arg]  # (fd, uds, backlog)
        self._sfd = self._shd.get_fd()
        self._ssp = self._before = None
        if before is None:
            self._listening()

    def build_ssl_context(self, cert: object, key: object, password: object, proto: object, *others: object) -> None:
        """As the library does; it would resolve the path, and a memory file has no other name."""
        pem = None if self._opened is None else f"/proc/self/fd/{self._opened.fileno()}"
        self.ssl_ctx: tuple[Any, ...] = (pem is not None, pem, pem, None, str(proto), None, [], False)

    def retire(self) -> None:
        """Accept no more connections; the ones accepted go on. The successor has the socket with the connections that wait in it.

        In this server's table the number of the socket now names a socket that nobody can reach. Closing the number instead would
        end connections whose handshake is not finished: the library drops them when it stops."""
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind("")  # the kernel takes a free name
            nobody.listen(1)
            nobody.setblocking(False)
            os.dup2(nobody.fileno(), self._socket, inheritable=False)
        if self._opened is not None:
            self._opened.close()


def rsgi(
    app: Any, settings: Settings, listening: Callable[[], None], pem: str | None, before: Embedded | None
) -> Embedded:
    """A server of a worker. Its timer ends idle connections; the worker itself bounds heads (`Gateway.watch_idle`)."""
    idle_s = settings.keep_alive + KEEP_GRACE_S
    return Embedded(app, Interfaces.RSGI, settings.proxy, listening, idle_s, pem=pem, before=before)


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
