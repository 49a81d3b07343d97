"""Clients of a TLS address that look at the certificate which they get, whatever it is."""

import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from tests.support.certificates import Certificate
from tests.support.ends import Wire, chunk
from tests.support.processes import PATIENCE_S

EVENTS_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def fingerprint(pair: Certificate) -> str:
    """SHA-256 of a certificate."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.chain.read_text())).hexdigest()


def seen(client: ssl.SSLSocket) -> str:
    """SHA-256 of the certificate that a client got."""
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return hashlib.sha256(found).hexdigest()


@contextlib.contextmanager
def greeted(
    url: str, name: str | None, *, source: str = "127.0.0.1", version: ssl.TLSVersion | None = None, ciphers: str = ""
) -> Iterator[ssl.SSLSocket]:
    """A connection from the address `source` that asks for a server name, or for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    parts = urlsplit(url)
    address = (str(parts.hostname), int(parts.port or 443))
    with (
        socket.create_connection(address, PATIENCE_S, (source, 0)) as plain,
        context.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False) as client,
    ):
        yield client


def torn(wire: Wire) -> None:
    """An upstream's stream that breaks off behind its first event."""
    if wire.request() is not None:
        wire.send(EVENTS_HEAD + chunk(b"data: 0\n\n"))
        wire.reset()


def two_events(go_on: threading.Event) -> Callable[[Wire], None]:
    """An upstream's stream of two events, the second of which waits."""

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(EVENTS_HEAD + chunk(b"data: 0\n\n"))
            assert go_on.wait(PATIENCE_S)
            wire.send(chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    return script
