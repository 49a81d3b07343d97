"""Upstreams that fail, each in its own way: the status by the cause, within its deadline, and every permit given back."""

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx2 as httpx
import pytest

from tests.support.ends import Answer, Upstream, Wire, connect, message, parse, read_to_end
from tests.support.metered import KEY, call, meter, serve, standing, used
from tests.support.processes import PATIENCE_S, Gateway, start_gateway, start_upstream, wait_until

LOG = "access.jsonl"
LARGE = bytes(9 << 20)  # more than sockets hold
CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("failures")
    running = start_gateway(folder / "data", "--drain-timeout", "1", "--access-log", str(folder / LOG), workers=1)
    meter(running)
    yield running
    running.process.end()


def logged(gateway: Gateway, answer: Answer) -> dict[str, object]:
    """The access log's line of this answer."""
    wanted = answer.header("x-request-id")
    found: list[dict[str, object]] = []

    def there() -> bool:
        file = gateway.data.parent / LOG
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        found[:] = [line for line in lines if line["request_id"] == wanted]
        return bool(found)

    wait_until(there, f"request {wanted} is in the access log")
    (line,) = found
    return line


def after_reading(act: Callable[[Wire], None]) -> Callable[[Wire], None]:
    """A script: read a request, then do this."""

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            act(wire)

    return script


def hang(wire: Wire) -> None:
    wire.wait_closed()


def partial_head(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    wire.wait_closed()


def half_small(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def half_document(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    time.sleep(0.05)  # longer than anything else is held back


def half_text(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")


def hang_half_small(wire: Wire) -> None:
    half_small(wire)
    wire.wait_closed()


UNANSWERED: dict[str, tuple[Callable[[Wire], None], int, str]] = {
    "closed after the request": (lambda wire: None, 502, "upstream_reset"),
    "reset after the request": (lambda wire: wire.reset(), 502, "upstream_reset"),
    "closed in the head": (lambda wire: wire.send(b"HTTP/1.1 200 OK\r\nContent-Le"), 502, "upstream_reset"),
    "closed in a small body": (half_small, 502, "upstream_reset"),
    "closed in a document without a length": (half_document, 502, "upstream_reset"),
    "closed in a text without a length": (half_text, 502, "upstream_reset"),
    "no HTTP": (lambda wire: wire.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n"), 502, "upstream_garbage"),
    "a status of letters": (lambda wire: wire.send(b"HTTP/1.1 abc Odd\r\n\r\n"), 502, "upstream_garbage"),
    "a header without a name": (lambda wire: wire.send(b"HTTP/1.1 200 OK\r\n: x\r\n\r\n"), 502, "upstream_garbage"),
    "two lengths": (
        lambda wire: wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        502,
        "upstream_garbage",
    ),
    "a head without an end": (
        lambda wire: wire.send(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: " + b"x" * 400_000),
        502,
        "upstream_garbage",
    ),
    "another protocol, switched to": (
        lambda wire: wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        502,
        "upstream_garbage",
    ),
    "hanging before the head": (hang, 504, "upstream_timeout"),
    "hanging in the head": (partial_head, 504, "upstream_timeout"),
    "hanging in a small body": (hang_half_small, 504, "upstream_timeout"),
}


@pytest.mark.parametrize("kind", UNANSWERED)
def test_no_answer_is_told_by_its_cause_and_costs_nothing(gateway: Gateway, kind: str) -> None:
    act, status, reason = UNANSWERED[kind]
    with Upstream(after_reading(act)) as upstream:
        path = serve(gateway, upstream.url, read_timeout=300)
        before = used(gateway)
        answer = call(gateway, "POST", path + "/v1/chat/completions", body=CHAT)
        assert (answer.status, answer.whole) == (status, True)
        assert answer.header("x-should-retry") == "false"  # it was sent: the upstream may have acted on it
        assert b"request_id" in answer.body and b"panic" not in answer.body
        line = logged(gateway, answer)
        assert (line["denial"], line["source"], line["outcome"]) == (reason, "gateway", "upstream_error")
        assert used(gateway) == before
        assert len(upstream.requests) == 1  # and never sent again


@pytest.mark.parametrize(
    ("mode", "status", "reason"),
    [
        ("hang", 504, "upstream_timeout"),
        ("reset", 502, "upstream_reset"),
        ("garbage", 502, "upstream_garbage"),
        ("cut", 502, "upstream_reset"),
    ],
)
def test_the_mocks_faults(gateway: Gateway, mode: str, status: int, reason: str) -> None:
    process, url = start_upstream("mock-llm", "--fail", mode)
    try:
        path = serve(gateway, url, read_timeout=300)
        before = used(gateway)
        answer = call(gateway, "POST", path + "/v1/chat/completions", body=CHAT)
        assert (answer.status, logged(gateway, answer)["denial"]) == (status, reason)
        assert used(gateway) == before
        # As if nothing had been asked.
        limit, left = answer.header("x-ratelimit-limit-year"), answer.header("x-ratelimit-remaining-year")
        assert (limit, left) == ("1000000", str(1_000_000 - before))
        assert answer.header("ratelimit-remaining") == left
    finally:
        process.end()


def test_an_upstream_that_stops_taking_a_body_is_504_by_its_own_bound(gateway: Gateway) -> None:
    over = threading.Event()

    def take_nothing(_: Wire) -> None:
        over.wait(PATIENCE_S)

    with Upstream(take_nothing) as upstream:
        path = serve(gateway, upstream.url, write_timeout=300, read_timeout=2 * int(PATIENCE_S) * 1000)
        before = used(gateway)
        answer = call(gateway, "POST", path, body=LARGE)
        over.set()
        assert (answer.status, answer.whole) == (504, True)
        assert answer.header("x-should-retry") == "false"
        assert logged(gateway, answer)["denial"] == "upstream_timeout"
        assert used(gateway) == before


def test_a_body_that_is_taken_slowly_may_take_longer_than_the_answer_may(gateway: Gateway) -> None:
    took, may = 2.0, 1.4  # the second bound also covers the bytes in the kernel's buffers

    def take_slowly(wire: Wire) -> None:
        begin, taken = time.monotonic(), 0
        while taken < len(LARGE):
            taken += len(wire.socket.recv(1 << 16))
            time.sleep(max(0.0, begin + took * taken / len(LARGE) - time.monotonic()))
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Upstream(take_slowly) as upstream:
        path = serve(gateway, upstream.url, write_timeout=int(may * 1000), read_timeout=int(may * 1000))
        answer = call(gateway, "POST", path, body=LARGE)
        assert (answer.status, answer.body) == (200, b"ok")


def test_a_refused_connection_is_502_and_may_be_tried_again(gateway: Gateway) -> None:
    with socket.socket() as silent:  # bound, not listening: connections are refused, and nobody else takes the port
        silent.bind(("127.0.0.1", 0))
        path = serve(gateway, f"http://127.0.0.1:{silent.getsockname()[1]}")
        before = used(gateway)
        answer = call(gateway, "POST", path, body=CHAT)
        assert (answer.status, logged(gateway, answer)["denial"]) == (502, "upstream_refused")
        assert answer.header("x-should-retry") is None  # nothing was sent
        assert used(gateway) == before


def test_a_name_without_an_address_is_503(gateway: Gateway) -> None:
    path = serve(gateway, "http://no-such-host.invalid:80")
    before = used(gateway)
    answer = call(gateway, "GET", path)
    assert (answer.status, logged(gateway, answer)["denial"]) == (503, "upstream_unresolved")
    assert used(gateway) == before


def test_an_address_that_refuses_thrice_is_out_and_comes_back_with_a_probe(gateway: Gateway) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        path = serve(gateway, f"http://127.0.0.1:{listener.getsockname()[1]}")
        before = used(gateway)
        assert [call(gateway, "GET", path).status for _ in range(3)] == [502] * 3
        out = call(gateway, "GET", path)
        assert (out.status, logged(gateway, out)["denial"], out.header("retry-after")) == (503, "upstream_out", "10")
        listener.listen()  # it is there again, but not asked before its time
        assert call(gateway, "GET", path).status == 503
        assert used(gateway) == before

        def answered() -> bool:
            return call(gateway, "GET", path, "X-Probe: 1").status == 200

        def serve_one() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

        listener.settimeout(PATIENCE_S)
        server = threading.Thread(target=serve_one, daemon=True)
        server.start()
        wait_until(answered, "the probe has brought it back")
        server.join(1)
        assert used(gateway) == before + 1


NO_CHUNK = "the upstream sends no chunk"
CUT: dict[str, Callable[[Wire], None]] = {
    "the upstream closes": lambda wire: None,
    "the upstream resets": lambda wire: wire.reset(),
    "the upstream hangs": hang,
    NO_CHUNK: lambda wire: wire.send(b"zz\r\n"),
}


@pytest.mark.parametrize(
    ("framing", "kind"),
    [pair for pair in itertools.product(["chunked", "a length", "events"], CUT) if pair != ("a length", NO_CHUNK)],
)
def test_an_answer_that_stops_is_cut_without_a_clean_end_and_counts(gateway: Gateway, framing: str, kind: str) -> None:
    first = b"data: {}\n\n" if framing == "events" else b"x" * 1000
    heads = {
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        "events": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    }

    def script(wire: Wire) -> None:
        if wire.request() is None:
            return
        wire.send(heads[framing] + (first if framing == "a length" else b"%x\r\n%s\r\n" % (len(first), first)))
        held = standing(gateway)["reserved"]
        seen.append(held)
        if kind != "the upstream hangs":
            started.wait(PATIENCE_S)
        CUT[kind](wire)

    seen: list[int] = []
    started = threading.Event()
    with Upstream(script) as upstream:
        path = serve(gateway, upstream.url, read_timeout=500)
        before = used(gateway)
        with connect(gateway.proxy) as client:
            client.sendall(message("POST", path, f"apikey: {KEY}", body=CHAT, close=False))
            got = b""
            while first not in got:
                piece = client.recv(65536)
                assert piece, got
                got += piece
            started.set()
            answer = parse("POST", got + read_to_end(client))
        assert (answer.status, answer.body, answer.whole) == (200, first, False)
        assert seen == [1]
        line = logged(gateway, answer)
        assert (line["status"], line["outcome"]) == (200, "upstream_cut")
        assert used(gateway) == before + 1  # it was answered


WHOLE = 64 * 1024  # up to here an answer with a length is passed on in one piece, or not at all


@pytest.mark.parametrize(("length", "passed_on"), [(WHOLE, False), (WHOLE + 1, True)], ids=["small", "larger"])
def test_a_broken_answer_counts_when_a_part_of_it_was_passed_on(gateway: Gateway, length: int, passed_on: bool) -> None:
    go_on = threading.Event()

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\npart" % length)
            if passed_on:
                assert go_on.wait(PATIENCE_S)

    with Upstream(script) as upstream, connect(gateway.proxy) as client:
        path, before = serve(gateway, upstream.url), used(gateway)
        client.sendall(message("POST", path, f"apikey: {KEY}", body=CHAT))
        got = b""
        while not got.endswith(b"part" if passed_on else b"}"):
            piece = client.recv(65536)
            assert piece, got
            got += piece
        go_on.set()
        answer = parse("POST", got + read_to_end(client))
        assert (answer.status, answer.whole) == ((200, False) if passed_on else (502, True))
        assert answer.header("x-should-retry") == (None if passed_on else "false")
        assert used(gateway) == before + passed_on


def test_a_document_that_takes_its_time_passes_as_it_comes(gateway: Gateway) -> None:
    """A watch, say: whoever waits for its first line must not wait for its end."""
    go_on = threading.Event()

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n"
            )
            assert go_on.wait(PATIENCE_S)
            wire.send(b"0\r\n\r\n")

    with Upstream(script) as upstream, connect(gateway.proxy) as client:
        client.sendall(message("GET", serve(gateway, upstream.url), f"apikey: {KEY}"))
        got = b""
        while b"{}" not in got:
            got += client.recv(65536)
        go_on.set()
        answer = parse("GET", got + read_to_end(client))
        assert (answer.status, answer.body, answer.whole) == (200, b"{}\n", True)


def test_a_stream_that_breaks_at_once_still_delivers_its_first_bytes(gateway: Gateway) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Upstream(after_reading(lambda wire: wire.send(head + b"a\r\ndata: {}\n\n\r\n"))) as upstream:
        path = serve(gateway, upstream.url)
        for _ in range(20):
            answer = call(gateway, "POST", path, body=CHAT)
            assert (answer.status, answer.body, answer.whole) == (200, b"data: {}\n\n", False)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 503, 504])
def test_an_error_of_the_upstreams_is_an_answer_and_counts(gateway: Gateway, status: int) -> None:
    def script(wire: Wire) -> None:
        while wire.request() is not None:
            wire.send(b"HTTP/1.1 %d Odd\r\nContent-Length: 4\r\nX-Mine: yes\r\n\r\nmine" % status)

    with Upstream(script) as upstream:
        path = serve(gateway, upstream.url, retries=5)
        before = used(gateway)
        answer = call(gateway, "POST", path, body=CHAT)
        assert (answer.status, answer.body, answer.header("x-mine")) == (status, b"mine", "yes")
        assert used(gateway) == before + 1
        assert len(upstream.requests) == 1


def test_a_pooled_connection_closed_while_idle_costs_no_request(gateway: Gateway) -> None:
    seen = threading.Semaphore(0)

    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # nothing says that it will not be kept
            wire.socket.shutdown(socket.SHUT_WR)
            if wire.wait_closed():
                seen.release()  # the gateway has closed its end, too: it knows

    with Upstream(script) as upstream:
        path = serve(gateway, upstream.url)
        before = used(gateway)
        for _ in range(10):
            assert call(gateway, "POST", path, body=b"once").status == 200
            assert seen.acquire(timeout=PATIENCE_S)
        assert len(upstream.requests) == 10
        assert used(gateway) == before + 10


def test_a_request_on_a_pooled_connection_is_never_sent_twice(gateway: Gateway) -> None:
    def script(wire: Wire) -> None:
        if wire.request() is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            wire.request()  # the second one is read, and the connection closed

    with Upstream(script) as upstream:
        path = serve(gateway, upstream.url)
        assert call(gateway, "POST", path, body=b"first").status == 200
        before = used(gateway)
        answer = call(gateway, "POST", path, body=b"second")
        assert (answer.status, answer.header("x-should-retry")) == (502, "false")
        assert [body for _, body in upstream.requests] == [b"first", b"second"]
        assert used(gateway) == before


def test_the_gateway_serves_on_after_all_of_it(gateway: Gateway) -> None:
    def script(wire: Wire) -> None:
        while wire.request() is not None:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Upstream(script) as upstream:
        path = serve(gateway, upstream.url)
        assert call(gateway, "GET", path).status == 200
    page = httpx.get(gateway.admin + "/metrics", trust_env=False).text
    assert "aigw_panics_total 0\n" in page
