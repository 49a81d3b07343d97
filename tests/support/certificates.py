"""A self-signed certificate made by the openssl command. In: a folder. Out: paths, and an SSL context that trusts only it."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for `localhost` and 127.0.0.1."""

    chain: Path
    key: Path

    @property
    def cert(self) -> str:
        """The certificate's text."""
        return self.chain.read_text()

    @property
    def private(self) -> str:
        """The key's text."""
        return self.key.read_text()

    def client(self) -> ssl.SSLContext:
        """An SSL context that trusts only this certificate."""
        context = ssl.create_default_context(cafile=self.chain)
        context.set_alpn_protocols(["http/1.1"])
        return context


KINDS: Final = {
    "ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    "rsa": ["-newkey", "rsa:2048"],
    "small": ["-newkey", "rsa:1024"],
}


def certificate(
    folder: Path, name: str = "localhost", kind: str = "ec", *more: str, authority: bool = True
) -> Certificate:
    """Make a certificate. `kind`: of its key. `more`: extensions. Skips the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder.mkdir(exist_ok=True)
    made = Certificate(folder / "chain.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", *KINDS[kind], "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    command += [] if authority else ["-addext", "basicConstraints=critical,CA:FALSE"]
    for extension in more:
        command += ["-addext", extension]
    command += ["-keyout", str(made.key), "-out", str(made.chain)]
    subprocess.run(command, check=True, capture_output=True)
    return made


def unservable(folder: Path, fault: str, name: str = "localhost") -> Certificate:
    """A certificate that OpenSSL takes and rustls does not. `fault`: `critical` (an unknown critical extension), `algorithms` (two of
    the signature that differ), `unique id` (of the issuer: in X.509, and in no certificate of today)."""
    if fault == "critical":
        return certificate(folder, name, "ec", "1.2.3.4=critical,ASN1:UTF8String:unknown")
    made = certificate(folder, name)
    der = ssl.PEM_cert_to_DER_cert(made.cert)
    if fault == "algorithms":
        head, tail = der[: der.rindex(_SHA256)], der[der.rindex(_SHA256) + len(_SHA256) :]
        der = head + _SHA384 + tail
    else:
        at = der.index(_KEY) + len(_KEY) + 65  # behind the key, before the extensions
        der = _longer(_longer(der[:at] + _UNIQUE_ID + der[at:], 0), 4)
    made.chain.write_text(ssl.DER_cert_to_PEM_cert(der))
    return made


_SHA256: Final = bytes.fromhex("06082a8648ce3d040302")
_SHA384: Final = bytes.fromhex("06082a8648ce3d040303")
"""ecdsa-with-SHA256, ecdsa-with-SHA384."""
_KEY: Final = bytes.fromhex("06082a8648ce3d030107034200")
"""The head of a public key of P-256."""
_UNIQUE_ID: Final = bytes.fromhex("81020000")


def _longer(der: bytes, at: int) -> bytes:
    """A sequence at this place with a length of two bytes, as long as the identifier longer."""
    assert der[at : at + 2] == b"\x30\x82"
    length = int.from_bytes(der[at + 2 : at + 4], "big") + len(_UNIQUE_ID)
    return der[: at + 2] + length.to_bytes(2, "big") + der[at + 4 :]
