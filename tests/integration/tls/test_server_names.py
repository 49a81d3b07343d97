"""Certificates of the Admin API, chosen by the server name of each handshake."""

import contextlib
import json
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
import yaml

from tests.integration.tls.conftest import fingerprint, greeted, seen, two_events
from tests.support.certificates import Certificate, certificate, unservable
from tests.support.ends import Upstream, message, parse, read_until
from tests.support.metered import KEY, meter, serve
from tests.support.processes import AIGW, PATIENCE_S, Gateway, start_gateway
from tests.support.surface import metric

WORKERS = 2
YAML = {"Content-Type": "application/yaml"}
NAMES = {
    "exact": ["a.example", "B.example"],
    "suffix": ["*.example"],
    "prefix": ["a.*", "c.*"],
}
"""Certificate -> its server names."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folder = tmp_path_factory.mktemp("pairs")
    made = {name: certificate(folder / name, name) for name in (*NAMES, "default", "ec", "fresh")}
    return {**made, "rsa": certificate(folder / "rsa", "rsa", "rsa")}


def start(data: Path, *options: str) -> Gateway:
    gateway = start_gateway(data, "--proxy-tls", "127.0.0.1:0", *options, workers=WORKERS)
    meter(gateway)
    return gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, Certificate]) -> Iterator[Gateway]:
    """With a pair of the settings."""
    files = ["--tls-cert", str(pairs["default"].chain), "--tls-key", str(pairs["default"].key)]
    running = start(tmp_path_factory.mktemp("names") / "data", *files)
    for name, snis in NAMES.items():
        put(running, pairs[name], snis)
    yield running
    assert running.process.end() == 0


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Without one."""
    running = start(tmp_path_factory.mktemp("bare") / "data")
    yield running
    assert running.process.end() == 0


def put(gateway: Gateway, pair: Certificate, snis: list[str], **alternative: str) -> str:
    """Make a certificate. Returns its id."""
    made = gateway.make("/certificates", cert=pair.cert, key=pair.private, snis=snis, **alternative)
    return str(made["id"])


def shown(gateway: Gateway, name: str | None, **how: object) -> str:
    with greeted(gateway.secure, name, **how) as client:  # type: ignore[arg-type]
        return seen(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.example", "exact"),
        ("b.EXAMPLE", "exact"),
        ("other.example", "suffix"),
        ("a.test", "prefix"),
        ("c.test", "prefix"),
        ("deep.other.example", "default"),
        ("localhost", "default"),
        (None, "default"),
    ],
)
def test_name_chooses_the_certificate(
    gateway: Gateway, pairs: dict[str, Certificate], name: str | None, wanted: str, version: ssl.TLSVersion
) -> None:
    assert shown(gateway, name, version=version) == fingerprint(pairs[wanted])


def test_name_without_a_certificate_is_unrecognized(bare: Gateway, pairs: dict[str, Certificate]) -> None:
    for name in ("a.test", None):
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"), greeted(bare.secure, name):
            pass
    made = put(bare, pairs["exact"], ["a.test"])
    assert shown(bare, "a.test") == fingerprint(pairs["exact"])
    any_name = put(bare, pairs["default"], ["*"])
    assert shown(bare, "b.test") == shown(bare, None) == fingerprint(pairs["default"])
    for one in (made, any_name):
        assert httpx.delete(f"{bare.admin}/certificates/{one}", trust_env=False).status_code == 204
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"), greeted(bare.secure, "a.test"):
        pass
    assert metric(bare, "aigw_tls_handshakes_total", result="no_certificate") == 3


def test_client_gets_the_kind_of_key_that_it_can_verify(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    rsa, ec = pairs["rsa"], pairs["ec"]
    put(gateway, rsa, ["kinds.test"], cert_alt=ec.cert, key_alt=ec.private)
    for ciphers, wanted in (("ECDHE-RSA-AES128-GCM-SHA256", rsa), ("ECDHE-ECDSA-AES128-GCM-SHA256", ec)):
        got = shown(gateway, "kinds.test", version=ssl.TLSVersion.TLSv1_2, ciphers=ciphers)
        assert got == fingerprint(wanted)
    for schemes, wanted in (("rsa_pss_rsae_sha256", rsa), ("ecdsa_secp256r1_sha256", ec)):
        command = ["openssl", "s_client", "-connect", gateway.secure.removeprefix("https://")]
        command += ["-servername", "kinds.test", "-sigalgs", schemes, "-showcerts"]
        found = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert wanted.cert.strip() in found.stdout, found.stderr


def test_replaced_certificate_is_in_force_before_the_reply(gateway: Gateway, pairs: dict[str, Certificate]) -> None:
    go_on = threading.Event()

    made = put(gateway, pairs["exact"], ["moves.test"])
    with Upstream(two_events(go_on)) as upstream, greeted(gateway.secure, "moves.test") as stream:
        path = serve(gateway, upstream.url)
        stream.sendall(message("POST", path, f"apikey: {KEY}", body=b"{}", close=False))
        got = read_until(stream, b"data: 0\n\n")
        for n in range(10):
            wanted = pairs["fresh" if n % 2 == 0 else "suffix"]
            body = {"cert": wanted.cert, "key": wanted.private}
            answer = httpx.patch(f"{gateway.admin}/certificates/{made}", json=body, trust_env=False)
            assert answer.status_code == 200, answer.text
            for _ in range(2 * WORKERS):
                assert shown(gateway, "moves.test") == fingerprint(wanted)
        assert seen(stream) == fingerprint(pairs["exact"])
        go_on.set()
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += stream.recv(65536)
        assert parse("POST", got).body == b"data: 0\n\ndata: 1\n\n"
        name = {"certificate": {"id": put(gateway, pairs["ec"], [])}}
        answer = httpx.patch(f"{gateway.admin}/snis/moves.test", json=name, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert shown(gateway, "moves.test") == fingerprint(pairs["ec"])


def test_client_of_curl_trusts_the_chosen_certificate(gateway: Gateway, tmp_path: Path, echo: str) -> None:
    own = certificate(tmp_path / "curl", "shop.test")
    put(gateway, own, ["shop.test"])
    path, port = serve(gateway, echo), gateway.secure.rpartition(":")[2]
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert", str(own.chain)]
    command += [
        "--resolve",
        f"shop.test:{port}:127.0.0.1",
        "-H",
        f"apikey: {KEY}",
        f"https://shop.test:{port}{path}/get",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0 and '"X-Forwarded-Proto"' in done.stdout, done.stderr


@pytest.mark.parametrize("fault", ["critical", "algorithms", "unique id"])
def test_certificate_that_cannot_be_served_is_never_stored(
    gateway: Gateway, pairs: dict[str, Certificate], tmp_path: Path, fault: str
) -> None:
    wrong = unservable(tmp_path / "wrong", fault)
    body = {"cert": wrong.cert, "key": wrong.private, "snis": ["never.test"]}
    before = httpx.get(f"{gateway.admin}/certificates", trust_env=False).json()
    answer = httpx.post(f"{gateway.admin}/certificates", json=body, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (400, 2)
    assert ": have it issued " in answer.json()["fields"]["cert"]
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump({"certificates": [{"cert": wrong.cert, "key": wrong.private}]}))
    posted = httpx.post(f"{gateway.admin}/config", content=file.read_bytes(), headers=YAML, trust_env=False)
    assert posted.status_code == 400 and posted.json()["errors"][0]["path"] == "certificates[0].cert"
    checked = subprocess.run(
        [*AIGW, "check", str(file)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert checked.returncode == 2 and f"{file}:" in checked.stderr and ": have it issued " in checked.stderr, checked
    assert httpx.get(f"{gateway.admin}/certificates", trust_env=False).json() == before
    assert shown(gateway, "never.test") == fingerprint(pairs["default"])
    assert metric(gateway, "aigw_certificates_unusable_total") == 0


def test_store_with_a_certificate_that_cannot_be_served_opens(tmp_path: Path, pairs: dict[str, Certificate]) -> None:
    """An earlier version stored such certificates."""
    gateway = start(tmp_path / "data")
    put(gateway, pairs["exact"], ["a.test"])
    old = put(gateway, pairs["suffix"], ["b.test"])
    assert gateway.process.end() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "store.db")) as store, store:
        wrong = unservable(tmp_path / "wrong", "critical").cert
        store.execute("UPDATE certificates SET body = json_set(body, '$.cert', ?) WHERE id = ?", [wrong, old])
    gateway = start_gateway(tmp_path / "data", "--proxy-tls", "127.0.0.1:0", workers=1)
    try:
        assert shown(gateway, "a.test") == fingerprint(pairs["exact"])
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"), greeted(gateway.secure, "b.test"):
            pass
        event = json.loads(next(line for line in gateway.process.lines if "certificate_unusable" in line))
        assert "have it issued without that extension" in event["why"]
        assert metric(gateway, "aigw_certificates_unusable_total") == 1
        body = {"cert": pairs["suffix"].cert, "key": pairs["suffix"].private}
        assert httpx.patch(f"{gateway.admin}/certificates/{old}", json=body, trust_env=False).status_code == 200
        assert shown(gateway, "b.test") == fingerprint(pairs["suffix"])
    finally:
        assert gateway.process.end() == 0


def test_certificates_survive_a_restart_and_a_dead_worker(tmp_path: Path, pairs: dict[str, Certificate]) -> None:
    gateway = start(tmp_path / "data")
    put(gateway, pairs["exact"], ["a.test"])
    assert gateway.process.end() == 0
    gateway = start_gateway(tmp_path / "data", "--proxy-tls", "127.0.0.1:0", workers=1)
    try:
        assert shown(gateway, "a.test") == fingerprint(pairs["exact"])
        assert not any("certificate_unusable" in line for line in gateway.process.lines)
    finally:
        assert gateway.process.end() == 0
