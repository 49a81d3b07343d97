"""Several targets behind one service: shares, failover, passive health, and limits of consumer groups, through a running gateway."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.processes import Gateway, start_gateway, wait_until
from tests.support.wire import Message, Upstream, upstream

FAILING: set[int] = set()
"""Numbers of the upstreams that answer 503 now."""


HELD = threading.Event()
"""Set: upstreams answer at once below `/least`, too."""
HELD_AT: list[int] = []
"""The upstreams that got the requests below `/least`."""


def answering(number: int) -> object:
    def answer(request: Message) -> bytes:
        if request.one("x-forwarded-path") == "/least":
            HELD_AT.append(number)
            HELD.wait(20)
        status = b"503 Service Unavailable" if number in FAILING else b"200 OK"
        return b"HTTP/1.1 %s\r\nX-Target: %d\r\nContent-Length: 0\r\n\r\n" % (status, number)

    return answer


@pytest.fixture(scope="module")
def targets() -> Iterator[list[Upstream]]:
    with ExitStack() as stack:
        yield [stack.enter_context(upstream(answering(number))) for number in range(3)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = start_gateway(tmp_path_factory.mktemp("targets") / "data", "--workers", "1")
    try:
        yield gateway
    finally:
        gateway.process.end()


def place(one: Upstream) -> str:
    return one.url.removeprefix("http://")


def service(gate: Gateway, name: str, weights: dict[str, int], **settings: object) -> None:
    """An upstream, its targets, a service and a route, all of this name."""
    gate.make("/upstreams", name=name, **settings)
    for target, weight in weights.items():
        gate.make(f"/upstreams/{name}/targets", target=target, weight=weight)
    gate.make("/services", name=name, host=name)
    gate.make(f"/services/{name}/routes", name=name, paths=[f"/{name}"])


def answers(gate: Gateway, path: str, times: int, **headers: str) -> Counter[str]:
    """How many answers each target gave; a status that is no success by its number."""
    found: Counter[str] = Counter()
    with httpx.Client(base_url=gate.proxy, trust_env=False) as client:
        for _ in range(times):
            answer = client.get(path, headers=headers)
            found[answer.headers["x-target"] if answer.is_success else str(answer.status_code)] += 1
    return found


def test_targets_get_requests_by_their_weight(gate: Gateway, targets: list[Upstream]) -> None:
    one, two, three = map(place, targets)
    service(gate, "shares", {one: 3, two: 1, three: 0})
    found = answers(gate, "/shares", 200)
    assert set(found) == {"0", "1"} and 120 <= found["0"] <= 180, found
    hosts = {request.one("host") for request in targets[0].take()}
    assert hosts == {one}


def test_equal_parts_of_requests_go_to_one_target(gate: Gateway, targets: list[Upstream]) -> None:
    weights = dict.fromkeys(map(place, targets), 1)
    service(gate, "hashed", weights, algorithm="consistent-hashing", hash_on="header", hash_on_header="X-Team")
    found = [answers(gate, "/hashed", 5, **{"x-team": str(team)}) for team in range(12)]
    assert all(len(one) == 1 for one in found), found
    assert len({target for one in found for target in one}) == 3


def test_the_target_with_the_fewest_calls_gets_the_next(gate: Gateway, targets: list[Upstream]) -> None:
    service(gate, "least", dict.fromkeys(map(place, targets), 1), algorithm="least-connections")
    HELD.clear()
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(answers, gate, "/least", 1) for _ in range(6)]
        try:
            wait_until(lambda: len(HELD_AT) == 6, "six calls in flight")
            assert Counter(HELD_AT) == {0: 2, 1: 2, 2: 2}
        finally:
            HELD.set()
        assert sum((call.result() for call in calls), Counter()).total() == 6


def test_a_target_without_a_server_is_followed_by_the_next(gate: Gateway, targets: list[Upstream]) -> None:
    with upstream() as gone:
        dead = place(gone)
    service(gate, "followed", {dead: 5, place(targets[0]): 1})
    assert answers(gate, "/followed", 30) == {"0": 30}
    rows = httpx.get(f"{gate.admin}/upstreams/followed/health", trust_env=False).json()["data"]
    assert {row["health"] for row in rows} == {"HEALTHCHECKS_OFF"}
    checks = {"passive": {"unhealthy": {"tcp_failures": 1}}}
    httpx.patch(f"{gate.admin}/upstreams/followed", json={"healthchecks": checks}, trust_env=False).raise_for_status()
    rows = httpx.get(f"{gate.admin}/upstreams/followed/health", trust_env=False).json()["data"]
    assert {row["target"]: row["health"] for row in rows} == {dead: "UNHEALTHY", place(targets[0]): "HEALTHY"}


def test_failures_take_a_target_out_until_ten_seconds_have_passed(gate: Gateway, targets: list[Upstream]) -> None:
    checks = {"passive": {"unhealthy": {"http_failures": 2, "http_statuses": [503]}}}
    service(gate, "passive", dict.fromkeys(map(place, targets[:2]), 1), healthchecks=checks)
    FAILING.add(0)
    try:
        found = answers(gate, "/passive", 60)
    finally:
        FAILING.clear()
    assert found == {"503": 2, "1": 58}


def test_an_upstream_without_targets_is_named_in_the_refusal(gate: Gateway) -> None:
    service(gate, "empty", {})
    answer = httpx.get(f"{gate.proxy}/empty", trust_env=False)
    assert (answer.status_code, answer.json()["message"]) == (503, "failure to get a peer from the ring-balancer")


def test_plugins_on_a_group_limit_its_consumers_on_routes(
    gate: Gateway, targets: list[Upstream], tmp_path: Path
) -> None:
    service(gate, "limited", {place(targets[0]): 1})
    gate.make("/consumer_groups", name="gold")
    gate.make("/consumer_groups/gold/plugins", name="rate-limiting", config={"hour": 3})
    size = {"allowed_payload_size": 10, "size_unit": "bytes"}
    gate.make("/consumer_groups/gold/plugins", name="request-size-limiting", config=size)
    gate.make("/consumers", username="bob")
    gate.make("/consumer_groups/gold/consumers", consumer="bob")
    gate.make("/consumers/bob/key-auth", key="bobs-key")
    gate.make("/routes/limited/plugins", name="key-auth")
    assert answers(gate, "/limited", 5, apikey="bobs-key") == {"0": 3, "429": 2}
    large = httpx.post(f"{gate.proxy}/limited", headers={"apikey": "bobs-key"}, content=b"x" * 11, trust_env=False)
    assert large.status_code == 413
