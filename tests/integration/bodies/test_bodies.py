"""Request bodies that are too large, too slow, cut, or sent to somebody who refuses them: the client reads why, the upstream is
not called, no limit is touched, and the connection is kept where that is safe.
"""

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway, start_gateway, wait_until
from tests.support.wire import Connection, Message, Upstream

CAP = 2 * 1024 * 1024  # of `/open` and the others; behind a refusal of 1 MiB and less the connection is kept
KEY = "a-key-of-bodies"
BODY = random.Random(1).randbytes(300_000)


def start(data: Path, running: Upstream, **env: str) -> Gateway:
    """`/open` lets everybody through, `/keyed` wants a key, `/spent` refuses everybody by its limit, `/two` lets two through."""
    gateway = start_gateway(data, "--drain-timeout", "2", env={f"AIGW_{name.upper()}": env[name] for name in env})
    for name in ("open", "keyed", "spent", "two"):
        gateway.route(running.url, f"/{name}", name)
    gateway.make("/services/keyed/plugins", name="key-auth")
    gateway.make("/consumers", username="one")
    gateway.make("/consumers/one/key-auth", key=KEY)
    for name, limit in (("spent", 1), ("two", 2)):
        config = {"year": limit, "policy": "local", "limit_by": "service"}
        gateway.make(f"/services/{name}/plugins", name="rate-limiting", config=config)
    assert httpx.get(gateway.proxy + "/spent", trust_env=False).status_code == 200
    return gateway


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, running: Upstream) -> Iterator[Gateway]:
    gateway = start(tmp_path_factory.mktemp("bodies") / "data", running, max_body_bytes=str(CAP))
    yield gateway
    gateway.process.end()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, running: Upstream) -> Iterator[Gateway]:
    """The same, but a body must be whole within 0.3 s."""
    gateway = start(tmp_path_factory.mktemp("hasty") / "data", running, body_timeout="500ms", body_total="3")
    yield gateway
    gateway.process.end()


def head(target: str, *lines: str, length: int | None = None) -> bytes:
    """The head of a POST with this length, or chunked."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join([f"POST {target} HTTP/1.1", "Host: t", *lines, framing, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n".encode()


def check_refusal(answer: Message, status: int, message: str) -> None:
    assert (answer.status, answer.json()["message"]) == (status, message)
    assert answer.one("x-request-id") == answer.json()["request_id"]


def check_nothing_came(gate: Gateway, kept: Upstream) -> None:
    """Send a valid request afterwards: by its answer, the one before has arrived or never will."""
    with Connection(gate.proxy) as connection:
        assert connection.ask(get("/open/after")).status == 200
    assert [request.target for request in kept.take()] == ["/after"]


def answer_while_sending(connection: Connection, begin: bytes, piece: bytes, pieces: int) -> Message:
    """The answer, read while another thread goes on sending; that thread ends by an error or at its end."""

    def write() -> None:
        try:
            connection.send(begin)
            for _ in range(pieces):
                connection.send(piece)
        except OSError:
            pass  # the other side had enough

    writer = threading.Thread(target=write)
    writer.start()
    try:
        answer = connection.answer()
        assert connection.ended()
    finally:
        writer.join()
    return answer


TOO_LARGE = "Request size limit exceeded"
PIECE = b"a" * 64 * 1024


def test_a_body_at_the_cap_passes(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        assert connection.ask(head("/open", length=CAP) + b"a" * CAP).json()["bytes"] == CAP
    assert len(kept.take()) == 1


def test_an_announced_body_over_the_cap_is_refused_before_it_is_read(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        answer = connection.ask(head("/open", length=CAP + 1))  # not a byte of the body is sent
        check_refusal(answer, 413, TOO_LARGE)
        assert answer.one("connection") == "close" and connection.ended()
    check_nothing_came(gate, kept)


def test_the_refusal_of_a_large_body_is_read_while_it_is_sent(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        answer = answer_while_sending(connection, head("/open", length=16 * CAP), PIECE, 16 * CAP // len(PIECE))
    check_refusal(answer, 413, TOO_LARGE)
    check_nothing_came(gate, kept)


def test_a_chunked_body_over_the_cap_is_refused(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        answer = answer_while_sending(connection, head("/open"), chunk(PIECE), 16 * CAP // len(PIECE))
    check_refusal(answer, 413, TOO_LARGE)
    assert answer.one("connection") == "close"
    check_nothing_came(gate, kept)


@pytest.mark.parametrize("target", ["/open", "/keyed", "/spent"])
@pytest.mark.parametrize("chunk_bytes", [0, 8 * 1024, 64 * 1024])
def test_a_client_that_writes_all_of_a_large_body_reads_its_refusal(
    gate: Gateway, kept: Upstream, target: str, chunk_bytes: int
) -> None:
    """More than a refusal keeps a connection for, and more than a body may have. The client reads nothing before the end."""
    size = 6 * CAP
    begin = head(target) if chunk_bytes else head(target, length=size)
    body = chunk(b"a" * chunk_bytes) * (size // chunk_bytes) + chunk(b"") if chunk_bytes else b"a" * size
    for _ in range(3):
        with Connection(gate.proxy) as connection:
            connection.send(begin + body)
            answer = connection.answer()
            check_refusal(answer, *({"/open": (413, TOO_LARGE)} | REFUSALS)[target])
            assert answer.one("connection") == "close" and connection.ended()
    check_nothing_came(gate, kept)


def test_slow_bodies_of_refused_requests_leave_half_of_the_places(tmp_path: Path, running: Upstream) -> None:
    gateway = start(tmp_path / "data", running, max_in_flight="10")
    stop = threading.Event()
    try:
        with ExitStack() as stack:
            slow = [stack.enter_context(Connection(gateway.proxy)) for _ in range(20)]
            for connection in slow:
                check_refusal(connection.ask(head("/keyed", length=CAP) + b"a"), *REFUSALS["/keyed"])
            dripping = [drip(connection, stop, b"a", 1000) for connection in slow]
            with Connection(gateway.proxy) as connection:
                for _ in range(20):
                    assert connection.ask(get("/open/other")).status == 200
            stop.set()
            for thread in dripping:
                thread.join()
    finally:
        stop.set()
        gateway.process.end()


def test_nobody_who_expects_100_is_told_to_send_too_much(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        check_refusal(connection.ask(head("/open", "Expect: 100-continue", length=CAP + 1)), 413, TOO_LARGE)
    with Connection(gate.proxy) as connection:
        assert connection.ask(head("/open", "Expect: 100-continue", length=5)).status == 100
        assert connection.ask(b"hello").json()["bytes"] == 5
    assert [request.all("expect") for request in kept.take()] == [[]]


LATE = "The request body did not arrive in time"


@pytest.mark.parametrize(
    "begin",
    [head("/open", length=10), head("/open", length=10) + b"hello", head("/open"), head("/open") + chunk(b"hello")],
)
def test_a_body_that_stops_is_refused_in_time(hasty: Gateway, kept: Upstream, begin: bytes) -> None:
    with Connection(hasty.proxy) as connection:
        answer = connection.ask(begin)
        check_refusal(answer, 408, LATE)
        assert answer.one("connection") == "close" and connection.ended()
    check_nothing_came(hasty, kept)


def drip(
    connection: Connection, stop: threading.Event, piece: bytes, pieces: int, rest: bytes = b""
) -> threading.Thread:
    """Sends a piece each 0.1 s on a thread of its own."""

    def send() -> None:
        try:
            for _ in range(pieces):
                connection.send(piece)
                if stop.wait(0.1):
                    return
            connection.send(rest)
        except OSError:
            pass  # the other side had enough

    dripping = threading.Thread(target=send)
    dripping.start()
    return dripping


@pytest.mark.parametrize(("begin", "piece"), [(head("/open"), chunk(b"a")), (head("/open", length=1000), b"a")])
def test_a_body_that_drips_is_refused_in_time(hasty: Gateway, kept: Upstream, begin: bytes, piece: bytes) -> None:
    """A byte now and then prolongs the silence, and not the time of the whole body."""
    with Connection(hasty.proxy) as connection:
        stop = threading.Event()
        connection.send(begin)
        dripping = drip(connection, stop, piece, 1000)
        try:
            check_refusal(connection.answer(), 408, LATE)
            assert connection.ended()
        finally:
            stop.set()
            dripping.join()
    check_nothing_came(hasty, kept)


@pytest.mark.parametrize(
    ("begin", "piece", "rest"),
    [(head("/open"), chunk(b"a"), b"0\r\n\r\n"), (head("/open", length=12), b"a", b"")],
)
def test_a_slow_body_is_served(hasty: Gateway, kept: Upstream, begin: bytes, piece: bytes, rest: bytes) -> None:
    """It takes longer than its longest silence may be: 12 pieces in 1.2 s."""
    with Connection(hasty.proxy) as connection:
        connection.send(begin)
        dripping = drip(connection, threading.Event(), piece, 12, rest)
        answer = connection.answer()
        dripping.join()
        assert (answer.status, answer.json()["bytes"]) == (200, 12)
    assert len(kept.take()) == 1


def cuts(gate: Gateway) -> int:
    """How many bodies were cut, by the metrics."""
    text = httpx.get(gate.admin + "/metrics", trust_env=False).text
    return sum(int(count) for count in re.findall(r'^aigw_denials_total{reason="body_cut"} (\d+)', text, re.MULTILINE))


@pytest.mark.parametrize("begin", [head("/two", length=10) + b"hello", head("/two") + chunk(b"hello")])
@pytest.mark.parametrize("half", [False, True])
def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    gate: Gateway, kept: Upstream, begin: bytes, half: bool
) -> None:
    before = cuts(gate)
    with Connection(gate.proxy) as connection:
        connection.send(begin)
        if half:
            connection.socket.shutdown(1)
            connection.ended()
    wait_until(lambda: cuts(gate) == before + 1, "the cut is counted")
    check_nothing_came(gate, kept)


REFUSALS = {"/keyed": (401, "No API key found in request"), "/spent": (429, "API rate limit exceeded")}


@pytest.mark.parametrize("target", REFUSALS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_refusal_reads_a_body_away_and_keeps_the_connection(
    gate: Gateway, kept: Upstream, target: str, chunked: bool
) -> None:
    size = 500_000
    message = head(target) + chunk(b"a" * size) + chunk(b"") if chunked else head(target, length=size) + b"a" * size
    with Connection(gate.proxy) as connection:
        for _ in range(3):  # the client writes all of it before it reads
            answer = connection.ask(message)
            check_refusal(answer, *REFUSALS[target])
            assert answer.all("connection") == []
        assert connection.ask(get("/open/same-connection")).status == 200
    assert [request.target for request in kept.take()] == ["/same-connection"]


SIZES = [1_000, 100_000]  # left to the server to take away, and asked for


@pytest.mark.parametrize("target", REFUSALS)
@pytest.mark.parametrize("size", SIZES)
def test_a_refusal_does_not_wait_for_the_body(gate: Gateway, kept: Upstream, target: str, size: int) -> None:
    with Connection(gate.proxy) as connection:
        check_refusal(connection.ask(head(target, length=size)), *REFUSALS[target])
        connection.send(b"GET /open/smuggled HTTP/1.1\r\nHost: t\r\n\r\n".ljust(size, b"a"))
        assert connection.ask(get("/open/same-connection")).status == 200
    assert [request.target for request in kept.take()] == ["/same-connection"]


@pytest.mark.parametrize("target", REFUSALS)
@pytest.mark.parametrize("size", SIZES)
def test_a_refused_client_that_never_sends_its_body_is_let_go(gate: Gateway, target: str, size: int) -> None:
    with Connection(gate.proxy) as connection:
        check_refusal(connection.ask(head(target, length=size) + b"a"), *REFUSALS[target])
        assert connection.ended()


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.1])
def test_a_small_body_that_comes_in_pieces_is_read_away(gate: Gateway, kept: Upstream, pause: float) -> None:
    with Connection(gate.proxy) as connection:
        for _ in range(3):
            check_refusal(connection.ask(head("/spent", length=400) + b"a" * 100), *REFUSALS["/spent"])
            for _ in range(3):
                time.sleep(pause)
                connection.send(b"a" * 100)
        assert connection.ask(get("/open/same-connection")).status == 200
    assert [request.target for request in kept.take()] == ["/same-connection"]


def test_small_bodies_of_refused_requests_in_a_row_are_read_away(gate: Gateway, kept: Upstream) -> None:
    message = head("/spent", length=1_000) + b"a" * 1_000
    with Connection(gate.proxy) as connection:
        for _ in range(200):
            check_refusal(connection.ask(message), *REFUSALS["/spent"])
        assert connection.ask(get("/open/same-connection")).status == 200
    assert [request.target for request in kept.take()] == ["/same-connection"]


def test_a_refused_client_that_waits_to_be_told_may_send_or_not(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        connection.send(head("/spent", "Expect: 100-continue", length=5))
        answer = connection.answer()
        if answer.status == 100:
            answer = connection.answer()
        check_refusal(answer, *REFUSALS["/spent"])
    check_nothing_came(gate, kept)


@pytest.mark.parametrize("target", REFUSALS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_refusal_of_a_large_body_arrives_and_ends_the_connection(
    gate: Gateway, kept: Upstream, target: str, chunked: bool
) -> None:
    size = 5 * 1024 * 1024
    begin, piece = (head(target), chunk(PIECE)) if chunked else (head(target, length=size), PIECE)
    with Connection(gate.proxy) as connection:
        answer = answer_while_sending(connection, begin, piece, size // len(PIECE))
    check_refusal(answer, *REFUSALS[target])
    assert answer.one("connection") == "close"
    check_nothing_came(gate, kept)


@pytest.mark.parametrize("sizes", [[300_000], [1, 2, 3], [65_536, 1], [7, 4096, 16_384]])
def test_a_chunked_body_arrives_byte_for_byte(gate: Gateway, kept: Upstream, sizes: list[int]) -> None:
    parts, at, turn = [], 0, 0
    body = BODY if min(sizes) > 6 or len(sizes) == 2 else BODY[:3000]
    while at < len(body):
        size = sizes[turn % len(sizes)]
        parts.append(chunk(body[at : at + size]))
        at, turn = at + size, turn + 1
    with Connection(gate.proxy) as connection:
        for _ in range(2):
            assert connection.ask(head("/open") + b"".join(parts) + chunk(b"")).json()["bytes"] == len(body)
    for request in kept.take():
        assert request.body == body
        assert request.one("content-length") == str(len(body)) and request.all("transfer-encoding") == []


def test_a_chunked_body_of_nothing_arrives_as_one(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        assert connection.ask(head("/open") + chunk(b"")).json()["bytes"] == 0
    assert [request.body for request in kept.take()] == [b""]


@pytest.mark.parametrize(
    ("method", "lengths"), [("POST", ["0"]), ("PUT", ["0"]), ("PATCH", ["0"]), ("DELETE", []), ("GET", [])]
)
@pytest.mark.parametrize("said", ["Content-Length: 0\r\n", ""])
def test_no_body_has_a_length_where_one_is_usual(
    gate: Gateway, kept: Upstream, method: str, lengths: list[str], said: str
) -> None:
    with Connection(gate.proxy) as connection:
        assert connection.ask(f"{method} /open HTTP/1.1\r\nHost: t\r\n{said}\r\n".encode()).status == 200
    (request,) = kept.take()
    assert (request.all("content-length"), request.all("transfer-encoding")) == (lengths, [])


def test_trailers_are_refused(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        answer = connection.ask(head("/open") + chunk(b"hello") + b"0\r\nX-Checksum: 1\r\n\r\n")
        check_refusal(answer, 400, "The request body ended early")
        assert connection.ended()
    check_nothing_came(gate, kept)


def test_a_body_that_is_refused_touches_no_limit(gate: Gateway, kept: Upstream) -> None:
    """The last of this module: `/two` still has both of its requests."""
    with Connection(gate.proxy) as connection:
        check_refusal(connection.ask(head("/two", length=CAP + 1)), 413, TOO_LARGE)
    with Connection(gate.proxy) as connection:
        statuses = [connection.ask(head("/two", length=5) + b"hello").status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert len(kept.take()) == 2
