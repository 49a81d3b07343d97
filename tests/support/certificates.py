"""A self-signed certificate made by the openssl command. In: a folder. Out: paths, and an SSL context that trusts only it."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for `localhost` and 127.0.0.1."""

    chain: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        """An SSL context that trusts only this certificate."""
        context = ssl.create_default_context(cafile=self.chain)
        context.set_alpn_protocols(["http/1.1"])
        return context


def certificate(folder: Path) -> Certificate:
    """Make a certificate. Skips the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    made = Certificate(folder / "chain.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(made.key), "-out", str(made.chain)]
    subprocess.run(command, check=True, capture_output=True)
    return made
