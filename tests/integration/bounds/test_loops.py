"""Routes and models that lead back to the gateway end after eight passes, and count nothing."""

import pytest

from tests.integration.bounds.conftest import FLEET, Floor
from tests.support.ends import message
from tests.support.surface import Caller, chat, is_error
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
    assert (who.used(), Caller(looped.gateway, "fleet", FLEET).used()) == ([0], [0])
