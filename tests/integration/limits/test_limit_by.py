"""Each `limit_by`, by 64 clients on 4 workers at once: exactly the limit passes for each identity, and the headers add up.

The window is a year, so it does not end during a test. Each admitted call sees the remaining amount; no two calls may see the same
one, because each took one.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2 as httpx
import pytest

from tests.support.load import Client, Headers
from tests.support.processes import Gateway, start_gateway

LIMIT = 300
CLIENTS = 64
KEYS = {name: f"a-key-that-is-only-used-in-tests-{name}" for name in ("alice-1", "alice-2", "bob")}


@dataclass(frozen=True)
class Sender:
    """Calls that look like this; those of one `identity` share a counter."""

    identity: str
    path: str = "/get"
    key: str | None = "alice-1"
    tenant: str | None = None
    address: str | None = None

    def message(self, prefix: str) -> bytes:
        lines = [f"GET {prefix}{self.path} HTTP/1.1", "Host: test"]
        lines += [f"apikey: {KEYS[self.key]}"] if self.key else []
        lines += [f"X-Tenant: {self.tenant}"] if self.tenant else []
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Case:
    """A plugin's config and the senders that show whose calls it counts together. `keyed`: the service asks for keys."""

    config: dict[str, str]
    senders: list[Sender]
    keyed: bool = True
    scope: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scope", self.config["limit_by"])


HOME, ELSEWHERE = "127.0.0.2", "127.0.0.3"

CASES = {
    "consumer": Case(
        {"limit_by": "consumer"},
        [Sender("alice"), Sender("alice", key="alice-2", address=ELSEWHERE), Sender("bob", key="bob")],
    ),
    "credential": Case(
        {"limit_by": "credential"},
        [Sender("first key"), Sender("second key", key="alice-2"), Sender("bob", key="bob")],
    ),
    "ip": Case(
        {"limit_by": "ip"},
        [
            Sender("home", address=HOME),
            Sender("home", key="bob", address=HOME),
            Sender("elsewhere", address=ELSEWHERE),
        ],
    ),
    "header": Case(
        {"limit_by": "header", "header_name": "X-Tenant"},
        [
            Sender("red", tenant="red", address=HOME),
            Sender("red", tenant="red", address=ELSEWHERE),
            Sender("blue", tenant="blue", address=HOME),
            Sender("no header: the address", address=HOME),
        ],
    ),
    "path": Case(
        {"limit_by": "path", "path": "PREFIX/get"},
        [
            Sender("the path", address=HOME),
            Sender("the path", address=ELSEWHERE, key="bob"),
            Sender("another path: the address", "/headers", address=HOME),
        ],
    ),
    "service": Case(
        {"limit_by": "service"},
        [Sender("all"), Sender("all", key="bob", address=ELSEWHERE), Sender("all", "/headers")],
    ),
    "consumer without one": Case(
        {"limit_by": "consumer"},
        [Sender("home", key=None, address=HOME), Sender("elsewhere", key=None, address=ELSEWHERE)],
        keyed=False,
    ),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = start_gateway(tmp_path_factory.mktemp("limits") / "data", "--drain-timeout", "2", workers=4)
    for consumer in ("alice", "bob"):
        running.make("/consumers", username=consumer)
    for name, key in KEYS.items():
        running.make(f"/consumers/{name.partition('-')[0]}/key-auth", key=key)
    yield running
    running.process.end()


async def hammer(gateway: Gateway, case: Case, prefix: str, each: int) -> dict[str, list[tuple[int, Headers]]]:
    """`each` calls of every sender, mixed, from all clients at once; the answers by identity."""
    answers: dict[str, list[tuple[int, Headers]]] = {sender.identity: [] for sender in case.senders}
    left = {sender: itertools.islice(itertools.repeat(sender.message(prefix)), each) for sender in case.senders}

    async def work(number: int) -> None:
        clients = {sender: Client(gateway.proxy, sender.address) for sender in case.senders}
        turn = case.senders[number % len(case.senders) :] + case.senders[: number % len(case.senders)]
        waiting = True
        while waiting:
            waiting = False
            for sender in turn:
                for message in itertools.islice(left[sender], 1):
                    waiting = True
                    answer = await clients[sender].exchange(message)
                    assert answer is not None, "a connection broke"
                    answers[sender.identity].append(answer)
        for client in clients.values():
            client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(work(number))
    return answers


@pytest.mark.parametrize("kind", CASES)
def test_exactly_the_limit_passes_and_the_headers_add_up(gateway: Gateway, echo: str, kind: str) -> None:
    case = CASES[kind]
    name = kind.replace(" ", "-")
    prefix = f"/{name}"
    gateway.route(echo, prefix, name)
    if case.keyed:
        gateway.make(f"/services/{name}/plugins", name="key-auth")
    config = {key: value.replace("PREFIX", prefix) for key, value in case.config.items()}
    gateway.make(f"/services/{name}/plugins", name="rate-limiting", config={"year": LIMIT, "policy": "local", **config})
    answers = asyncio.run(hammer(gateway, case, prefix, each=LIMIT + 50))
    for identity, got in answers.items():
        senders = sum(sender.identity == identity for sender in case.senders)
        counts = Counter(status for status, _ in got)
        assert counts == {200: LIMIT, 429: senders * (LIMIT + 50) - LIMIT}, identity
        passed = [headers for status, headers in got if status == 200]
        refused = [headers for status, headers in got if status == 429]
        remaining = sorted(int(headers["x-ratelimit-remaining-year"]) for headers in passed)
        assert remaining == list(range(LIMIT)), identity  # each was told its own place
        for headers in (*passed, *refused):
            assert headers["x-ratelimit-limit-year"] == headers["ratelimit-limit"] == str(LIMIT)
            assert headers["ratelimit-remaining"] == headers["x-ratelimit-remaining-year"]
            assert 0 < int(headers["ratelimit-reset"]) <= 366 * 86_400
        for headers in refused:
            assert headers["x-ratelimit-remaining-year"] == "0"
            assert headers["retry-after"] == headers["ratelimit-reset"]
            assert ("x-should-retry" in headers) == (int(headers["retry-after"]) > 60)
            assert headers["x-aigw-limit"] == f"{LIMIT} requests per year"
            assert headers["x-aigw-scope"] == case.scope
        ends = {headers["x-aigw-reset"] for headers in refused}
        assert len(ends) == 1  # one window, whichever worker tells of it
        for headers in passed:
            assert not {"retry-after", "x-aigw-limit", "x-aigw-scope", "x-aigw-reset"} & set(headers)


def test_a_plugin_that_hides_its_limits_tells_nothing_of_them(gateway: Gateway, echo: str) -> None:
    """Of a tier's own limits only when that refuses; of the plugin's neither when it lets pass nor when it refuses."""
    tier = {"limits": [{"requests": 2, "per": "year"}]}
    assert httpx.put(f"{gateway.admin}/tiers/small", json=tier, trust_env=False).is_success
    gateway.make("/consumers", username="eve")
    gateway.make("/consumers/eve/key-auth", key="a-key-that-is-only-used-in-tests-eve")
    gateway.make("/consumers/eve/consumer_groups", group="small")
    for name, hides in (("hidden", True), ("shown", False)):
        gateway.route(echo, f"/{name}", name)
        gateway.make(f"/services/{name}/plugins", name="key-auth")
        config = {"year": 1, "policy": "local", "hide_client_headers": hides, "error_message": "no more"}
        gateway.make(f"/services/{name}/plugins", name="rate-limiting", config=config)

    def call(name: str, key: str) -> httpx.Response:
        return httpx.get(f"{gateway.proxy}/{name}/get", headers={"apikey": key}, trust_env=False)

    def told(answer: httpx.Response) -> set[str]:
        about = ("ratelimit", "x-ratelimit", "retry-after", "x-should-retry", "x-aigw")
        return {name for name in answer.headers if name.startswith(about)}

    key = KEYS["bob"]  # of no tier
    passed, refused = call("hidden", key), call("hidden", key)
    assert (passed.status_code, refused.status_code) == (200, 429)
    assert (told(passed), told(refused)) == (set(), set()) and refused.json()["message"] == "no more"
    assert {"retry-after", "x-aigw-limit", "x-ratelimit-limit-year"} <= told([call("shown", key) for _ in "12"][1])
    key = "a-key-that-is-only-used-in-tests-eve"
    passed, refused = call("hidden", key), call("hidden", key)
    assert (passed.status_code, passed.headers["x-ratelimit-limit-year"]) == (200, "2")
    assert (refused.status_code, told(refused)) == (429, set())
    assert call("shown", key).status_code == 200  # the tier's last
    by_tier = call("hidden", key)
    assert by_tier.status_code == 429 and by_tier.headers["x-aigw-tier"] == "small"


def test_nothing_failed_inside_and_nothing_is_held(gateway: Gateway) -> None:
    page = httpx.get(gateway.admin + "/metrics", trust_env=False).text
    assert "aigw_panics_total 0\n" in page
    assert {line.rpartition(" ")[2] for line in page.splitlines() if line.startswith("aigw_in_flight{")} == {"0"}
