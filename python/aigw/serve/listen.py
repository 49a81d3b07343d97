"""The sockets of a gateway's addresses, and the probe that detects a port in use.

Workers share the proxy port with SO_REUSEPORT. That option would also let a second gateway bind the port without an error, so the
start binds once without it. The supervisor then holds a bound socket that never listens: it reserves the port while no worker
lives, and fixes the number of port 0.
"""

import errno
import socket

from aigw.errors import AddressInUse, ConfigError
from aigw.types import HostPort

BACKLOG = 4096
UNSENT_BYTES = 128 * 1024
"""Bytes that the kernel takes ahead of those which a client's window lets it send. By itself it would take megabytes for each client that
does not read. Accepted sockets inherit it; bytes on their way to a distant client are not counted, so it bounds no transfer's speed."""

PRIVATE_BYTES = 32 * 1024
"""Bytes of the kernel's buffers for a connection between the TLS address and the worker's server."""


def resolve(address: HostPort, name: str) -> tuple[int, HostPort]:
    """Address family and literal address of `address`. Raises ConfigError when the host has none."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"--{name}: the host {address.host!r} has no address: {error.strerror}") from None
    family, _, _, _, sockaddr = found[0]
    return family, HostPort(str(sockaddr[0]), address.port)


def hold(address: HostPort, name: str) -> tuple[socket.socket, HostPort]:
    """Reserve `address`: returns a bound, non-listening socket to keep open, and the address with its real port.

    Raises AddressInUse if another process has it, ConfigError if this machine cannot bind it.
    """
    family, literal = resolve(address, name)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            probe.bind((literal.host, literal.port))
        listener = _reusable(family, literal)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"port {address.port} on {address.host} is in use by another process: stop it, "
                f"or choose another port with --{name} {HostPort(address.host, address.port + 1)}"
            ) from None
        raise ConfigError(f"--{name}: cannot bind {address}: {error.strerror}") from None
    return listener, HostPort(literal.host, listener.getsockname()[1])


def listen(address: HostPort) -> socket.socket:
    """A listening, non-blocking socket that shares `address` with other workers."""
    family, literal = resolve(address, "proxy")
    shared = _reusable(family, literal)
    # Accepted sockets inherit this. A closed one may keep the port for a minute, and the next start's probe can bind only if both
    # sockets have the option. The supervisor's socket does not get it, because it must stop another gateway's probe.
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it; without it each event of a stream waits 40 ms for the client's acknowledgement.
    shared.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    shared.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    shared.listen(BACKLOG)
    shared.setblocking(False)
    return shared


def private() -> socket.socket:
    """A listening, non-blocking socket at a free port of loopback, for the worker's own TLS address alone."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Accepted sockets inherit these. Loopback needs no large buffers, and each client that does not read fills them.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PRIVATE_BYTES)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PRIVATE_BYTES)
    made.listen(BACKLOG)
    made.setblocking(False)
    return made


def _reusable(family: int, address: HostPort) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address.host, address.port))
    except OSError:
        made.close()
        raise
    return made
