"""Answers that no honest upstream sends: no client can read one of them in two ways, and none spoils the next answer."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import PATIENCE_S, Gateway, start_gateway, wait_until
from tests.support.wire import Connection, Message, Upstream, told, upstream

OK = b"HTTP/1.1 200 OK\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
NEXT = b"GET /up/next HTTP/1.1\r\nHost: t\r\n\r\n"


class Answers:
    """What the upstream answers next: `/up/next` always gets the usual."""

    def __init__(self) -> None:
        self.data = b""
        self.go_on = threading.Event()

    def __call__(self, request: Message) -> bytes:
        if request.target == "/wait":
            self.go_on.wait(PATIENCE_S)
        return told(request) if request.target == "/next" else self.data


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="module")
def running(answers: Answers) -> Iterator[Upstream]:
    with upstream(answers) as kept:
        yield kept


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, running: Upstream) -> Iterator[Gateway]:
    data = tmp_path_factory.mktemp("hostile")
    gateway = start_gateway(data / "data", "--drain-timeout", "2", "--access-log", str(data / "access.log"))
    try:
        gateway.route(running.url, "/up", "up")
        yield gateway
    finally:
        gateway.process.end()


def ask(gateway: Gateway, method: str = "GET") -> tuple[Message, Message]:
    """The answer to one request, and to the next on the same connection."""
    with Connection(gateway.proxy) as connection:
        first = connection.ask(f"{method} /up/x HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        return first, connection.ask(NEXT)


GARBAGE = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 4\r\n\r\nokok",
    "no number": b"Content-Length: x\r\n\r\nok",
    "a negative length": b"Content-Length: -1\r\n\r\nok",
    "a length beyond all": b"Content-Length: 99999999999999999999999\r\n\r\nok",
    "a chunk without a size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "a folded header": b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "a space before the colon": b"X-A : a\r\nContent-Length: 2\r\n\r\nok",
    "a NUL": b"X-A: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "a head without an end": b"X-A: " + b"a" * 600_000 + b"\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_an_answer_with_two_readings_is_502(gate: Gateway, answers: Answers, kind: str) -> None:
    answers.data = OK + GARBAGE[kind]
    first, following = ask(gate)
    assert (first.status, first.one("x-should-retry")) == (502, "false")
    assert first.json()["message"] == "An invalid response was received from the upstream server"
    assert (following.status, following.json()["target"]) == (200, "/next")


@pytest.mark.parametrize(
    "line", ["HTTP/1.1 101 Switching Protocols\r\nUpgrade: x", "HTTP/1.1 20 OK", "HTTP/1.1 099 X", "HTTP/3.0 200 OK"]
)
def test_a_status_nobody_asked_for_is_502(gate: Gateway, answers: Answers, line: str) -> None:
    answers.data = line.encode() + b"\r\nContent-Length: 2\r\n\r\nok"
    first, following = ask(gate)
    assert (first.status, following.status) == (502, 200)


@pytest.mark.parametrize(
    ("method", "data", "status", "body"),
    [
        ("GET", OK + b"Content-Length: 2\r\n\r\nok" + EVIL, 200, b"ok"),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EVIL, 200, b"ok"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL, 204, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n" + EVIL, 304, b""),
    ],
)
def test_bytes_after_an_answer_reach_nobody(
    gate: Gateway, answers: Answers, method: str, data: bytes, status: int, body: bytes
) -> None:
    answers.data = data
    for _ in range(5):
        first, following = ask(gate, method)
        assert (first.status, first.body) == (status, body)
        assert following.json()["target"] == "/next"


def test_headers_of_one_hop_end_here(gate: Gateway, answers: Answers) -> None:
    hop = b"Connection: x-a\r\nConnection: X-B, keep-alive\r\nX-A: 1\r\nX-B: 1\r\nKeep-Alive: timeout=1\r\n"
    hop += b"Proxy-Authenticate: x\r\nUpgrade: h2c\r\nTrailer: x\r\nProxy-Connection: close\r\n"
    answers.data = OK + hop + b"X-C: 1\r\nContent-Length: 2\r\n\r\nok"
    first, _ = ask(gate)
    gone = {"x-a", "x-b", "proxy-authenticate", "upgrade", "trailer", "proxy-connection", "connection"}
    assert gone & {name for name, _ in first.headers} == set()
    assert first.all("keep-alive") == ["timeout=75"], "the gateway's own"
    assert first.one("x-c") == "1"


def test_the_gateway_writes_its_own_headers_once(gate: Gateway, answers: Answers) -> None:
    forged = b"X-Request-Id: forged\r\nX-Kong-Request-Id: forged\r\nX-Kong-Upstream-Latency: forged\r\n"
    answers.data = OK + forged + b"X-Kong-Proxy-Latency: forged\r\nX-Own: kept\r\nContent-Length: 2\r\n\r\nok"
    first, _ = ask(gate)
    assert len(first.one("x-request-id")) == 32
    assert first.one("x-kong-request-id") == first.one("x-request-id")
    assert first.one("x-kong-upstream-latency").isdigit()
    assert first.one("x-kong-proxy-latency").isdigit()
    assert first.one("x-own") == "kept"


def test_cookies_stay_apart(gate: Gateway, answers: Answers) -> None:
    answers.data = OK + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
    assert ask(gate)[0].all("set-cookie") == ["a=1", "b=2"]


def test_a_client_that_leaves_is_no_fault(gate: Gateway, answers: Answers, running: Upstream) -> None:
    running.take()
    with Connection(gate.proxy) as connection:
        connection.send(b"GET /up/wait HTTP/1.1\r\nHost: t\r\n\r\n")
        wait_until(lambda: len(running.requests) == 1, "the upstream has the request")

    def counted(name: str) -> int:
        page = httpx.get(gate.admin + "/metrics", trust_env=False).text.splitlines()
        (line,) = [line for line in page if line.startswith(name)]
        return int(line.split()[-1])

    wait_until(lambda: counted('aigw_denials_total{reason="client_gone"}') == 1, "the client is seen to be gone")
    assert counted('aigw_denials_total{reason="internal"}') == 0
    assert counted("aigw_client_gone_total") == 1
    log = Path(gate.data).parent / "access.log"
    wait_until(lambda: '"/up/wait"' in log.read_text(), "the log tells of it")
    (line,) = [json.loads(line) for line in log.read_text().splitlines() if '"/up/wait"' in line]
    assert (line["status"], line["outcome"], line["denial"]) == (499, "client_cut", "client_gone")
    answers.go_on.set()


def test_via_is_added_to_and_the_gateways_words_are_its_own(gate: Gateway, answers: Answers) -> None:
    answers.data = OK + b"Via: 1.0 up\r\nVia: 1.1 upper\r\nX-AIGW-Tier: evil\r\nContent-Length: 0\r\n\r\n"
    first, _ = ask(gate)
    (via,) = [value for name, value in first.headers if name == "via"]
    assert via.startswith("1.0 up, 1.1 upper, 1.1 aigw/")
    assert not [name for name, _ in first.headers if name.startswith("x-aigw-")]
