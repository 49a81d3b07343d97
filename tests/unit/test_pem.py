"""PEM texts: their parts, and pairs that cannot be used."""

import subprocess
from pathlib import Path

import pytest

from aigw import pem
from tests.support.certificates import Certificate, certificate


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Certificate]:
    return [certificate(tmp_path_factory.mktemp(f"pair-{n}")) for n in range(2)]


def text(chain: Path, key: Path) -> bytes:
    return pem.joined(pem.certificates(chain.read_bytes()), pem.key(key.read_bytes()) or b"")


def test_a_pair_is_usable_and_another_key_is_not(pairs: list[Certificate]) -> None:
    one, other = pairs
    assert pem.wrong_pair(text(one.chain, one.key)) is None
    assert "mismatch" in (pem.wrong_pair(text(one.chain, other.key)) or "")


def test_a_fingerprint_is_that_of_openssl(pairs: list[Certificate]) -> None:
    command = ["openssl", "x509", "-fingerprint", "-sha256", "-noout", "-in", str(pairs[0].chain)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert pem.fingerprint(pairs[0].chain.read_bytes()) == printed.strip().partition("=")[2].replace(":", "").lower()


def test_a_text_without_certificate_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="no certificate"):
        pem.fingerprint(b"-----BEGIN CERTIFICATE-----\n")
