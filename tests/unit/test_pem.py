"""PEM texts: their parts, and pairs that cannot be used."""

import re
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw import pem
from aigw._native import Gateway, Publisher, private_key_kind
from starved import EMPTY
from tests.support.certificates import Certificate, certificate, unservable


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Certificate]:
    return [certificate(tmp_path_factory.mktemp(f"pair-{n}")) for n in range(2)]


def test_a_pair_is_usable_and_another_key_is_not(pairs: list[Certificate]) -> None:
    one, other = pairs
    chain = one.cert.encode()
    assert pem.wrong_pair(chain, one.private.encode()) is None
    assert "mismatch" in (pem.wrong_pair(chain, other.private.encode()) or "")
    whole = pem.joined(pem.certificates(chain), pem.key(one.private.encode()) or b"")
    assert pem.wrong_pair(whole, whole) is None
    assert "mismatch" in (pem.wrong_pair(whole, other.private.encode()) or "")


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
    assert pem.authority_ends(leaf.cert) is None and pem.wrong_authorities(leaf.cert.encode()) is None
    for wrong_in in (pem.wrong_authorities, pem.wrong_chain):
        assert wrong_in(leaf.cert.encode()[:-300]) is not None


ENCODINGS = [
    ("critical", "has a critical extension that the gateway does not know: have it issued without"),
    ("algorithms", "names two algorithms of its signature that differ: have it issued again"),
    ("unique id", r"is not encoded as X.509 demands: have it issued again"),
]
"""A fault that OpenSSL does not see -> the words of the parser that workers serve with."""


@pytest.mark.parametrize(("fault", "words"), ENCODINGS)
def test_a_certificate_that_openssl_takes_and_workers_cannot_show_is_refused(
    tmp_path: Path, fault: str, words: str
) -> None:
    made = unservable(tmp_path / "made", fault)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.chain, made.key)
    for why in (
        pem.wrong_chain(made.cert.encode()),
        pem.wrong_pair(made.cert.encode(), made.private.encode()),
        pem.wrong_chain((made.cert + certificate(tmp_path / "good").cert).encode()),
    ):
        assert why is not None and re.match(f"the first certificate {words}", why), why
    # Clients judge the certificates behind the first one; workers hand them over.
    assert pem.wrong_chain((certificate(tmp_path / "first").cert + made.cert).encode()) is None


def test_an_authority_may_have_any_extension_and_must_be_readable(tmp_path: Path) -> None:
    assert pem.wrong_authorities(unservable(tmp_path / "a", "critical").cert.encode()) is None
    good, broken = certificate(tmp_path / "b"), unservable(tmp_path / "c", "unique id")
    why = pem.wrong_authorities((good.cert + broken.cert).encode())
    assert why is not None and why.startswith("certificate 2 is not encoded as X.509 demands"), why


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    data = str(tmp_path_factory.mktemp("data"))
    Publisher(data, "0123abcd-0000-4000-8000-00000000000f").publish(EMPTY)
    return Gateway(data)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_certificate_with_any_changed_byte_is_refused_or_shown(
    worker: Gateway, pairs: list[Certificate], data: st.DataObject
) -> None:
    """A gateway serves with every pair that passes the check."""
    der = bytearray(ssl.PEM_cert_to_DER_cert(pairs[0].cert))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    chain, private = ssl.DER_cert_to_PEM_cert(bytes(der)).encode(), pairs[0].private.encode()
    if pem.wrong_pair(chain, private) is None:
        worker.serve_pair(chain + private)
