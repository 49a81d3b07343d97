"""Connections between requests: how long they are kept, how answers tell it, and what happens at the edge.

Guarantee under test: a request that is sent within the told time is served; one that is sent at the moment of the close is served, or
the gateway has read nothing of it and the client sees its connection's end.
"""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.processes import Gateway, start_gateway, wait_until
from tests.support.surface import metric
from tests.support.wire import Connection, Message, Upstream, upstream

KEEP_S = 1
GET = b"GET /open HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


def start(tmp_path_factory: pytest.TempPathFactory, running: Upstream, keep: str) -> Gateway:
    folder = tmp_path_factory.mktemp("kept")
    gateway = start_gateway(folder / "data", "--drain-timeout", "1", env={"AIGW_KEEP_ALIVE": keep})
    gateway.route(running.url, "/open")
    return gateway


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, running: Upstream) -> Iterator[Gateway]:
    gateway = start(tmp_path_factory, running, f"{KEEP_S}s")
    yield gateway
    gateway.process.end()


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, running: Upstream) -> Iterator[Gateway]:
    gateway = start(tmp_path_factory, running, "1m")
    yield gateway
    gateway.process.end()


def ended(connection: Connection) -> bool:
    """Waits for the end of a connection that has no more bytes; a reset is an end, too."""
    try:
        return connection.socket.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("target", ["/open", "/nothing", "/livez"])
def test_answers_tell_how_long_the_connection_is_kept(long: Gateway, target: str) -> None:
    with Connection(long.proxy) as connection:
        for _ in range(2):
            answer = connection.ask(GET.replace(b"/open", target.encode()))
            assert answer.one("keep-alive") == "timeout=60" and answer.all("connection") == []


@pytest.mark.parametrize("target", ["/open", "/nothing"])
def test_answer_that_ends_its_connection_tells_nothing(long: Gateway, target: str) -> None:
    with Connection(long.proxy) as connection:
        request = GET.replace(b"/open", target.encode()).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answer = connection.ask(request)
        assert answer.all("keep-alive") == []
        assert ended(connection)


def test_keep_alive_of_an_upstream_does_not_pass(long: Gateway) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=3\r\nContent-Length: 0\r\n\r\n"
    with upstream(lambda _: answer) as other:
        long.route(other.url, "/other", name="other")
        with Connection(long.proxy) as connection:
            assert connection.ask(GET.replace(b"/open", b"/other")).one("keep-alive") == "timeout=60"


def test_idle_connection_is_kept_for_its_time_and_ends(short: Gateway) -> None:
    with Connection(short.proxy) as connection:
        assert connection.ask(GET).status == 200
        began = time.monotonic()
        assert ended(connection)
        assert time.monotonic() - began >= KEEP_S


def test_slow_head_ends_while_an_idle_connection_is_kept(long: Gateway) -> None:
    """A head has 10 s from its first byte, on a fresh connection and behind an answer, however it drips."""
    before = metric(long, "aigw_head_timeouts_total")
    with contextlib.ExitStack() as stack:
        idle, fresh, used, stopped = (stack.enter_context(Connection(long.proxy)) for _ in range(4))
        for connection in (idle, used):
            assert connection.ask(GET).status == 200
        stopped.send(GET[:20])
        began = time.monotonic()
        dripping = {fresh, used}
        while dripping and time.monotonic() < began + 30:
            for connection in list(dripping):
                connection.socket.settimeout(0.2)
                try:
                    connection.send(b"G" if connection is fresh else b"P")
                    if connection.socket.recv(1) == b"":
                        dripping.discard(connection)
                except TimeoutError:
                    pass
                except OSError:
                    dripping.discard(connection)
        assert not dripping
        assert ended(stopped)
        assert time.monotonic() - began >= 9
        assert idle.ask(GET).status == 200
        wait_until(lambda: metric(long, "aigw_head_timeouts_total") == before + 3, "each cut head is counted")


def answer_or_end(connection: Connection) -> Message | None:
    """The answer, or None if the connection ended before its first byte."""
    try:
        connection.send(GET)
        first = connection.socket.recv(1, socket.MSG_PEEK)
    except ConnectionError:
        return None
    return connection.answer() if first else None


def test_no_request_is_lost_at_the_edge(short: Gateway, kept: Upstream) -> None:
    """120 connections ask again at moments around the close, 5 of them within the told time."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(short.proxy)) for _ in range(125)]
        moments = []
        for connection in connections:
            assert connection.ask(GET).status == 200
            moments.append(time.monotonic())
        kept.take()
        early, edge = connections[:5], connections[5:]
        answers = []
        for connection in early:
            time.sleep(max(0.0, moments[0] + KEEP_S * 0.5 - time.monotonic()))
            answers.append(answer_or_end(connection))
        assert all(answer is not None and answer.status == 200 for answer in answers)
        for index, (connection, moment) in enumerate(zip(edge, moments[5:], strict=True)):
            time.sleep(max(0.0, moment + KEEP_S + 1.0 + (index % 40 - 20) * 0.002 - time.monotonic()))
            answers.append(answer_or_end(connection))
        served = [answer for answer in answers if answer is not None]
        assert all(answer.status == 200 for answer in served)
        assert len(kept.take()) == len(served)
