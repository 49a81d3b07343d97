"""PEM texts: their parts, and pairs that cannot be used."""

import subprocess
import time
from pathlib import Path

import pytest

from aigw import pem
from aigw._native import private_key_kind
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


def test_the_kind_of_a_key_is_that_of_its_certificate(tmp_path: Path) -> None:
    for kind, called in (("ec", "ecdsa"), ("rsa", "rsa")):
        assert private_key_kind(certificate(tmp_path / kind, kind=kind).private) == called
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], check=True, capture_output=True, text=True)
    assert private_key_kind(made.stdout) == "ed25519"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["openssl", "ecparam", "-name", "secp521r1", "-genkey", "-noout"], "only RSA keys of"),
        (["openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:x"], "encrypted"),
        (["echo", "no key"], "no private key in PEM form"),
    ],
)  # fmt: skip
def test_a_key_that_workers_cannot_use_is_refused_with_the_reason(command: list[str], why: str) -> None:
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with pytest.raises(ValueError, match=why):
        private_key_kind(made)


def test_authorities_are_known_with_their_end(tmp_path: Path) -> None:
    authority, leaf = certificate(tmp_path / "a"), certificate(tmp_path / "b", authority=False)
    ends = pem.authority_ends(authority.cert)
    assert ends is not None and 1.9 < (ends - time.time()) / 86400 <= 2
    assert pem.authority_ends(leaf.cert) is None and pem.wrong_certificates(leaf.cert) is None
    assert pem.wrong_certificates(leaf.cert[:-300]) is not None
