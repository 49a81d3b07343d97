"""Certificates of a running gateway: a service shows one and trusts authorities of its own, and all of it outlives a restart and kill -9."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from aigw.entities.certificate import reference
from tests.integration.tls.conftest import fingerprint, greeted, seen
from tests.support.certificates import Certificate, certificate
from tests.support.ends import Wire
from tests.support.processes import Gateway, start_gateway, wait_until
from tests.support.secure import behind_tls

Json = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folder = tmp_path_factory.mktemp("made")
    return {
        name: certificate(folder / name, kind=kind) for name, kind in (("far", "ec"), ("own", "rsa"), ("other", "ec"))
    }


FIRST = Path(__file__).parents[2] / "rust" / "certificates"
"""A folder with a pair whose certificate is of X.509 version 1, as old tools make it."""


@contextmanager
def running(data: Path, *arguments: str) -> Iterator[Gateway]:
    gateway = start_gateway(data, *arguments)
    try:
        yield gateway
    finally:
        gateway.process.end()


def answer(wire: Wire) -> None:
    while wire.request() is not None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def call(gateway: Gateway, method: str, path: str, expect: int = 200, **body: object) -> Any:
    found = httpx.request(method, gateway.admin + path, json=body or None, trust_env=False)
    assert found.status_code == expect, (method, path, found.text)
    return found.json() if found.content else None


def status(gateway: Gateway) -> int:
    return httpx.get(f"{gateway.proxy}/far", trust_env=False).status_code


def test_a_service_shows_its_certificate_to_an_upstream_that_it_trusts(
    tmp_path: Path, made: dict[str, Certificate]
) -> None:
    with behind_tls(answer, made["far"], made["own"]) as far, running(tmp_path / "data") as gateway:
        own = gateway.make("/certificates", cert=made["own"].cert, key=made["own"].private)["id"]
        other = gateway.make("/certificates", cert=made["other"].cert, key=made["other"].private)["id"]
        trusted = gateway.make("/ca_certificates", cert=made["far"].cert)["id"]
        gateway.make("/services", name="far", url=far.url)
        gateway.make("/services/far/routes", paths=["/far"])
        assert status(gateway) == 502, "the authority is unknown"
        for fields, expect in (
            ({"ca_certificates": [trusted]}, 502),  # the upstream demands a certificate
            ({"client_certificate": {"id": other}}, 502),
            ({"client_certificate": {"id": own}}, 200),
            ({"ca_certificates": None}, 502),
            ({"tls_verify": False}, 200),
            ({"tls_verify": None, "ca_certificates": [trusted]}, 200),
            ({"client_certificate": None}, 502),
        ):
            call(gateway, "PATCH", "/services/far", **fields)
            assert status(gateway) == expect, fields
        call(gateway, "PATCH", "/services/far", client_certificate={"id": other})
        call(gateway, "PATCH", f"/certificates/{other}", cert=made["own"].cert, key=made["own"].private)
        assert status(gateway) == 200, "another certificate under the same id holds at once"


def test_certificates_outlive_a_restart_and_kill_9(tmp_path: Path, made: dict[str, Certificate]) -> None:
    data = tmp_path / "data"
    with behind_tls(answer, made["far"], made["own"]) as far:
        with running(data) as gateway:
            trusted = gateway.make("/ca_certificates", cert=made["far"].cert)["id"]
            own = gateway.make("/certificates", cert=made["own"].cert, key=made["own"].private, snis=["a.test", "*"])
            gateway.make(
                "/services", name="far", url=far.url, ca_certificates=[trusted], client_certificate={"id": own["id"]}
            )
            gateway.make("/services/far/routes", paths=["/far"])
            assert status(gateway) == 200
        gateway = start_gateway(data)
        try:
            assert status(gateway) == 200
            assert call(gateway, "GET", "/certificates/a.test") == own
            assert own["key"] == reference(own["id"], "key")
            added = gateway.make("/certificates", cert=made["other"].cert, key=made["other"].private, snis=["b.test"])
            os.kill(gateway.pid, signal.SIGKILL)
        finally:
            gateway.process.end(signal.SIGKILL)
        with running(data) as gateway:
            assert status(gateway) == 200
            assert call(gateway, "GET", "/certificates/b.test") == added
            assert {sni["name"] for sni in call(gateway, "GET", "/snis")["data"]} == {"a.test", "*", "b.test"}
            call(gateway, "PATCH", "/certificates/b.test", tags=["kept"])
            wait_until(lambda: status(gateway) == 200, "the next configuration is in force")


def test_no_key_is_in_a_file_or_a_line_of_the_log(tmp_path: Path, made: dict[str, Certificate]) -> None:
    data = tmp_path / "data"
    with running(data) as gateway:
        gateway.make("/certificates", cert=made["own"].cert, key=made["own"].private, snis=["a.test"])
        wrong = httpx.post(f"{gateway.admin}/certificates", trust_env=False,
                           json={"cert": made["other"].cert, "key": made["own"].private})  # fmt: skip
        assert wrong.status_code == 400
        file = f"certificates:\n- cert: x\n  key: {made['own'].private!r}\n"
        refused = httpx.post(
            f"{gateway.admin}/config", content=file, headers={"content-type": "application/yaml"}, trust_env=False
        )
        assert refused.status_code == 400
        told = wrong.text + refused.text
    secrets = made["own"].private.splitlines()[1:-1]
    told += "\n".join(gateway.process.lines)
    assert all(line not in told for line in secrets)
    for file_on_disk in (path for path in data.rglob("*") if path.is_file()):
        content = file_on_disk.read_bytes()
        assert all(line.encode() not in content for line in secrets), file_on_disk


def test_a_certificate_of_version_1_is_served_and_shown(tmp_path: Path, made: dict[str, Certificate]) -> None:
    """Kong takes it, and so do its client's tests."""
    old = Certificate(FIRST / "v1.pem", FIRST / "v1.key")
    with (
        behind_tls(answer, made["far"], old) as far,
        running(tmp_path / "data", "--proxy-tls", "127.0.0.1:0") as gateway,
    ):
        own = gateway.make("/certificates", cert=old.cert, key=old.private, snis=["old.test"])["id"]
        with greeted(gateway.secure, "old.test") as client:
            assert seen(client) == fingerprint(old)
        gateway.make("/services", name="far", url=far.url, tls_verify=False)
        gateway.make("/services/far/routes", paths=["/far"])
        assert status(gateway) == 502
        call(gateway, "PATCH", "/services/far", client_certificate={"id": own})
        assert status(gateway) == 200


def test_a_file_of_certificates_is_served_and_followed(tmp_path: Path, made: dict[str, Certificate]) -> None:
    """Names, keys of files and a changed pair, without a restart."""
    shown = certificate(tmp_path / "shown")
    file = tmp_path / "aigw.yaml"
    file.write_text(
        f"certificates:\n- cert: ${{file:{shown.chain}}}\n  key: ${{file:{shown.key}}}\n  snis: [{{name: a.test}}, {{name: '*.b.test'}}]\n"
    )
    with running(tmp_path / "data", "--config", str(file), "--proxy-tls", "127.0.0.1:0") as gateway:

        def served(name: str) -> str:
            with greeted(gateway.secure, name) as client:
                return seen(client)

        before = fingerprint(shown)
        assert served("a.test") == served("x.b.test") == before
        dump = httpx.get(f"{gateway.admin}/config", trust_env=False).text
        assert f"${{file:{shown.key}}}" in dump and "PRIVATE" not in dump
        shown.chain.write_text(made["own"].cert)
        shown.key.write_text(made["own"].private)
        wait_until(lambda: served("a.test") == fingerprint(made["own"]), "the changed pair is served")
