"""Each end of a call gives its place back: whole answers, clients that leave, upstreams that fail, refusals, drains, kills."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.concurrency.conftest import (
    WORKERS,
    Floor,
    configuration,
    in_flight,
    to_model,
    to_route,
)
from tests.support.ends import Upstream, message
from tests.support.failing import FAILURES, after_reading
from tests.support.holding import Crowd, Holding
from tests.support.processes import Gateway, gone, wait_until
from tests.support.surface import Caller, chat, start_configured

WITHIN_S = 20.0
"""A killed worker's places are free within 1 s. A busy machine runs the tests, too."""

New = Callable[..., Gateway]
SENDERS = {
    "model": lambda key: to_model(key),
    "stream": lambda key: to_model(key, stream=True),
    "route": lambda key: to_route(key),
}
each_surface = pytest.mark.parametrize("surface", SENDERS)


@each_surface
def test_whole_answer_frees_the_place(floor: Floor, surface: str) -> None:
    one = floor.caller("three")
    crowd = floor.crowd([SENDERS[surface](one.key)] * 3)
    floor.upstream.wait(3)
    assert in_flight(one) == 3
    floor.empty(crowd)
    floor.is_free(one)


def test_stream_holds_its_place_until_its_last_byte(floor: Floor) -> None:
    one = floor.caller("three")
    crowd = floor.fill(one, 3, stream=True)
    crowd.wait(lambda: all(b"well " in client.data for client in crowd.clients))
    assert in_flight(one) == 3
    refused = floor.crowd([to_model(one.key), to_route(one.key)])
    assert {answer.status for answer in refused.finish()} == {429}
    floor.upstream.let_go(1)
    crowd.wait_ended(1)
    wait_until(lambda: in_flight(one) == 2, "one place is free")
    floor.upstream.let_go(2)
    crowd.finish()
    floor.is_free(one)


@each_surface
def test_client_that_leaves_frees_the_place(floor: Floor, surface: str) -> None:
    one = floor.caller("three")
    crowd = floor.crowd([SENDERS[surface](one.key)] * 3)
    floor.upstream.wait(3)
    if surface == "stream":
        crowd.wait(lambda: all(b"well " in client.data for client in crowd.clients))
    crowd.leave()
    floor.upstream.wait(0)
    floor.is_free(one)


@each_surface
def test_client_that_leaves_at_once_frees_the_place(floor: Floor, surface: str) -> None:
    one = floor.caller("three")
    for _ in range(10):
        floor.crowd([SENDERS[surface](one.key)] * 6).leave()
    floor.upstream.let_go(60)
    wait_until(lambda: in_flight(one) == 0, "all places are free")
    floor.upstream.forget()
    floor.is_free(one)


def test_body_that_never_ends_holds_no_place(floor: Floor) -> None:
    one = floor.caller("counted")
    whole = to_model(one.key)
    crowd = floor.crowd([whole[:-10]] * 5 + [whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"] * 5)
    assert in_flight(one) == 0
    crowd.leave()
    floor.is_free(one)


LATER: dict[str, tuple[str, dict[str, object], int]] = {
    "body too large": ("small", {"user": "x" * 30_000}, 413),
    "choices": ("small", {"n": 2}, 403),
    "unknown model": ("small", {"model": "none"}, 404),
    "bad cap": ("small", {"max_tokens": -2}, 400),
    "no messages": ("small", {"messages": []}, 400),
}


@pytest.mark.parametrize("name", LATER)
def test_call_that_is_refused_for_another_reason_holds_no_place(floor: Floor, name: str) -> None:
    tier, more, status = LATER[name]
    one = floor.caller(tier)
    body = json.dumps({**chat("m1"), **more}).encode()
    call = message("POST", "/v1/chat/completions", f"Authorization: Bearer {one.key}", body=body)
    crowd = floor.crowd([call] * 8)
    assert {answer.status for answer in crowd.finish()} == {status}
    assert floor.upstream.came == 0
    floor.is_free(one)


def test_chunked_body_beyond_the_bound_holds_no_place(floor: Floor) -> None:
    one = floor.caller("small")
    lines = (f"Authorization: Bearer {one.key}", "Transfer-Encoding: chunked")
    piece = b"%x\r\n%s\r\n" % (30_000, b"x" * 30_000)
    crowd = floor.crowd([message("POST", "/v1/chat/completions", *lines) + piece + b"0\r\n\r\n"] * 5)
    assert {answer.status for answer in crowd.finish()} == {413}
    floor.is_free(one)


def test_limit_behind_it_that_refuses_gives_the_place_back(floor: Floor) -> None:
    one = floor.caller("spent")
    floor.empty(floor.fill(one, 1))
    crowd = floor.crowd([to_model(one.key), to_route(one.key)] * 10)
    answers = crowd.finish()
    assert {answer.status for answer in answers} == {429}
    assert {answer.header("x-aigw-limit") for answer in answers} == {"1 requests per year"}
    assert in_flight(one) == 0


def test_limits_of_requests_and_places_refuse_together_exactly(floor: Floor) -> None:
    one = floor.caller("spent")
    floor.upstream.let_go(1)
    crowd = floor.crowd([to_model(one.key)] * 40)
    crowd.finish()
    assert crowd.statuses() == {200: 1, 429: 39}
    wait_until(lambda: in_flight(one) == 0, "all places are free")


@pytest.mark.parametrize(
    ("tier", "surface"), [("hasty", "model"), ("hasty", "stream"), ("short", "model"), ("short", "stream")]
)
def test_upstream_that_is_too_slow_frees_the_place(floor: Floor, tier: str, surface: str) -> None:
    one = floor.caller(tier)
    crowd = floor.crowd([SENDERS[surface](one.key)] * 3)
    answers = crowd.finish()
    # The head of a stream has passed: it is cut.
    assert {answer.status for answer in answers} == ({504} if surface == "model" else {200})
    floor.upstream.forget()
    wait_until(lambda: in_flight(one) == 0, "all places are free")
    crowd = floor.crowd([to_model(one.key)] * 3)
    floor.upstream.let_go(3)
    assert {answer.status for answer in crowd.finish()} == {200}


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Holding]]:
    """A gateway whose models and routes fail in each way, and one model that works."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.socket())  # bound, not listening: connections are refused
        silent.bind(("127.0.0.1", 0))
        urls = {name: stack.enter_context(Upstream(after_reading(act))).url for name, act in FAILURES.items()}
        urls["fail-refuse"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        upstream = stack.enter_context(Holding())
        given = configuration(upstream.url)
        for name, url in urls.items():
            given["models"][name] = {"upstreams": [{"url": url + "/v1", "model": "m"}]}
            given["services"].append(
                {
                    "name": name,
                    "url": url,
                    "read_timeout": 300,
                    "routes": [{"name": name, "paths": [f"/{name}"]}],
                    "plugins": [{"name": "key-auth"}],
                }
            )
        gateway = start_configured(tmp_path_factory.mktemp("failing") / "data", given, workers=2)
        stack.callback(gateway.process.end)
        yield gateway, upstream


@pytest.mark.parametrize("surface", ["model", "stream", "route"])
@pytest.mark.parametrize("name", [*FAILURES, "fail-refuse"])
def test_upstream_that_fails_frees_the_place(failing: tuple[Gateway, Holding], name: str, surface: str) -> None:
    gateway, upstream = failing
    floor = Floor(gateway, upstream)
    one = floor.caller("hasty" if name == "fail-hang" else "three")
    more = {"stream": True} if surface == "stream" else {}
    call = message("GET", f"/{name}", f"apikey: {one.key}") if surface == "route" else to_model(one.key, name, **more)
    for _ in range(3):
        crowd = floor.crowd([call] * 3)
        statuses = {answer.status for answer in crowd.finish()}
        assert statuses <= ({200} if name == "fail-midway" else {502, 503, 504}), statuses
        wait_until(lambda: in_flight(one) == 0, "all places are free")
    if name != "fail-hang":
        floor.is_free(one)


def held(new_gateway: New, tmp_path: Path, upstream: Holding, **options: object) -> tuple[Floor, Caller, Crowd]:
    """A gateway of its own with three calls in flight."""
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(configuration(upstream.url)))
    gateway = new_gateway("--config", str(file), *options.pop("arguments", ()), **options)  # type: ignore[misc]
    floor = Floor(gateway, upstream)
    one = floor.caller("three")
    return floor, one, floor.fill(one)


def again(new_gateway: New, floor: Floor, workers: int) -> Floor:
    """The gateway, started again with its data."""
    return Floor(new_gateway(data=floor.gateway.data, workers=workers), floor.upstream)


def test_drain_lets_calls_finish_and_frees_their_places(new_gateway: New, tmp_path: Path) -> None:
    with Holding() as upstream:
        floor, one, crowd = held(new_gateway, tmp_path, upstream, workers=2)
        os.kill(floor.gateway.pid, signal.SIGTERM)
        floor.gateway.wait_event("draining")
        floor.empty(crowd)
        assert floor.gateway.process.end() == 0
        after = again(new_gateway, floor, 2)
        Floor.is_free(after, Caller(after.gateway, one.name, one.key))


@pytest.mark.parametrize("how", ["cut by the drain's deadline", "killed whole"])
def test_end_of_the_gateway_frees_places(new_gateway: New, tmp_path: Path, how: str) -> None:
    with Holding() as upstream:
        floor, one, crowd = held(new_gateway, tmp_path, upstream, workers=2, arguments=("--drain-timeout", "1"))
        pids = tuple(floor.gateway.children().values())
        floor.gateway.process.end(signal.SIGKILL if how == "killed whole" else signal.SIGTERM)
        wait_until(lambda: all(map(gone, pids)), "every process of the gateway is gone")
        crowd.wait(lambda: len(crowd.ended()) == 3)
        after = again(new_gateway, floor, 2)
        same = Caller(after.gateway, one.name, one.key)
        assert in_flight(same) == 0
        after.is_free(same)


def test_killed_workers_places_are_free_and_no_others(new_gateway: New, tmp_path: Path) -> None:
    with Holding() as upstream:
        floor, one, crowd = held(new_gateway, tmp_path, upstream, workers=WORKERS)
        for number in range(WORKERS):
            kill_and_check(floor, one, crowd, f"worker-{number + 1}")
        assert len(crowd.ended()) == 3, "each worker was killed"
        floor.is_free(one)


def kill_and_check(floor: Floor, one: Caller, crowd: Crowd, name: str) -> None:
    """Kill a worker. Exactly the places of the calls that it served are given to others."""
    upstream = floor.upstream
    pid = floor.gateway.children()[name]
    os.kill(pid, signal.SIGKILL)
    # The kernel has closed its connections when it has been reaped.
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the worker is dead")
    died = time.monotonic()
    crowd.look()
    left = 3 - len(crowd.ended())
    wait_until(lambda: in_flight(one) == left, "its places are free, and no others")
    assert time.monotonic() - died < WITHIN_S
    more = floor.crowd([to_model(one.key)] * 12)
    upstream.wait(3)
    more.wait_ended(12 - (3 - left))
    more.leave()
    upstream.wait(left)
    wait_until(lambda: in_flight(one) == left, "the others have left")
    floor.gateway.wait_event("ready", child=name)


def test_kills_in_a_storm_leave_no_place_taken(new_gateway: New, tmp_path: Path) -> None:
    with Holding() as upstream:
        floor, one, crowd = held(new_gateway, tmp_path, upstream, workers=WORKERS)
        floor.empty(crowd)
        for number in range(12):
            name = f"worker-{number % WORKERS + 1}"
            crowd = floor.crowd([to_model(one.key, stream=bool(n % 2)) for n in range(20)])
            os.kill(floor.gateway.children()[name], signal.SIGKILL)
            upstream.let_go(20)
            crowd.wait(lambda crowd=crowd: len(crowd.ended()) == 20)  # type: ignore[misc]
            assert upstream.most <= 3
            upstream.forget()
            floor.gateway.wait_event("ready", child=name)
        floor.is_free(one)
