"""Routes and models that lead back to the gateway end after eight passes, and count nothing."""

import httpx2 as httpx
import pytest

from tests.integration.bounds.conftest import FLEET, Floor
from tests.support.ends import message
from tests.support.processes import wait_until
from tests.support.surface import Caller, Json, chat, is_error, metric
from tests.support.wire import Connection

PASSES = 8


@pytest.fixture(scope="module")
def looped(running: Floor) -> Floor:
    """The gateway with a route and a model that lead to itself."""
    gateway = running.gateway
    gateway.make("/services", name="loop", url=gateway.proxy + "/loop")
    gateway.make("/services/loop/routes", name="loop", paths=["/loop"])
    gateway.make("/services/loop/plugins", name="key-auth")
    return running


def entries(looped: Floor, who: Caller) -> list[Json]:
    """The caller's entries in the ledger."""
    query = {"consumer": who.name}
    rows: list[Json] = httpx.get(f"{looped.gateway.admin}/usage/events", params=query, trust_env=False).json()["data"]
    return rows


@pytest.mark.parametrize(
    "lines",
    [(), ("X-AIGW-Passes: 0",), ("X-AIGW-Passes: 0", "Connection: close, X-AIGW-Passes"), ("X_AIGW_Passes: 0",)],
)
def test_route_to_the_gateway_is_508(looped: Floor, lines: tuple[str, ...]) -> None:
    who, before = looped.caller(), looped.refused("loop_detected")
    with Connection(looped.gateway.proxy) as connection:
        answer = connection.ask(message("GET", "/loop/x", f"apikey: {who.key}", *lines, close=not lines))
    assert answer.status == 508
    assert answer.json()["message"].startswith("The request came back to the gateway too often")
    assert looped.refused("loop_detected") == before + 1
    assert who.used() == [0]
    assert who.post(chat()).status_code == 200
    wait_until(lambda: bool(entries(looped, who)), "the mark is in the ledger")
    assert [entry["model"] for entry in entries(looped, who)] == ["small-chat"]


def test_count_of_a_caller_is_where_it_starts(looped: Floor) -> None:
    who = looped.caller()
    with Connection(looped.gateway.proxy) as connection:
        near = message("GET", "/echo/headers", f"apikey: {who.key}", f"X-AIGW-Passes: {PASSES - 1}", close=False)
        far = message("GET", "/echo/headers", f"apikey: {who.key}", f"X-AIGW-Passes: 1, {PASSES}", close=False)
        passed, refused = connection.ask(near), connection.ask(far)
    assert (passed.status, refused.status) == (200, 508)
    assert passed.json()["headers"]["X-Aigw-Passes"] == str(PASSES)


@pytest.mark.parametrize("stream", [False, True])
def test_model_at_the_gateway_is_508(looped: Floor, stream: bool) -> None:
    who, before = looped.caller(), looped.refused("loop_detected")
    error = is_error(who.post(chat("round", stream=stream)), 508)
    assert (error["code"], error["aigw"]["reason"], error["aigw"]["retryable"]) == (
        "loop_detected",
        "loop_detected",
        False,
    )
    assert looped.refused("loop_detected") == before + 1
    fleet = Caller(looped.gateway, "fleet", FLEET)
    assert (who.used(), fleet.used()) == ([0], [0])
    # The mark is an entry behind those that the loop might have made.
    assert who.post(chat()).status_code == 200
    wait_until(lambda: len(entries(looped, who)) == 1, "the mark is in the ledger")
    assert entries(looped, fleet) == []
    for name in ("aigw_model_requests_total", "aigw_upstream_errors_total"):
        assert metric(looped.gateway, name, model="round") == 0
