"""Four workers in front of an upstream that keeps calls: a model's, and a service's behind a route."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.ends import Answer, message
from tests.support.holding import Crowd, Holding
from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, start_configured

WORKERS = 4
YEAR: Json = {"requests": 1_000_000, "per": "year"}
TIERS: Json = {
    "three": {"limits": [{"concurrency": 3}]},
    "three-a-key": {"limits": [{"concurrency": 3, "scope": "credential"}]},
    "three-a-model": {"limits": [{"concurrency": 3, "scope": "model"}]},
    "several": {
        "limits": [
            {"concurrency": 4},
            {"concurrency": 3, "scope": "credential"},
            {"concurrency": 2, "scope": "model"},
        ]
    },
    "nothing": {"limits": [{"concurrency": 0}]},
    "looking-on": {"limits": [{"concurrency": 2, "mode": "shadow"}, YEAR]},
    "counted": {"limits": [{"concurrency": 3}, YEAR]},
    "spent": {"limits": [{"concurrency": 3}, {"requests": 1, "per": "year"}]},
    "small": {
        "limits": [{"concurrency": 3}, YEAR],
        "prompt": {"max_bytes": 20_000},
        "allow": {"models": ["m*"], "parameters": {"n": 1}},
    },
    "hasty": {"limits": [{"concurrency": 3}], "timeouts": {"first_byte": "300ms", "between": "300ms"}},
    "short": {"limits": [{"concurrency": 3}], "timeouts": {"total": "400ms"}},
}


def configuration(url: str) -> Json:
    """Models and a service at `url`."""
    models = {name: {"upstreams": [{"url": url + "/v1", "model": "m"}]} for name in ("m1", "m2")}
    service = {
        "name": "held",
        "url": url,
        "routes": [{"name": "held", "paths": ["/held"]}],
        "plugins": [{"name": "key-auth"}],
    }
    return {"models": models, "tiers": dict(TIERS), "services": [service]}


@dataclass(frozen=True)
class Floor:
    """A gateway and its upstream."""

    gateway: Gateway
    upstream: Holding

    def caller(self, tier: str) -> Caller:
        """A new consumer in this tier, with a key."""
        return caller(self.gateway, tier)

    def crowd(self, messages: list[bytes]) -> Crowd:
        """Clients that send these calls at the same moment."""
        return Crowd.call(self.gateway.proxy, messages)

    def fill(self, who: Caller, calls: int = 3, **more: object) -> Crowd:
        """Calls that the upstream keeps; waits until they are there."""
        crowd = self.crowd([to_model(who.key, **more)] * calls)
        self.upstream.wait(calls)
        return crowd

    def empty(self, crowd: Crowd) -> None:
        """Let the crowd's calls go, and expect each to succeed."""
        self.upstream.let_go(len(crowd.clients))
        assert {answer.status for answer in crowd.finish()} <= {200}

    def is_free(self, who: Caller, calls: int = 3) -> None:
        """Wait until no place of the caller is taken, then see that so many are free and no more."""
        wait_until(lambda: in_flight(who) == 0, "all places are free")
        self.upstream.forget()
        assert admitted(self, [to_model(who.key)] * (calls + 5), calls) == {429}


def to_model(key: str, model: str = "m1", **more: object) -> bytes:
    """A chat call."""
    body = json.dumps(chat(model, **more)).encode()
    return message("POST", "/v1/chat/completions", f"Authorization: Bearer {key}", body=body)


def to_route(key: str) -> bytes:
    """A call of the service."""
    return message("GET", "/held", f"apikey: {key}")


def in_flight(who: Caller) -> int:
    """The sum over the caller's rows of calls in flight."""
    rows = [row for row in who.limits() if row["meter"] == "concurrency"]
    assert all((row["per"], row["resets_at"], row["reserved"]) == (None, None, 0) for row in rows)
    assert all(row["remaining"] == max(row["limit"] - row["used"], 0) for row in rows)
    found: int = sum(row["used"] for row in rows)
    return found


def admitted(floor: Floor, messages: list[bytes], wanted: int) -> set[int]:
    """Send all calls at once: exactly `wanted` reach the upstream and succeed. Returns the statuses of the others."""
    crowd = floor.crowd(messages)
    others = crowd.wait_ended(len(messages) - wanted)
    floor.upstream.wait(wanted)
    assert (floor.upstream.most, floor.upstream.came) == (wanted, wanted)
    floor.upstream.let_go(wanted)
    crowd.finish()
    assert crowd.statuses()[200] == wanted
    floor.upstream.forget()
    return {answer.status for answer in others}


def refusal(crowd: Crowd) -> Answer:
    """The first answer with 429."""
    return next(client.answer for client in crowd.ended() if client.answer.status == 429)


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """Shared by all tests of this folder: each makes callers of its own."""
    with ExitStack() as stack:
        upstream = stack.enter_context(Holding())
        data = tmp_path_factory.mktemp("concurrency") / "data"
        gateway = start_configured(data, configuration(upstream.url), workers=WORKERS)
        stack.callback(gateway.process.end)
        yield Floor(gateway, upstream)


@pytest.fixture
def floor(running: Floor) -> Floor:
    """The gateway, with no call in flight."""
    running.upstream.forget()
    return running
