"""TLS on the proxy's address, with a certificate made here: the same answers, streams, ends and limits as without it."""

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.integration.tls.conftest import EVENTS_HEAD
from tests.support.certificates import Certificate, certificate
from tests.support.ends import Upstream, Wire, chunk, connect, message, parse, read_to_end, read_until
from tests.support.metered import KEY, meter, serve, standing, used
from tests.support.processes import AIGW, PATIENCE_S, Gateway, start_gateway, wait_until

New = Callable[..., Gateway]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


def start_tls(data: Path, pem: Certificate, workers: int = 1) -> Gateway:
    options = ["--tls-cert", str(pem.chain), "--tls-key", str(pem.key), "--drain-timeout", "1"]
    running = start_gateway(data, *options, workers=workers)
    running.proxy = running.proxy.replace("http://", "https://")
    return running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pem: Certificate) -> Iterator[Gateway]:
    running = start_tls(tmp_path_factory.mktemp("tls") / "data", pem)
    meter(running)
    yield running
    running.process.end()


@contextlib.contextmanager
def secured(gateway: Gateway, pem: Certificate) -> Iterator[ssl.SSLSocket]:
    """A connection whose other end has proved to be the gateway."""
    with (
        connect(gateway.proxy) as plain,
        pem.client().wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client,
    ):
        yield client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_offered(gateway: Gateway, pem: Certificate, version: ssl.TLSVersion) -> None:
    context = pem.client()
    context.minimum_version = context.maximum_version = version
    with connect(gateway.proxy) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
        assert client.version() == version.name.replace("_", ".")


def test_a_plain_answer_and_a_kept_connection(gateway: Gateway, pem: Certificate) -> None:
    def script(wire: Wire) -> None:
        while wire.request() is not None:
            wire.send(OK)

    with Upstream(script) as upstream, secured(gateway, pem) as client:
        path, before = serve(gateway, upstream.url), used(gateway)
        assert client.version() in ("TLSv1.2", "TLSv1.3")
        assert client.selected_alpn_protocol() in (None, "http/1.1")
        for n in range(3):
            client.sendall(message("POST", path, f"apikey: {KEY}", body=b"%d" % n, close=False))
            got = read_until(client, b"\r\n\r\nok")
            assert got.startswith(b"HTTP/1.1 200") and b"connection: close" not in got.lower()
        client.sendall(message("POST", path, body=b"no key", close=False))
        assert read_until(client, b"request_id").startswith(b"HTTP/1.1 401")
        assert [body for _, body in upstream.requests] == [b"0", b"1", b"2"]
        assert all(b"x-forwarded-proto: https" in head.lower() for head, _ in upstream.requests)
        assert used(gateway) == before + 3


def test_20_megabytes_arrive_whole(gateway: Gateway, pem: Certificate) -> None:
    content = (bytes(range(256)) * 4096 + b"odd") * 20

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)

    with Upstream(script) as upstream:
        url = gateway.proxy + serve(gateway, upstream.url)
        answer = httpx.get(url, headers={"apikey": KEY}, verify=pem.client(), trust_env=False, timeout=PATIENCE_S)
    assert answer.content == content


def test_events_come_one_by_one(gateway: Gateway, pem: Certificate) -> None:
    go_on = threading.Semaphore(0)

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        wire.send(EVENTS_HEAD)
        for n in range(5):
            wire.send(chunk(b"data: %d\n\n" % n))
            assert go_on.acquire(timeout=PATIENCE_S)
        wire.send(b"0\r\n\r\n")

    with Upstream(script) as upstream, secured(gateway, pem) as client:
        path = serve(gateway, upstream.url)
        client.sendall(message("POST", path, f"apikey: {KEY}", body=b"{}", close=False))
        got = b""
        for n in range(5):
            got += read_until(client, b"data: %d\n\n" % n)
            go_on.release()
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += client.recv(65536)
        assert parse("POST", got).body == b"".join(b"data: %d\n\n" % n for n in range(5))


@pytest.mark.parametrize("when", ["before the head", "in the stream"])
def test_a_client_that_leaves_is_seen_upstream(gateway: Gateway, pem: Certificate, when: str) -> None:
    arrived, gone = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        if when == "in the stream":
            wire.send(EVENTS_HEAD + chunk(b"data: 0\n\n"))
        arrived.set()
        if wire.wait_closed():
            gone.set()

    with Upstream(script) as upstream:
        path, before = serve(gateway, upstream.url), used(gateway)
        with secured(gateway, pem) as client:
            client.sendall(message("POST", path, f"apikey: {KEY}", body=b"{}", close=False))
            assert arrived.wait(PATIENCE_S)
            if when == "in the stream":
                read_until(client, b"data: 0\n\n")
            assert standing(gateway)["reserved"] == 1
        assert gone.wait(PATIENCE_S), "the upstream call goes on although nobody waits for it"
        assert used(gateway) == before + 1


def test_a_torn_answer_has_no_clean_end(gateway: Gateway, pem: Certificate) -> None:
    go_on = threading.Event()

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(EVENTS_HEAD + chunk(b"data: 0\n\n"))
            assert go_on.wait(PATIENCE_S)
            wire.reset()

    with Upstream(script) as upstream, secured(gateway, pem) as client:
        client.sendall(message("POST", serve(gateway, upstream.url), f"apikey: {KEY}", body=b"{}", close=False))
        got = read_until(client, b"data: 0\n\n")
        go_on.set()
        with contextlib.suppress(ssl.SSLError):  # cut without a goodbye, as it should be
            got += read_to_end(client)
        answer = parse("POST", got)
        assert (answer.status, answer.body, answer.whole) == (200, b"data: 0\n\n", False)


def test_plain_http_on_a_tls_port_gets_no_answer(gateway: Gateway) -> None:
    with connect(gateway.proxy) as client:
        client.sendall(message("GET", "/", close=False))
        assert b"HTTP/1.1" not in read_to_end(client)


def test_https_only_routes_are_426_without_tls_and_served_with_it(
    tmp_path: Path, new_gateway: New, pem: Certificate, echo: str
) -> None:
    gateway = new_gateway(workers=2, data=tmp_path / "data")
    gateway.make("/services", name="s", url=echo)
    gateway.make("/services/s/routes", paths=["/only"], protocols=["https"])
    gateway.make("/services/s/routes", paths=["/moved"], protocols=["https"], https_redirect_status_code=301)
    refused = httpx.get(gateway.proxy + "/only/get", trust_env=False)
    assert refused.status_code == 426
    assert refused.headers["upgrade"] == "TLS/1.2, HTTP/1.1" and refused.headers["connection"] == "Upgrade"
    assert json.loads(refused.text)["message"] == "Please use HTTPS protocol"
    moved = httpx.get(gateway.proxy + "/moved/get?a=1", headers={"Host": "shop.test"}, trust_env=False)
    assert (moved.status_code, moved.headers["location"]) == (301, "https://shop.test/moved/get?a=1")
    assert gateway.process.end() == 0

    gateway = start_tls(tmp_path / "data", pem, workers=2)
    try:
        for path in ("/only/get", "/moved/get"):
            answer = httpx.get(gateway.proxy + path, verify=pem.client(), trust_env=False)
            assert answer.status_code == 200
            assert answer.json()["headers"]["X-Forwarded-Proto"] == "https"
    finally:
        assert gateway.process.end() == 0


@pytest.mark.parametrize("broken", ["chain", "key", "not each other's"])
def test_a_certificate_that_cannot_be_used_is_said_at_the_start(tmp_path: Path, pem: Certificate, broken: str) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(pem.chain.read_bytes() if broken != "chain" else b"no certificate")
    key.write_bytes(pem.key.read_bytes() if broken != "key" else b"no key")
    if broken == "not each other's":
        key.write_bytes(certificate(tmp_path).key.read_bytes())
        chain.write_bytes(pem.chain.read_bytes())
    command = [*AIGW, "serve", "--data", str(tmp_path / "data"), "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--workers", "1", "--tls-cert", str(chain), "--tls-key", str(key)]
    end = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert end.returncode == 2, end.stderr
    assert "--tls-cert" in end.stderr.splitlines()[-1] and str(chain) in end.stderr.splitlines()[-1]
    assert "Traceback" not in end.stderr and "panicked" not in end.stderr


def test_nothing_failed_inside(gateway: Gateway) -> None:
    wait_until(lambda: standing(gateway)["reserved"] == 0, "no permit is held")
    assert "aigw_panics_total 0\n" in httpx.get(gateway.admin + "/metrics", trust_env=False).text
    assert urlsplit(gateway.proxy).scheme == "https"
