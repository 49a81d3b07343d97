"""Ends that speak TLS, and a proxy. In: certificates, a script. Out: an upstream behind TLS; a proxy that records requests."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

from tests.support.certificates import Certificate
from tests.support.ends import Upstream, Wire, header


def behind_tls(script: Callable[[Wire], None], made: Certificate, client: Certificate | None = None) -> Upstream:
    """An upstream that speaks TLS. `client`: the only client certificate that it accepts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.chain, made.key)
    if client is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client.chain)

    def greet(wire: Wire) -> None:
        with context.wrap_socket(wire.socket, server_side=True, do_handshake_on_connect=False) as secure:
            wire.socket = secure
            try:
                secure.do_handshake()
            except ssl.SSLError:
                # A close with unread bytes could overtake the alert.
                with socket.socket(fileno=secure.detach()) as wire.socket:
                    wire.wait_closed()
                return
            script(wire)

    upstream = Upstream(greet)
    upstream.url = upstream.url.replace("http:", "https:")
    return upstream


def proxy(token: str | None = None) -> Upstream:
    """A proxy that opens tunnels, and passes requests with a whole URL on. `token`: the only `Proxy-Authorization` it accepts."""

    def script(wire: Wire) -> None:
        asked = wire.request()
        if asked is None:
            return
        head, body = asked
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if token is not None and header(head, "proxy-authorization") != token:
            wire.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            with socket.create_connection((host, int(port))) as far:
                wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pipe, args=(far, wire.socket), daemon=True)
                back.start()
                _pipe(wire.socket, far)
                back.join()
            return
        host, _, path = target.removeprefix(b"http://").partition(b"/")
        name, _, port = host.decode().rpartition(":")
        with socket.create_connection((name, int(port))) as far:
            far.sendall(method + b" /" + path + b" HTTP/1.1\r\nConnection: close\r\nHost: " + host)
            far.sendall(b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            _pipe(far, wire.socket)

    return Upstream(script)


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
