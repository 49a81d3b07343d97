"""Bodies that never end hold no more than their caller's part of a worker's memory, and give it back."""

import gzip
import json
from contextlib import ExitStack

from tests.integration.bounds.conftest import MEMORY, WORKERS, Floor
from tests.support.ends import message
from tests.support.hostile import MIB, Peak, Senders, wait_memory
from tests.support.surface import Caller, chat, metric
from tests.support.wire import Connection

BODY = 2 * MIB
PART = MEMORY // 4


def withheld(who: Caller) -> bytes:
    """A body without its last byte."""
    return message("POST", "/echo/post", f"apikey: {who.key}", body=bytes(BODY))[:-1]


def chunked(who: Caller) -> bytes:
    """A chunked body that does not end."""
    head = message("POST", "/echo/post", f"apikey: {who.key}", "Transfer-Encoding: chunked")
    return head + (b"%x\r\n" % 65536 + bytes(65536) + b"\r\n") * (BODY // 65536)


def test_one_callers_bodies_hold_their_part_and_others_go_on(floor: Floor) -> None:
    bad, before = floor.caller(), floor.refused("body_memory_exceeded")
    with Peak(floor.gateway) as peak, floor.healthy() as healthy:
        crowd = Senders.send(floor.gateway.proxy, [withheld(bad)] * 40)
        refused = floor.refused("body_memory_exceeded") - before
    assert healthy.meanwhile
    held = PART // BODY
    assert 40 - WORKERS * held <= refused <= 40 - held
    assert peak.grown <= WORKERS * PART + 24 * MIB
    crowd.leave()
    wait_memory(floor.gateway, peak.before + 12 * MIB)
    assert bad.used() == [0]


def test_many_callers_bodies_hold_the_workers_memory_and_no_more(floor: Floor) -> None:
    bad, before = [floor.caller() for _ in range(24)], floor.refused("overloaded")
    with Peak(floor.gateway) as peak, floor.healthy():
        crowd = Senders.send(floor.gateway.proxy, [withheld(one) for one in bad for _ in range(4)])
        assert floor.refused("overloaded") > before
    assert peak.grown <= WORKERS * MEMORY + 24 * MIB
    crowd.leave()
    wait_memory(floor.gateway, peak.before + 16 * MIB)
    assert [one.used() for one in bad] == [[0]] * len(bad)


def test_chunked_bodies_hold_their_part_as_they_come(floor: Floor) -> None:
    bad, before = floor.caller(), floor.refused("body_memory_exceeded")
    with Peak(floor.gateway) as peak, floor.healthy():
        crowd = Senders.send(floor.gateway.proxy, [chunked(bad)] * 20)
        assert floor.refused("body_memory_exceeded") > before
    assert peak.grown <= WORKERS * PART + 24 * MIB
    crowd.leave()
    assert bad.used() == [0]


def test_refused_body_tells_when_to_come_again(floor: Floor) -> None:
    bad = floor.caller()
    # Each worker holds one body, whichever worker a connection meets.
    crowd = Senders.send(floor.gateway.proxy, [withheld(bad)] * 40)
    small = message("POST", "/echo/post", f"apikey: {bad.key}", body=bytes(BODY // 4), close=False)
    with Connection(floor.gateway.proxy) as connection:
        answer = connection.ask(small)
    assert (answer.status, answer.one("retry-after")) == (429, "1")
    assert answer.json()["message"] == "Too many large requests at once: wait for one to end"
    crowd.leave()


def test_body_counts_as_large_as_it_is_decoded(floor: Floor) -> None:
    bad = floor.caller()
    crowd = Senders.send(floor.gateway.proxy, [withheld(bad)] * 40)
    body = gzip.compress(json.dumps(chat(user="u" * (4 * MIB))).encode())
    refused = bad.post(body, **{"content-encoding": "gzip"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "body_memory_exceeded")
    crowd.leave()
    assert bad.used() == [0]


def test_one_body_of_the_largest_size_always_fits(floor: Floor) -> None:
    body = bytes(5 * MIB)
    assert len(body) > PART
    with Connection(floor.gateway.proxy) as connection:
        answer = connection.ask(message("POST", "/echo/post", f"apikey: {floor.caller().key}", body=body))
    assert answer.status == 200


def test_few_refused_bodies_are_read_on(floor: Floor) -> None:
    """Everybody gets the answer; at most four of one address stay in flight in a worker behind it."""
    head = message("POST", "/echo/post", f"apikey: {floor.caller().key}", f"Content-Length: {20 * MIB}")
    with ExitStack() as stack:
        crowd = [stack.enter_context(Connection(floor.gateway.proxy)) for _ in range(40)]
        for one in crowd:
            one.send(head)
        assert [one.answer().status for one in crowd] == [413] * 40
        assert metric(floor.gateway, "aigw_in_flight") <= 4 * WORKERS
