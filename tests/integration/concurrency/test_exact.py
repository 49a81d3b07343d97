"""Calls at once: exactly as many as the limit says reach the upstream, over all workers, on both surfaces."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.concurrency.conftest import (
    Floor,
    admitted,
    configuration,
    in_flight,
    refusal,
    to_model,
    to_route,
)
from tests.support.ends import Upstream, Wire, chunk
from tests.support.holding import DONE, EVENT, Crowd
from tests.support.processes import Gateway, wait_until
from tests.support.surface import caller, is_error, metric

New = Callable[..., Gateway]

MANY = 40
ROUNDS = 5


def second_key(floor: Floor, name: str) -> str:
    """Another key of this consumer."""
    key = f"sk-second-of-{name}-0123456789"
    floor.gateway.make(f"/consumers/{name}/key-auth", key=key)
    return key


@pytest.mark.parametrize("streams", [False, True])
def test_consumer_has_exactly_its_places_whatever_key_and_model(floor: Floor, streams: bool) -> None:
    one, other = floor.caller("three"), floor.caller("three")
    keys, models = [one.key, second_key(floor, one.name)], ["m1", "m2"]
    more = {"stream": True} if streams else {}
    messages = [to_model(keys[n % 2], models[n // 2 % 2], **more) for n in range(MANY)]
    for _ in range(ROUNDS):
        assert admitted(floor, messages, 3) == {429}
    both = messages + [to_model(other.key)] * MANY
    assert admitted(floor, both, 6) == {429}


def test_each_key_has_its_places(floor: Floor) -> None:
    one = floor.caller("three-a-key")
    messages = [to_model(key, model) for key in (one.key, second_key(floor, one.name)) for model in ("m1", "m2")]
    for _ in range(ROUNDS):
        assert admitted(floor, messages * 10, 6) == {429}


def test_each_model_has_its_places(floor: Floor) -> None:
    one = floor.caller("three-a-model")
    keys = [one.key, second_key(floor, one.name)]
    for _ in range(ROUNDS):
        assert admitted(floor, [to_model(key, model) for key in keys for model in ("m1", "m2")] * 10, 6) == {429}


def test_routes_and_models_share_places(floor: Floor) -> None:
    one = floor.caller("three")
    for _ in range(ROUNDS):
        assert admitted(floor, [to_route(one.key)] * MANY, 3) == {429}
        assert admitted(floor, [to_route(one.key), to_model(one.key)] * (MANY // 2), 3) == {429}


def test_several_limits_hold_together(floor: Floor) -> None:
    one = floor.caller("several")
    key = second_key(floor, one.name)
    assert admitted(floor, [to_model(one.key)] * MANY, 2) == {429}
    assert admitted(floor, [to_model(one.key, model) for model in ("m1", "m2")] * 20, 3) == {429}
    assert admitted(floor, [to_model(each, model) for each in (one.key, key) for model in ("m1", "m2")] * 10, 4) == {
        429
    }
    # A refusal by one of them leaves nothing taken in the others.
    wait_until(lambda: in_flight(one) == 0, "all places are free")


def test_limit_of_zero_lets_no_call_pass(floor: Floor) -> None:
    one = floor.caller("nothing")
    for message in (to_model(one.key), to_route(one.key)):
        crowd = floor.crowd([message] * 5)
        crowd.finish()
        assert crowd.statuses() == {429: 5}
        answer = refusal(crowd)
        assert (answer.header("x-should-retry"), answer.header("retry-after-ms")) == ("false", None)
    assert floor.upstream.came == 0


def test_shadow_limit_counts_and_never_refuses(floor: Floor) -> None:
    one = floor.caller("looking-on")
    before = metric(floor.gateway, "aigw_shadow_exceeded_total", tier="looking-on")
    crowd = floor.fill(one, 10)
    assert in_flight(one) == 2, "a full shadow limit is passed by"
    floor.empty(crowd)
    wait_until(lambda: in_flight(one) == 0, "all places are free")
    assert metric(floor.gateway, "aigw_shadow_exceeded_total", tier="looking-on") == before + 8


def test_refusal_of_a_model_has_openais_form_and_a_short_wait(floor: Floor) -> None:
    one = floor.caller("three")
    held = floor.fill(one)
    crowd = floor.crowd([to_model(one.key)] * 20)
    waits = set()
    for answer in crowd.finish():
        assert answer.status == 429
        error = is_error(json.loads(answer.body))
        assert (error["type"], error["code"], error["param"]) == ("requests", "concurrency_limit_exceeded", None)
        assert error["message"] == "Tier 'three' allows 3 calls at once. Please try again when one has ended."
        facts = error["aigw"]
        assert (facts["policy"], facts["limit"], facts["used"]) == ("3 calls at once", 3, 3)
        assert (facts["scope"], facts["tier"], facts["retryable"]) == ("consumer", "three", True)
        assert (answer.header("x-aigw-limit"), answer.header("x-aigw-tier")) == ("3 calls at once", "three")
        assert (answer.header("x-aigw-scope"), answer.header("x-should-retry")) == ("consumer", None)
        assert answer.header("x-aigw-reset") == str(facts["reset_at"])
        assert answer.header("retry-after") == "1"
        waits.add(int(answer.header("retry-after-ms") or 0))
    assert min(waits) >= 500 and max(waits) <= 1_000 and len(waits) > 5, "the wait is short, and spread"
    floor.empty(held)


def test_refusal_on_a_route_has_kongs_form(floor: Floor) -> None:
    one = floor.caller("three")
    held = floor.fill(one)
    (answer,) = floor.crowd([to_route(one.key)]).finish()
    assert answer.status == 429
    assert json.loads(answer.body) == {
        "message": "Too many calls at once",
        "request_id": answer.header("x-kong-request-id"),
    }
    assert (answer.header("x-aigw-limit"), answer.header("x-aigw-tier")) == ("3 calls at once", "three")
    assert answer.header("x-aigw-scope") == "consumer" and answer.header("x-aigw-reset")
    assert answer.header("retry-after") == "1" and 500 <= int(answer.header("retry-after-ms") or 0) <= 1_000
    # Kong's counts are of requests per period: calls in flight have no such header.
    assert b"ratelimit" not in answer.head.lower()
    floor.empty(held)


def test_full_places_refuse_on_the_head_and_take_nothing(floor: Floor) -> None:
    one = floor.caller("counted")
    held = floor.fill(one)
    head = to_model(one.key).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    crowd = floor.crowd([head])
    crowd.wait(lambda: b"\r\n\r\n" in crowd.clients[0].data)
    assert crowd.clients[0].answer.status == 429, "the body has not been sent"
    crowd.leave()
    floor.empty(held)
    rows = {row["meter"]: row["used"] for row in one.limits()}
    assert rows == {"concurrency": 0, "requests": 3}


def test_call_whose_body_is_on_its_way_holds_no_place(floor: Floor) -> None:
    one = floor.caller("three")
    begun = floor.crowd([to_model(one.key)[:-10]] * 5)
    floor.is_free(one)
    begun.leave()


def test_rows_show_calls_in_flight(floor: Floor) -> None:
    one = floor.caller("several")
    held = floor.fill(one, 2)
    wanted = {
        ("consumer", None): (4, 2),
        ("credential", None): (3, 2),
        ("model", "m1"): (2, 2),
        ("model", "m2"): (2, 0),
    }
    for rows in (one.limits(), one.get("/v1/limits").json()["data"]):
        found = {}
        for row in rows:
            assert (row["meter"], row["per"], row["resets_at"]) == ("concurrency", None, None)
            assert (row["mode"], row["source"], row["reserved"]) == ("enforce", "tier several", 0)
            assert row["remaining"] == row["limit"] - row["used"]
            assert (row["credential"] is not None) == (row["scope"] == "credential")
            found[row["scope"], row["model"]] = (row["limit"], row["used"])
        assert found == wanted
    floor.empty(held)
    wait_until(lambda: in_flight(one) == 0, "all places are free")


def late_end(wire: Wire) -> None:
    """Streams whose end comes a little after their last event."""
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while wire.request() is not None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(chunk(EVENT))
        wire.send(chunk(DONE))
        time.sleep(0.001)
        wire.send(b"0\r\n\r\n")


def test_caller_that_reacts_to_the_last_event_finds_its_place_free(new_gateway: New, tmp_path: Path) -> None:
    with Upstream(late_end) as upstream:
        file = tmp_path / "c.yaml"
        tier = {"limits": [{"concurrency": 1}]}
        file.write_text(json.dumps({**configuration(upstream.url), "tiers": {"one": tier}}))
        gateway = new_gateway("--config", str(file))
        one = caller(gateway, "one")
        passed = 0
        for _ in range(100):
            crowd = Crowd.call(gateway.proxy, [to_model(one.key, stream=True)])
            crowd.wait(lambda crowd=crowd: b"[DONE]" in crowd.clients[0].data or crowd.clients[0].ended)  # type: ignore[misc]
            passed += b"[DONE]" in crowd.clients[0].data
            crowd.leave()
        # The upstream's pause is longer than it wants on a busy machine, and the gateway waits 5 ms.
        assert passed > 90


def test_caller_of_one_call_after_the_other_is_never_refused(floor: Floor) -> None:
    floor.upstream.let_go(10_000)
    one = floor.caller("three")
    for message in (to_model(one.key), to_model(one.key, stream=True), to_route(one.key)):
        for _ in range(30):
            crowd = floor.crowd([message] * 3)
            crowd.finish()
            assert crowd.statuses() == {200: 3}
