"""Streams and clients that leave: bytes as they were, pieces as they come, and an end on one side that is seen on the other."""

import hashlib
import json
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.ends import Upstream, Wire, chunk, connect, message, parse, read_to_end, read_until
from tests.support.metered import KEY, call, meter, serve, standing, used
from tests.support.processes import PATIENCE_S, Gateway, start_gateway, start_upstream, wait_until

New = Callable[..., Gateway]

EVENTS_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = start_gateway(tmp_path_factory.mktemp("streams") / "data", "--drain-timeout", "1", workers=1)
    meter(running)
    yield running
    running.process.end()


def test_events_pass_byte_for_byte(gateway: Gateway) -> None:
    sent = b"".join(
        b'data: {"n": %d, "text": "\xc3\xa4\xff"}\n\n: note\r\n\r\nevent: e\rdata:x\r\r' % n for n in range(64)
    )

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(EVENTS_HEAD)
            for at in range(0, len(sent), 37):  # pieces that know nothing of lines
                wire.send(chunk(sent[at : at + 37]))
            wire.send(b"0\r\n\r\n")

    with Upstream(script) as upstream:
        answer = call(gateway, "POST", serve(gateway, upstream.url), body=CHAT)
    assert (answer.status, answer.whole) == (200, True)
    assert answer.body == sent
    assert answer.header("content-type") == "text/event-stream"


def test_each_piece_comes_before_the_next_is_sent(gateway: Gateway) -> None:
    go_on = threading.Semaphore(0)

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        wire.send(EVENTS_HEAD)
        for n in range(5):
            wire.send(chunk(b"data: %d\n\n" % n))
            assert go_on.acquire(timeout=PATIENCE_S)
        wire.send(b"0\r\n\r\n")

    with Upstream(script) as upstream, connect(gateway.proxy) as client:
        before = used(gateway)
        path = serve(gateway, upstream.url)
        client.sendall(message("POST", path, f"apikey: {KEY}", body=CHAT))
        got = b""
        for n in range(5):
            got += read_until(client, b"data: %d\n\n" % n)
            assert standing(gateway)["reserved"] == 1
            go_on.release()
        answer = parse("POST", got + read_to_end(client))
        assert answer.whole and answer.body == b"".join(b"data: %d\n\n" % n for n in range(5))
        assert used(gateway) == before + 1


SEEN_WITHIN_S = 5.0


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("when", ["at once", "before the head", "in the stream"])
def test_a_client_that_leaves_is_seen_upstream_and_frees_its_place(gateway: Gateway, when: str, leave: str) -> None:
    """Timed by what the upstream sees: the call arrives, and the call is gone; the client leaves in between."""
    arrived, gone = threading.Event(), threading.Event()
    seen: dict[str, float] = {}

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        if when == "in the stream":
            wire.send(EVENTS_HEAD + chunk(b"data: 0\n\n"))
        arrived.set()
        if wire.wait_closed():  # nothing is sent on: only the close itself can tell
            seen["gone"] = time.monotonic()
            gone.set()

    with Upstream(script) as upstream:
        path = serve(gateway, upstream.url)
        before = used(gateway)
        with connect(gateway.proxy) as client:
            client.sendall(message("POST", path, f"apikey: {KEY}", body=CHAT, close=False))
            assert arrived.wait(PATIENCE_S)
            if when == "in the stream":
                read_until(client, b"data: 0\n\n")
            if when != "at once":
                assert standing(gateway)["reserved"] == 1
            if leave == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        left = time.monotonic()
        assert gone.wait(PATIENCE_S), "the upstream call goes on although nobody waits for it"
        assert seen["gone"] - left < SEEN_WITHIN_S
        assert used(gateway) == before + 1  # the upstream may have worked for it


def test_at_whatever_event_a_client_leaves_a_flowing_stream_it_is_seen(gateway: Gateway) -> None:
    ended: queue.Queue[float] = queue.Queue()

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        try:
            wire.send(EVENTS_HEAD)
            while not select.select([wire.socket], [], [], 0.002)[0]:  # nothing is to be read until the call is ended
                wire.send(chunk(b"data: x\n\n"))
        finally:
            ended.put(time.monotonic())

    with Upstream(script) as upstream:
        path, before = serve(gateway, upstream.url), used(gateway)
        took = []
        for events in range(0, 60, 3):
            with connect(gateway.proxy) as client:
                client.sendall(message("POST", path, f"apikey: {KEY}", body=CHAT, close=False))
                got = read_until(client, b"\r\n\r\n")
                while got.count(b"data: x") < events:
                    got += client.recv(65536)
            left = time.monotonic()
            took.append(ended.get(timeout=PATIENCE_S) - left)
        assert max(took) < SEEN_WITHIN_S
        assert used(gateway) == before + len(took)


def test_the_mock_counts_the_clients_that_left(gateway: Gateway) -> None:
    process, url = start_upstream("mock-llm", "--chunk-ms", "20", "--chunks", "100000")
    try:
        path = serve(gateway, url)
        for _ in range(8):
            with connect(gateway.proxy) as client:
                client.sendall(message("POST", path + "/v1/chat/completions", f"apikey: {KEY}", body=CHAT))
                read_until(client, b"data:")

        def stats() -> dict[str, int]:
            found: dict[str, int] = httpx.get(url + "/__stats", trust_env=False).json()
            return found

        wait_until(lambda: stats()["cancelled"] == 8, "all calls are cancelled")
        assert stats()["in_flight"] == 0
        used(gateway)
    finally:
        process.end()


@pytest.mark.parametrize("in_time", [True, False], ids=["in time", "too late"])
def test_a_drain_lets_an_open_stream_finish_or_cuts_it(new_gateway: New, in_time: bool) -> None:
    go_on = threading.Event()

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        wire.send(EVENTS_HEAD + chunk(b"data: 0\n\n"))
        if in_time:
            assert go_on.wait(PATIENCE_S)
            wire.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        wire.wait_closed()

    gateway = new_gateway("--drain-timeout", str(PATIENCE_S) if in_time else "0.3", workers=1)
    with Upstream(script) as upstream, connect(gateway.proxy) as client:
        gateway.route(upstream.url, "/s")
        client.sendall(message("POST", "/s", body=CHAT, close=False))
        got = read_until(client, b"data: 0\n\n")
        gateway.process.popen.send_signal(signal.SIGTERM)
        gateway.wait_event("draining")
        go_on.set()
        answer = parse("POST", got + read_to_end(client))
        assert answer.whole is in_time
        assert answer.body == (b"data: 0\n\ndata: [DONE]\n\n" if in_time else b"data: 0\n\n")
    assert gateway.process.end() == 0


@pytest.mark.parametrize("framing", ["chunked", "a length"])
def test_20_megabytes_arrive_as_they_were(gateway: Gateway, framing: str) -> None:
    block = bytes(range(256)) * 4096 + b"odd"
    content = block * 20

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            if framing == "chunked":
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(block) * 20 + b"0\r\n\r\n")
            else:
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)

    with Upstream(script) as upstream:
        answer = call(gateway, "GET", serve(gateway, upstream.url))
    assert (answer.status, answer.whole, len(answer.body)) == (200, True, len(content))
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(content).digest()


def memory(pid: int, what: str) -> int:
    """`VmRSS` or `VmHWM` in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what + ":"))


def test_a_slow_reader_of_200_megabytes_costs_little_memory(gateway: Gateway) -> None:
    total, block = 200 * 1024 * 1024, bytes(1024 * 1024)
    stalled = threading.Event()
    sent = [0]

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent[0] < total:
            if not select.select([], [wire.socket], [], 0.5)[1]:
                stalled.set()
            sent[0] += wire.socket.send(block[: total - sent[0]])
        stalled.set()

    worker = gateway.children()["worker-1"]
    with Upstream(script) as upstream, connect(gateway.proxy) as client:
        path = serve(gateway, upstream.url)
        before = memory(worker, "VmRSS")
        Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak is counted from here
        client.sendall(message("GET", path, f"apikey: {KEY}"))
        got = len(read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")[2])
        assert stalled.wait(PATIENCE_S)
        assert sent[0] < 64 * 1024 * 1024, "the upstream is read although the client does not read"
        while piece := client.recv(1 << 16):
            got += len(piece)
        assert got == total
        assert memory(worker, "VmHWM") - before < 64 * 1024 * 1024


SMALL = {
    "HEAD": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", b"", 200),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", b"", 204),
    "304": ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', b"", 304),
    "a length": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", 200),
    "an empty one": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", 200),
    "chunks": (
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        b"hello",
        200,
    ),
    "trailers": (
        "GET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        b"hello",
        200,
    ),
    "until the close": ("GET", b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", 200),
    "HTTP/1.0": ("GET", b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", 200),
    "early hints": (
        "GET",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
        200,
    ),
    "100 before": ("POST", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", 200),
}


@pytest.mark.parametrize("kind", SMALL)
def test_an_answer_is_passed_on_whatever_its_form(gateway: Gateway, kind: str) -> None:
    method, sent, body, status = SMALL[kind]

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(sent)

    with Upstream(script) as upstream:
        answer = call(gateway, method, serve(gateway, upstream.url), body=b"{}" if method == "POST" else b"")
    assert (answer.status, answer.body, answer.whole) == (status, body, True)
    if kind == "HEAD":
        assert answer.header("content-length") == "1234"


def test_a_client_that_expects_100_gets_it_and_the_upstream_is_not_asked(gateway: Gateway) -> None:
    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Upstream(script) as upstream, connect(gateway.proxy) as client:
        path = serve(gateway, upstream.url)
        head = message("POST", path, f"apikey: {KEY}", "Expect: 100-continue", "Content-Length: 4")
        client.sendall(head)
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        client.sendall(b"body")
        answer = parse("POST", read_to_end(client))
        assert (answer.status, answer.body) == (200, b"ok")
        ((head, body),) = upstream.requests
        assert body == b"body" and b"expect" not in head.lower()


def test_nothing_failed_inside(gateway: Gateway) -> None:
    assert "aigw_panics_total 0\n" in httpx.get(gateway.admin + "/metrics", trust_env=False).text
    assert (
        json.loads(httpx.get(gateway.admin + "/consumers/x/limits", trust_env=False).text)["data"][0]["reserved"] == 0
    )
