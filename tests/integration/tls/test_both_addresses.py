"""A TLS address beside the plain one: each request has the protocol and the client of its own connection."""

import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.integration.tls.conftest import greeted, torn, two_events
from tests.support.certificates import Certificate, certificate
from tests.support.ends import Answer, Upstream, Wire, ask, connect, message, parse, read_to_end, read_until
from tests.support.hostile import MIB, Flood, Peak, resident
from tests.support.metered import KEY, meter, serve, used
from tests.support.processes import PATIENCE_S, Gateway, start_gateway, wait_until
from tests.support.surface import metric

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WORKERS = 2


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


def start_both(data: Path, pem: Certificate, *options: str) -> Gateway:
    files = ["--tls-cert", str(pem.chain), "--tls-key", str(pem.key)]
    return start_gateway(data, "--proxy-tls", "127.0.0.1:0", *files, *options, workers=WORKERS)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pem: Certificate) -> Iterator[Gateway]:
    running = start_both(tmp_path_factory.mktemp("both") / "data", pem)
    meter(running)
    yield running
    assert running.process.end() == 0


@pytest.fixture(scope="module")
def flood() -> Iterator[Flood]:
    with Flood(8 * MIB) as flood:
        yield flood


def say(client: socket.socket, path: str, *lines: str, key: str = KEY) -> Answer:
    """One request on a connection that stays open."""
    client.sendall(message("GET", path, f"apikey: {key}", *lines, close=False))
    got = read_until(client, b"\r\n\r\n")
    while not parse("GET", got).whole:
        got += client.recv(65536)
    return parse("GET", got)


def test_protocol_belongs_to_the_request(gateway: Gateway, echo: str) -> None:
    gateway.make("/services", name="only-tls", url=echo)
    gateway.make("/services/only-tls/routes", paths=["/only-tls"], protocols=["https"])
    path, key = serve(gateway, echo), {"apikey": KEY}
    for _ in range(2 * WORKERS):
        plain = httpx.get(gateway.proxy + "/only-tls/get", headers=key, trust_env=False)
        assert plain.status_code == 426 and plain.headers["upgrade"] == "TLS/1.2, HTTP/1.1"
        for url, proto in ((gateway.proxy, "http"), (gateway.secure, "https")):
            answer = httpx.get(url + path + "/get", headers=key, verify=False, trust_env=False)
            assert answer.json()["headers"]["X-Forwarded-Proto"] == proto
        secure = httpx.get(gateway.secure + "/only-tls/get", headers=key, verify=False, trust_env=False)
        assert secure.status_code == 200


def test_plugin_of_one_protocol_runs_for_its_requests_alone(gateway: Gateway, echo: str) -> None:
    gateway.make("/services", name="mixed", url=echo)
    gateway.make("/services/mixed/routes", paths=["/mixed"])
    gateway.make("/consumers", username="mixed")
    gateway.make("/consumers/mixed/key-auth", key="a-key-of-both-protocols")
    cors, bound = {"origins": ["https://page.example"]}, {"allowed_payload_size": 1, "size_unit": "bytes"}
    gateway.make("/services/mixed/plugins", name="cors", protocols=["https"], config=cors)
    gateway.make("/services/mixed/plugins", name="request-size-limiting", protocols=["http"], config=bound)
    for protocol, year in (("http", 100), ("https", 200)):
        limit = {"year": year, "policy": "local"}
        gateway.make(
            "/consumers/mixed/plugins" if protocol == "http" else "/services/mixed/plugins",
            name="rate-limiting",
            protocols=[protocol],
            config=limit,
        )
    headers = {"apikey": "a-key-of-both-protocols", "origin": "https://page.example"}
    for _ in range(2 * WORKERS):
        plain, secure = (
            httpx.get(f"{url}/mixed/get", headers=headers, verify=False, trust_env=False)
            for url in (gateway.proxy, gateway.secure)
        )
        assert (plain.headers["x-ratelimit-limit-year"], secure.headers["x-ratelimit-limit-year"]) == ("100", "200")
        assert "access-control-allow-origin" not in plain.headers
        assert secure.headers["access-control-allow-origin"] == "https://page.example"
    for url, status in ((gateway.proxy, 413), (gateway.secure, 200)):
        answer = httpx.post(f"{url}/mixed/post", content=b"two", headers=headers, verify=False, trust_env=False)
        assert answer.status_code == status, answer.text


def test_upstream_and_limits_see_the_client_address(gateway: Gateway, echo: str) -> None:
    gateway.make("/services", name="by-ip", url=echo)
    route = gateway.make("/services/by-ip/routes", paths=["/by-ip"])
    gateway.make("/consumers", username="by-ip")
    gateway.make("/consumers/by-ip/key-auth", key="a-key-of-many-addresses")
    limit = {"year": 2, "limit_by": "ip", "policy": "local"}
    gateway.make("/plugins", name="rate-limiting", route={"id": route["id"]}, config=limit)
    for source in ("127.0.0.5", "127.0.0.6"):
        statuses = []
        for _ in range(3):
            with greeted(gateway.secure, "localhost", source=source) as client:
                answer = say(client, "/by-ip/get", "X-Forwarded-For: 192.0.2.9", key="a-key-of-many-addresses")
                statuses.append(answer.status)
                if answer.status == 200:
                    assert f"192.0.2.9, {source}".encode() in answer.body
        assert statuses == [200, 200, 429]


def test_client_of_the_private_port_is_refused(gateway: Gateway) -> None:
    path, before = serve(gateway, "http://127.0.0.1:1"), used(gateway)
    ports = private_ports(gateway)
    for port in ports:
        answer = ask(f"http://127.0.0.1:{port}", "POST", path, f"apikey: {KEY}", body=b"{}")
        assert (answer.status, answer.header("connection")) == (421, "close")
        assert b"call its TLS address" in answer.body
    assert used(gateway) == before
    assert metric(gateway, "aigw_denials_total", reason="private_port") == len(ports) == WORKERS


def test_stranger_at_the_port_of_a_client_is_refused(gateway: Gateway) -> None:
    with greeted(gateway.secure, None) as client:
        assert say(client, "/nowhere").status == 404
        (private, own) = next(
            (port, peer) for port in private_ports(gateway) for peer in peers_of(port)
        )  # the connection that carries the client
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.2", own))
            stranger.connect(("127.0.0.1", private))
            stranger.settimeout(PATIENCE_S)
            stranger.sendall(message("GET", "/nowhere"))
            assert parse("GET", read_to_end(stranger)).status == 421
        assert say(client, "/nowhere").status == 404


@pytest.mark.parametrize("cut", ["plain", "secure"])
def test_cut_ends_only_its_own_of_two_connections_from_one_port(gateway: Gateway, echo: str, cut: str) -> None:
    """A client's address and port do not tell its connection to the plain address from that to the TLS address."""

    path = serve(gateway, echo)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Upstream(torn) as upstream:
        tearing = serve(gateway, upstream.url)
        for _ in range(4 * WORKERS):  # often enough for both connections to be of one worker
            with contextlib.ExitStack() as stack:
                ends, source = {}, ("127.0.0.7", 0)
                for name, url in (("plain", gateway.proxy), ("secure", gateway.secure)):
                    ends[name] = stack.enter_context(socket.socket())
                    ends[name].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    ends[name].settimeout(PATIENCE_S)
                    ends[name].bind(source)
                    source = ends[name].getsockname()
                    ends[name].connect((str(urlsplit(url).hostname), int(urlsplit(url).port or 0)))
                ends["secure"] = stack.enter_context(context.wrap_socket(ends["secure"], suppress_ragged_eofs=False))
                other = ends["secure" if cut == "plain" else "plain"]
                assert say(other, path + "/get").status == 200
                ends[cut].sendall(message("POST", tearing, f"apikey: {KEY}", body=b"{}", close=False))
                got = read_until(ends[cut], b"data: 0\n\n")
                with contextlib.suppress(ssl.SSLError):  # cut without a goodbye
                    got += read_to_end(ends[cut])
                assert not parse("POST", got).whole
                assert say(other, path + "/get").status == 200


def test_torn_answer_of_a_listener_for_both_families_has_no_clean_end(tmp_path: Path, pem: Certificate) -> None:
    """Such a listener sees a client of IPv4 at an address of IPv6."""
    files = ["--tls-cert", str(pem.chain), "--tls-key", str(pem.key)]
    running = start_gateway(tmp_path / "data", "--proxy-tls", "[::]:0", *files)
    try:
        meter(running)
        with Upstream(torn) as upstream, greeted(f"https://127.0.0.1:{urlsplit(running.secure).port}", None) as client:
            path = serve(running, upstream.url)
            client.sendall(message("POST", path, f"apikey: {KEY}", body=b"{}", close=False))
            got = read_until(client, b"data: 0\n\n")
            with contextlib.suppress(ssl.SSLError):  # cut without a goodbye
                got += read_to_end(client)
            assert not parse("POST", got).whole
    finally:
        running.process.end()


def test_clients_that_leave_are_no_strangers(gateway: Gateway, echo: str) -> None:
    """The server reads their bytes after they have left."""
    path, clients = serve(gateway, echo), 20
    strangers = metric(gateway, "aigw_denials_total", reason="private_port")
    shaken = metric(gateway, "aigw_tls_handshakes_total", result="done")
    for _ in range(clients):
        with greeted(gateway.secure, None) as client:
            client.sendall(
                message("POST", path + "/post", f"apikey: {KEY}", "Content-Length: 9", close=False) + b"half"
            )
    wait_until(
        lambda: metric(gateway, "aigw_tls_handshakes_total", result="done") == shaken + clients, "all were there"
    )
    with greeted(gateway.secure, None) as client:
        assert say(client, path + "/get").status == 200
    assert metric(gateway, "aigw_denials_total", reason="private_port") == strangers


def test_kongs_clients_see_both_listeners(gateway: Gateway) -> None:
    found = httpx.get(gateway.admin + "/", headers={"accept": "application/json"}, trust_env=False).json()
    listeners = {one["port"]: one["ssl"] for one in found["configuration"]["proxy_listeners"]}
    assert listeners == {urlsplit(gateway.proxy).port: False, urlsplit(gateway.secure).port: True}


def private_ports(gateway: Gateway) -> set[int]:
    """The private ports of all workers."""
    workers = [pid for name, pid in gateway.children().items() if name.startswith("worker")]
    public = {urlsplit(url).port for url in (gateway.proxy, gateway.secure, gateway.admin)}
    return set().union(*map(listening, workers)) - public


def peers_of(port: int) -> list[int]:
    """The ports from which connections to this port of 127.0.0.1 are open."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [(row[1], row[2].rpartition(":")) for row in rows if row[3] == "01"]
    return [int(own.rpartition(":")[2], 16) for own, (_, _, to) in ends if int(to, 16) == port]


def listening(pid: int) -> set[int]:
    """The ports at which a process listens."""
    files = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in files}


def test_handshake_that_does_not_end_is_ended(gateway: Gateway) -> None:
    with connect(gateway.secure) as silent, connect(gateway.secure) as dripping, greeted(gateway.secure, None) as idle:
        began = time.monotonic()
        dripping.sendall(b"\x16\x03\x01")
        assert silent.recv(1) == b"" and dripping.recv(1) == b""
        assert 9 < time.monotonic() - began < PATIENCE_S
        assert say(idle, "/nowhere").status == 404, "a client that has shaken hands stays"
    assert metric(gateway, "aigw_tls_handshakes_total", result="timeout") == 2


def test_slow_handshakes_keep_nobody_out(gateway: Gateway) -> None:
    before = metric(gateway, "aigw_tls_handshakes_total", result="displaced")
    with contextlib.ExitStack() as stack:
        for _ in range(2500):
            stack.enter_context(connect(gateway.secure))
        with greeted(gateway.secure, None) as client:
            assert say(client, "/nowhere").status == 404
        displaced = metric(gateway, "aigw_tls_handshakes_total", result="displaced") - before
        assert displaced >= 2500 - WORKERS * 1024


def test_clients_that_never_read_cost_little(gateway: Gateway, flood: Flood) -> None:
    count = 40
    with contextlib.ExitStack() as stack:
        path = serve(gateway, flood.url)
        with Peak(gateway) as peak:
            for _ in range(count):
                client = stack.enter_context(greeted(gateway.secure, None))
                client.sendall(message("GET", path, f"apikey: {KEY}"))
            settled, last = 0, -1
            while settled < 10:
                time.sleep(0.05)
                now = resident(gateway) // MIB
                settled, last = (settled + 1 if now == last else 0), now
        assert peak.grown <= count * 400 * 1024
        slow = parse("GET", read_to_end(client))
        assert (slow.status, len(slow.body), slow.whole) == (200, 8 * MIB, True)


def test_large_bodies_pass_both_ways_at_once(gateway: Gateway) -> None:
    content = bytes(range(256)) * 4096 * 8

    def script(wire: Wire) -> None:
        if (asked := wire.request()) is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(asked[1]) + asked[1])

    with Upstream(script) as upstream:
        url, key = gateway.secure + serve(gateway, upstream.url), {"apikey": KEY}
        answer = httpx.post(url, content=content, headers=key, verify=False, trust_env=False, timeout=PATIENCE_S)
    assert answer.content == content


def test_worker_that_dies_takes_only_its_own_clients(gateway: Gateway, echo: str) -> None:
    path = serve(gateway, echo)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(greeted(gateway.secure, None)) for _ in range(8 * WORKERS)]
        assert {say(client, path + "/get").status for client in clients} == {200}
        wait_until(lambda: metric(gateway, "aigw_tls_connections") == len(clients), "every client is counted")
        os.kill(gateway.children()["worker-1"], signal.SIGKILL)
        alive = 0
        for client in clients:
            with contextlib.suppress(OSError, AssertionError):
                alive += say(client, path + "/get").status == 200
        assert 0 < alive < len(clients)
        gateway.wait_event("ready", child="worker-1")
        wait_until(lambda: metric(gateway, "aigw_tls_connections") == alive, "the dead worker's clients are gone")
        with connect(gateway.secure):
            wait_until(lambda: metric(gateway, "aigw_tls_connections") == alive + 1, "a client that greets is counted")
    wait_until(lambda: metric(gateway, "aigw_tls_connections") == 0, "nobody is connected")
    with greeted(gateway.secure, None) as client:
        assert say(client, path + "/get").status == 200
    assert used(gateway) >= 8 * WORKERS


def test_drain_finishes_streams_and_takes_no_client(tmp_path: Path, pem: Certificate) -> None:
    gateway = start_both(tmp_path / "data", pem)
    meter(gateway)
    go_on = threading.Event()

    with (
        Upstream(two_events(go_on)) as upstream,
        greeted(gateway.secure, None) as stream,
        greeted(gateway.secure, None) as idle,
    ):
        path = serve(gateway, upstream.url)
        assert say(idle, "/nowhere").status == 404
        stream.sendall(message("POST", path, f"apikey: {KEY}", body=b"{}", close=False))
        got = read_until(stream, b"data: 0\n\n")
        gateway.process.popen.send_signal(signal.SIGTERM)
        assert read_to_end(idle) == b"", "an idle connection ends cleanly"
        wait_until(lambda: not takes_clients(gateway), "the TLS address takes no client")
        go_on.set()
        answer = parse("POST", got + read_to_end(stream))
        assert (answer.body, answer.whole) == (b"data: 0\n\ndata: 1\n\n", True)
    assert gateway.process.end() == 0


def takes_clients(gateway: Gateway) -> bool:
    try:
        with greeted(gateway.secure, None):
            return True
    except (ssl.SSLError, OSError):
        return False


def test_nothing_failed_inside(gateway: Gateway) -> None:
    assert metric(gateway, "aigw_panics_total") == 0
    assert metric(gateway, "aigw_tls_handshakes_total", result="lost") == 0
