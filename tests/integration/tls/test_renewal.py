"""Another certificate in the files: in force for the next connection, while streams and kept connections go on."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tls.conftest import EVENTS_HEAD
from tests.support.certificates import Certificate, certificate
from tests.support.ends import Upstream, Wire, chunk, connect, message, parse, read_until
from tests.support.metered import KEY, meter, serve, used
from tests.support.processes import PATIENCE_S, Gateway, start_gateway, wait_until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WORKERS = 2


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Certificate]:
    return [certificate(tmp_path_factory.mktemp(f"pair-{n}")) for n in range(3)]


@pytest.fixture
def pem(tmp_path: Path, pairs: list[Certificate]) -> Certificate:
    """The files that the gateway is started with."""
    files = Certificate(tmp_path / "chain.pem", tmp_path / "key.pem")
    put(pairs[0], files)
    return files


@pytest.fixture
def gateway(tmp_path: Path, pem: Certificate) -> Iterator[Gateway]:
    options = ["--tls-cert", str(pem.chain), "--tls-key", str(pem.key), "--drain-timeout", "1"]
    running = start_gateway(tmp_path / "data", *options, workers=WORKERS)
    running.proxy = running.proxy.replace("http://", "https://")
    meter(running)
    yield running
    assert running.process.end() == 0


def put(pair: Certificate, files: Certificate) -> None:
    """Write the pair as a renewal does: two files, one after the other."""
    for source, target in ((pair.chain, files.chain), (pair.key, files.key)):
        fresh = target.with_suffix(".new")
        shutil.copy(source, fresh)
        fresh.replace(target)


def fingerprint(pair: Certificate) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.chain.read_text())).hexdigest()


@contextlib.contextmanager
def connected(gateway: Gateway) -> Iterator[ssl.SSLSocket]:
    """A connection to whatever certificate the gateway has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connect(gateway.proxy) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
        yield client


def seen(client: ssl.SSLSocket) -> str:
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return hashlib.sha256(found).hexdigest()


def served(gateway: Gateway) -> set[str]:
    """The certificates of so many new connections that each worker has surely taken one."""
    found = set()
    for _ in range(16 * WORKERS):
        with connected(gateway) as client:
            found.add(seen(client))
    return found


def renewed(gateway: Gateway, pair: Certificate) -> None:
    """Wait until every worker serves this certificate alone."""
    assert gateway.wait_event("certificate_renewed")["fingerprint"] == fingerprint(pair)
    wanted = dict.fromkeys(("worker-1", "worker-2"), fingerprint(pair))
    wait_until(lambda: last_served(gateway) == wanted, "every worker serves the new certificate")
    assert served(gateway) == {fingerprint(pair)}


def last_served(gateway: Gateway) -> dict[str, str]:
    """Worker -> the certificate that it serves, by the log."""
    events = (json.loads(line) for line in gateway.process.lines if '"certificate_served"' in line)
    return {event["child"]: event["fingerprint"] for event in events}


def kept(wire: Wire) -> None:
    while wire.request() is not None:
        wire.send(OK)


def call(client: ssl.SSLSocket, path: str) -> bytes:
    client.sendall(message("POST", path, f"apikey: {KEY}", body=b"x", close=False))
    return read_until(client, b"\r\n\r\nok")


@pytest.mark.parametrize("told", ["by the file", "by a signal"])
def test_a_new_certificate_is_served_while_a_stream_and_a_kept_connection_go_on(
    gateway: Gateway, pem: Certificate, pairs: list[Certificate], told: str
) -> None:
    go_on = threading.Semaphore(0)

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        wire.send(EVENTS_HEAD)
        for n in range(3):
            wire.send(chunk(b"data: %d\n\n" % n))
            assert go_on.acquire(timeout=PATIENCE_S)
        wire.send(b"0\r\n\r\n")

    with Upstream(script) as events, Upstream(kept) as plain, connected(gateway) as stream, connected(gateway) as old:
        path, other, before = serve(gateway, events.url), serve(gateway, plain.url), used(gateway)
        stream.sendall(message("POST", path, f"apikey: {KEY}", body=b"{}", close=False))
        got = read_until(stream, b"data: 0\n\n")
        assert call(old, other).startswith(b"HTTP/1.1 200")
        put(pairs[1], pem)
        if told == "by a signal":
            gateway.process.popen.send_signal(signal.SIGHUP)
        renewed(gateway, pairs[1])
        assert seen(stream) == seen(old) == fingerprint(pairs[0])
        go_on.release()
        got += read_until(stream, b"data: 1\n\n")
        assert call(old, other).startswith(b"HTTP/1.1 200")
        with connected(gateway) as new:
            assert seen(new) == fingerprint(pairs[1]) and call(new, other).startswith(b"HTTP/1.1 200")
        go_on.release()
        go_on.release()
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += stream.recv(65536)
        assert parse("POST", got).body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert used(gateway) == before + 4


def test_no_connection_is_lost_while_certificates_change(
    gateway: Gateway, pem: Certificate, pairs: list[Certificate]
) -> None:
    failed: list[str] = []
    found: set[str] = set()
    stop = threading.Event()

    def connects(path: str) -> None:
        while not stop.is_set():
            try:
                with connected(gateway) as client:
                    found.add(seen(client))
                    if not call(client, path).startswith(b"HTTP/1.1 200"):
                        failed.append("another answer")
            except (OSError, AssertionError) as error:
                failed.append(repr(error))

    with Upstream(kept) as plain:
        path = serve(gateway, plain.url)
        clients = [threading.Thread(target=connects, args=(path,)) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for n in (1, 2, 0, 1):
                put(pairs[n], pem)
                gateway.process.popen.send_signal(signal.SIGHUP)
                renewed(gateway, pairs[n])
        finally:
            stop.set()
            for client in clients:
                client.join()
    assert failed == [] and found == {fingerprint(pair) for pair in pairs}


@pytest.mark.parametrize("broken", ["a text", "an empty file", "another key", "no file", "cut"])
def test_a_broken_certificate_changes_nothing_also_for_a_worker_that_starts(
    gateway: Gateway, pem: Certificate, pairs: list[Certificate], broken: str
) -> None:
    key = pairs[1].key if broken == "another key" else pairs[0].key
    match broken:
        case "no file":
            pem.chain.unlink()
        case "another key":
            put(Certificate(pairs[0].chain, key), pem)
        case "cut":
            pem.chain.write_bytes(pairs[1].chain.read_bytes()[:200])
        case _:
            pem.chain.write_text("no certificate" if broken == "a text" else "")
    event = gateway.wait_event("certificate_rejected")
    assert str(pem.chain) in event["why"] and "stays in force" in event["why"]
    os.kill(gateway.children()["worker-1"], signal.SIGKILL)
    gateway.wait_event("ready", child="worker-1")
    assert served(gateway) == {fingerprint(pairs[0])}
    put(pairs[1], pem)
    renewed(gateway, pairs[1])


def test_a_worker_that_starts_later_serves_the_renewed_certificate(
    gateway: Gateway, pem: Certificate, pairs: list[Certificate]
) -> None:
    put(pairs[1], pem)
    renewed(gateway, pairs[1])
    for name in ("worker-1", "worker-2"):
        os.kill(gateway.children()[name], signal.SIGKILL)
        gateway.wait_event("ready", child=name)
    assert served(gateway) == {fingerprint(pairs[1])}


def test_a_hangup_without_another_certificate_renews_nothing(gateway: Gateway, pairs: list[Certificate]) -> None:
    gateway.process.popen.send_signal(signal.SIGHUP)
    gateway.wait_event("reload_ignored")
    assert served(gateway) == {fingerprint(pairs[0])}
    assert not any("certificate_renewed" in line for line in gateway.process.lines)
