"""What one caller or one upstream sends in small pieces costs the others nothing: interim answers, chunks, members."""

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.bounds.conftest import Floor
from tests.support.ends import Upstream, Wire, message
from tests.support.surface import chat, is_error, start_configured
from tests.support.wire import Connection

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Interim:
    """How many interim answers come before the answer."""

    def __init__(self) -> None:
        self.count = 0
        self.sent = threading.Event()

    def __call__(self, wire: Wire) -> None:
        while wire.request() is not None:
            for _ in range(self.count // 1000):
                wire.send(INTERIM * 1000)
            wire.send(INTERIM * (self.count % 1000) + OK)


@pytest.fixture(scope="module")
def interim(running: Floor) -> Iterator[Interim]:
    script = Interim()
    with Upstream(script) as upstream:
        running.gateway.route(upstream.url, "/interim", "interim")
        yield script


def ask(floor: Floor) -> int:
    """The status of a call of the upstream with interim answers."""
    with Connection(floor.gateway.proxy) as connection:
        return connection.ask(message("GET", "/interim/x", close=False)).status


def test_some_interim_answers_pass(floor: Floor, interim: Interim) -> None:
    interim.count = 300
    assert ask(floor) == 200


def test_flood_of_interim_answers_is_502(floor: Floor, interim: Interim) -> None:
    interim.count = 1_000_000
    before = floor.refused("upstream_garbage")
    with floor.healthy() as healthy:
        assert [ask(floor) for _ in range(5)] == [502] * 5
    assert healthy.meanwhile
    assert floor.refused("upstream_garbage") == before + 5


def cpu_s(floor: Floor) -> float:
    """CPU seconds of the workers so far."""
    pids = [pid for name, pid in floor.gateway.children().items() if name.startswith("worker")]
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / 100


def chunks(key: str, size: int, count: int) -> bytes:
    """A chunked body of equal chunks."""
    head = message("POST", "/echo/post", f"apikey: {key}", "Transfer-Encoding: chunked", close=False)
    return head + (b"%x\r\n" % size + b"x" * size + b"\r\n") * count + b"0\r\n\r\n"


@pytest.mark.parametrize(("size", "count", "status"), [(1, 4000, 200), (64, 20_000, 200), (1, 400_000, 413)])
def test_chunks_are_bounded_by_the_bytes_they_bring(floor: Floor, size: int, count: int, status: int) -> None:
    who, before = floor.caller(), cpu_s(floor)
    with Connection(floor.gateway.proxy) as connection, floor.healthy():
        sender = threading.Thread(target=send, args=(connection, chunks(who.key, size, count)), daemon=True)
        sender.start()
        answer = connection.answer()
    assert answer.status == status
    assert who.used() == [int(status == 200)]
    if status == 413:
        assert "chunks" in answer.json()["message"]
        # The chunks that were read cost 0.1 s, all of them 7 s.
        assert cpu_s(floor) - before < 3


def test_a_body_that_waits_for_its_turn_is_not_late(echo: str, tmp_path: Path) -> None:
    services = [{"name": "echo", "url": echo, "routes": [{"name": "echo", "paths": ["/echo"]}]}]
    env = {"AIGW_BODY_TIMEOUT": "1s"}
    gateway = start_configured(tmp_path / "data", {"services": services}, workers=1, env=env)
    try:
        # A worker reads 20,000 small chunks a second: the last 600 KB wait in buffers for longer than the client may be silent.
        body = chunks("nobody", 64, 30_000)
        with ExitStack() as stack:
            connections = [stack.enter_context(Connection(gateway.proxy)) for _ in range(4)]
            for connection in connections:
                threading.Thread(target=send, args=(connection, body), daemon=True).start()
            assert [connection.answer().status for connection in connections] == [200] * 4
    finally:
        gateway.process.end()


def send(connection: Connection, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the answer may come before the end of the request
        connection.send(data)


def test_small_pieces_of_a_large_body_are_gathered(floor: Floor) -> None:
    who, body = floor.caller(), b"x" * 200_000
    with Connection(floor.gateway.proxy) as connection:
        connection.send(message("POST", "/echo/post", f"apikey: {who.key}", body=body, close=False)[: -len(body)])
        for at in range(0, len(body), 500):
            connection.send(body[at : at + 500])
        answer = connection.answer()
    assert (answer.status, len(answer.json()["data"])) == (200, len(body))


def members(count: int) -> bytes:
    """A chat call with so many members that decide nothing."""
    body = json.dumps(chat())
    return (body[:-1] + "".join(f',"x{n}":1' for n in range(count)) + "}").encode()


def test_members_are_bounded(floor: Floor) -> None:
    who = floor.caller()
    error = is_error(who.post(members(300_000)), 400)
    assert "more than 200000 members" in error["message"]
    assert who.used() == [0]
    assert who.post(members(150_000)).status_code == 200


def test_bodies_of_many_members_hold_up_nobody(floor: Floor) -> None:
    who, body = floor.caller(), members(190_000)
    with floor.healthy() as before:
        who.post(chat())
        while len(before.times) < 200:
            who.post(chat())
    with floor.healthy() as beside:
        for _ in range(6):
            assert who.post(body).status_code == 200
    assert beside.quantile() < max(20 * before.quantile(), 0.25)
