"""The TLS address of one worker: its listening socket, the private port behind it, and the certificate of the settings.

In: the address, the supervisor's memory file with the certificate that it has checked. Out: a listener of the native gateway, which
chooses certificates by itself; this module only hands over what the process settings give.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from aigw import pem
from aigw.errors import explain
from aigw.serve.listen import listen, private
from aigw.types import HostPort

_STEP_S: Final = 0.01


class Gateway(Protocol):
    """The methods of the native gateway that serve TLS."""

    def serve_tls(self, listening: int, private_port: int) -> None: ...
    def serve_pair(self, pem: bytes) -> None: ...
    def tls_connections(self) -> int: ...


class TlsAddress:
    """`listen` once, `renew` whenever the supervisor has another certificate."""

    def __init__(self, gateway: Gateway, address: HostPort, certificate: Path | None, log: Callable[..., None]) -> None:
        """`certificate`: the supervisor's memory file; None: clients get the certificates of the configuration alone."""
        self._gateway = gateway
        self._address = address
        self._certificate = certificate
        self._log = log
        self.private = private()
        """The socket of the server behind the address."""
        self._port = self.private.getsockname()[1]

    def listen(self) -> None:
        """Begin to serve. Raises ValueError for a certificate that cannot be used, OSError when the address cannot be bound, or when the
        system has no files or no thread for it."""
        self._serve_pair()
        with listen(self._address) as listening:
            try:
                self._gateway.serve_tls(listening.fileno(), self._port)
            except OSError as error:
                raise OSError(f"the TLS address cannot be served: {explain(error)}") from error

    def renew(self) -> None:
        """Serve the certificate that the file holds now. One that cannot be used changes nothing, and is logged."""
        try:
            self._serve_pair()
        except (OSError, ValueError) as error:
            self._log("certificate_failed", why=f"{error}; the certificate before stays in force")

    def _serve_pair(self) -> None:
        if self._certificate is not None:
            content = self._certificate.read_bytes()
            self._gateway.serve_pair(content)
            self._log("certificate_served", fingerprint=pem.fingerprint(content))

    async def finished(self) -> None:
        """Wait until the last bytes of every connection are with its client."""
        while self._gateway.tls_connections():
            await asyncio.sleep(_STEP_S)
