"""Clients of a TLS address that look at the certificate which they get, whatever it is."""

import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.support.certificates import Certificate
from tests.support.processes import PATIENCE_S


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
