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


def certificate(folder: Path, name: str = "localhost", kind: str = "ec", *, authority: bool = True) -> Certificate:
    """Make a certificate. `kind`: of its key. Skips the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder.mkdir(exist_ok=True)
    made = Certificate(folder / "chain.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", *KINDS[kind], "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"]
    command += [] if authority else ["-addext", "basicConstraints=critical,CA:FALSE"]
    command += ["-keyout", str(made.key), "-out", str(made.chain)]
    subprocess.run(command, check=True, capture_output=True)
    return made
