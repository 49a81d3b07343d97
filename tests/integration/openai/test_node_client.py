"""OpenAI's own Node client against the gateway: what it gets, what it throws, and how often it asks."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import node
from tests.support.failing import UNSAFE, Surface
from tests.support.processes import wait_until
from tests.support.surface import Caller, Json, caller, chat, grown, metric, occupy, spend, stats

WORDS = " ".join(["token"] * 16)
CHAT = "chat.completions.create"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@dataclass
class Client:
    """The official client, and its caller."""

    home: Path
    caller: Caller
    key: str

    def call(self, what: str, *args: object, **more: object) -> Json:
        plan = {"base": self.caller.gateway.proxy + "/v1", "key": self.key, "call": what, "args": args, **more}
        return node.call(self.home, plan)


New = Callable[..., Client]


@pytest.fixture(scope="module")
def home() -> Path:
    return node.install()


@pytest.fixture
def client(surface: Surface, home: Path) -> New:
    """`client(tier)`: the client with its own retries, for a new consumer in this tier."""

    def new(tier: str | None = "free", key: str | None = None) -> Client:
        who = caller(surface.gateway, tier)
        return Client(home, who, key or who.key)

    return new


def test_a_chat(surface: Surface, client: New) -> None:
    one = client()
    before = stats(surface.llm)
    told = one.call(CHAT, chat())
    assert told["value"]["choices"][0]["message"]["content"] == WORDS
    usage = told["value"]["usage"]
    wanted = [1, usage["prompt_tokens"], usage["completion_tokens"]]
    assert grown(before, surface.llm, "requests", "prompt_tokens", "completion_tokens") == wanted
    assert (told["attempts"], one.caller.used()) == (1, [1])


def test_a_stream_without_usage_has_none(client: New) -> None:
    one = client()
    chunks = one.call(CHAT, chat(stream=True))["chunks"]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks).strip() == WORDS
    assert all(len(chunk["choices"]) == 1 and "usage" not in chunk for chunk in chunks)
    assert one.caller.used() == [1]


def test_a_stream_with_usage_ends_with_it(surface: Surface, client: New) -> None:
    before = stats(surface.llm)
    told = client().call(CHAT, chat(stream=True, stream_options={"include_usage": True}))
    *chunks, last = told["chunks"]
    assert all(len(chunk["choices"]) == 1 and chunk.get("usage") is None for chunk in chunks)
    wanted = [last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]]
    assert last["choices"] == [] and grown(before, surface.llm, "prompt_tokens", "completion_tokens") == wanted


def test_completions(client: New) -> None:
    asked = {"model": "small-chat", "prompt": "once", "max_tokens": 3}
    value = client().call("completions.create", asked)["value"]
    assert (value["choices"][0]["text"], value["choices"][0]["finish_reason"]) == ("token token token", "length")
    chunks = client().call("completions.create", {**asked, "stream": True})["chunks"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == " token" * 3


def test_embeddings(client: New) -> None:
    asked = {"model": "small-chat", "input": "a", "encoding_format": "float"}
    value = client().call("embeddings.create", asked)["value"]
    assert value["data"][0]["embedding"] == [0.5, -0.5, 0.5, -0.5] and value["usage"]["prompt_tokens"] > 0


def test_models_are_those_of_the_tier_and_cost_nothing(client: New) -> None:
    one = client()
    failing = {"fail-hang", "fail-reset", "fail-garbage", "fail-midway", "fail-refuse"}
    assert {model["id"] for model in one.call("models.list")["value"]} == {"small-chat", "slow-chat"} | failing
    assert one.call("models.retrieve", "small-chat")["value"]["object"] == "model"
    assert one.call("models.retrieve", "big-chat")["error"]["class"] == "PermissionDeniedError"
    assert one.call("models.retrieve", "none")["error"]["class"] == "NotFoundError"
    assert one.caller.used() == [0]


REFUSED: dict[str, tuple[str | None, str, Json, int, str, str, str | None]] = {
    "hidden model": ("free", CHAT, chat("hidden-chat"), 403, "PermissionDeniedError", "model_not_allowed", "model"),
    "feature": ("free", CHAT, chat("big-chat"), 403, "PermissionDeniedError", "feature_not_in_tier", "model"),
    "tools": ("free", CHAT, chat(tools=[TOOL]), 403, "PermissionDeniedError", "feature_not_in_tier", "tools"),
    "two choices": ("free", CHAT, chat(n=2), 403, "PermissionDeniedError", "feature_not_in_tier", "n"),
    "no tier": (None, CHAT, chat(), 403, "PermissionDeniedError", "no_tier", None),
    "unknown model": ("free", CHAT, chat("smal-chat"), 404, "NotFoundError", "model_not_found", "model"),
    "endpoint": ("free", "moderations.create", {"input": "x"}, 404, "NotFoundError", "unsupported_endpoint", None),
    "cap": ("free", CHAT, chat(max_tokens=-2), 400, "BadRequestError", "invalid_request", "max_tokens"),
    "messages": (
        "free",
        CHAT,
        {"model": "small-chat", "messages": []},
        400,
        "BadRequestError",
        "invalid_request",
        "messages",
    ),
    "size": ("free", CHAT, chat(user="x" * 30_000), 413, "APIError", "request_too_large", None),
    "key": ("nobody", CHAT, chat(), 401, "AuthenticationError", "invalid_api_key", None),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_told_once(surface: Surface, client: New, what: str) -> None:
    tier, call, asked, status, name, code, param = REFUSED[what]
    one = client("free", key="sk-nobody-0123456789") if tier == "nobody" else client(tier)
    before = stats(surface.llm)
    told = one.call(call, asked)
    error = told["error"]
    assert (error["status"], error["class"], error["code"], error["param"]) == (status, name, code, param)
    assert error["request_id"] == error["body"]["aigw"]["request_id"] == told["answers"][0]["headers"]["x-request-id"]
    assert told["attempts"] == 1
    assert grown(before, surface.llm, "requests") == [0]
    assert sum(one.caller.used()) == 0


def test_a_burst_is_sat_out_by_the_librarys_own_retries(surface: Surface, client: New) -> None:
    one = client("burst")
    before = stats(surface.llm)
    denied = metric(surface.gateway, "aigw_tier_denials_total", tier="burst", reason="rate_limited")
    # Before each of the first two attempts somebody else takes the place that is free.
    told = one.call(CHAT, chat(), beside=chat())
    assert told["value"]["choices"][0]["message"]["content"] == WORDS
    assert [answer["status"] for answer in told["answers"]] == [429, 429, 200]
    waits = [int(answer["headers"]["retry-after-ms"]) for answer in told["answers"][:2]]
    assert [wait for wait in told["waits"] if wait in waits] == waits and max(waits) <= 3000
    assert grown(before, surface.llm, "requests") == [3]
    assert metric(surface.gateway, "aigw_tier_denials_total", tier="burst", reason="rate_limited") == denied + 2


def test_a_days_quota_is_told_once_with_the_true_wait(surface: Surface, client: New) -> None:
    one = client("daily")
    assert [one.caller.post(chat()).status_code for _ in range(2)] == [200, 200]
    before, now = stats(surface.llm), time.time()
    told = one.call(CHAT, chat())
    error, (answer,) = told["error"], told["answers"]
    assert (error["class"], error["type"], error["code"]) == ("RateLimitError", *["insufficient_quota"] * 2)
    midnight = (int(now) // 86_400 + 1) * 86_400
    assert midnight - time.time() - 1 <= int(answer["headers"]["retry-after"]) <= midnight - now + 1
    assert answer["headers"]["x-should-retry"] == "false"
    assert (told["attempts"], grown(before, surface.llm, "requests"), one.caller.used()) == (1, [0], [2])


@pytest.mark.parametrize("tier", ["tokens-a-day", "spend-a-month"])
def test_a_spent_budget_is_told_once(surface: Surface, client: New, tier: str) -> None:
    one = client(tier)
    spend(one.caller)
    before = stats(surface.llm)
    for stream in (False, True):
        told = one.call(CHAT, chat(stream=stream))
        assert (told["attempts"], told["error"]["class"]) == (1, "RateLimitError")
        assert told["error"]["code"] == "insufficient_quota"
        assert told["answers"][0]["headers"]["x-should-retry"] == "false"
    assert grown(before, surface.llm, "requests") == [0]


def test_a_burst_of_tokens_is_sat_out_by_two_retries(surface: Surface, client: New) -> None:
    one = client("token-burst")
    before = stats(surface.llm)
    # Before each of the first two attempts somebody else takes the tokens.
    told = one.call(CHAT, chat(max_tokens=16), beside=chat(max_tokens=16))
    assert told["value"]["choices"][0]["message"]["content"] == WORDS
    assert [answer["status"] for answer in told["answers"]] == [429, 429, 200]
    waits = [int(answer["headers"]["retry-after-ms"]) for answer in told["answers"][:2]]
    assert [wait for wait in told["waits"] if wait in waits] == waits
    assert grown(before, surface.llm, "requests") == [3]


def test_a_full_place_is_waited_for(surface: Surface, client: New) -> None:
    one = client("one-at-once")
    holder = occupy(one.caller)
    reason = {"tier": "one-at-once", "reason": "concurrency_limit_exceeded"}
    denied = metric(surface.gateway, "aigw_tier_denials_total", **reason)
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(one.call, CHAT, chat())
        wait_until(lambda: metric(surface.gateway, "aigw_tier_denials_total", **reason) > denied, "the call is refused")
        holder.close()
        told = calling.result()
    assert told["value"]["choices"][0]["message"]["content"] == WORDS
    *refused, last = [answer["status"] for answer in told["answers"]]
    # On a busy machine the place is free only after the first wait.
    assert refused in ([429], [429, 429]) and last == 200
    waits = [int(answer["headers"]["retry-after-ms"]) for answer in told["answers"][:-1]]
    assert [wait for wait in told["waits"] if wait in waits] == waits
    assert min(waits) >= 500 and max(waits) <= 1_000


def test_a_client_that_leaves_a_stream_ends_the_upstreams_work(surface: Surface, client: New) -> None:
    one = client("pro")
    before = stats(surface.slow)
    told = one.call(CHAT, chat("slow-chat", stream=True), leaveAfter=3)
    assert told["left"] and len(told["chunks"]) == 3
    wait_until(lambda: grown(before, surface.slow, "cancelled") == [1], "the upstream's stream is cancelled")
    assert grown(before, surface.slow, "requests", "completed", "in_flight") == [1, 0, 0]
    assert one.caller.used() == [1]


def test_an_upstream_that_dies_midway_is_an_error_and_no_clean_end(surface: Surface, client: New) -> None:
    one = client("pro")
    asked = surface.asked("fail-midway")
    told = one.call(CHAT, chat("fail-midway", stream=True))
    assert [chunk["choices"][0]["delta"]["content"] for chunk in told["chunks"]] == ["half ", "half "]
    assert told["error"]["api"] and told["error"]["code"] == "upstream_error"
    assert (told["attempts"], surface.asked("fail-midway"), one.caller.used()) == (1, asked + 1, [1])


@pytest.mark.parametrize("model", UNSAFE)
def test_an_upstream_that_may_have_acted_is_asked_once(surface: Surface, client: New, model: str) -> None:
    tier, status, code = UNSAFE[model]
    one = client(tier)
    asked = surface.asked(model)
    told = one.call(CHAT, chat(model))
    error = told["error"]
    assert (error["status"], error["class"], error["code"]) == (status, "InternalServerError", code)
    assert (told["attempts"], surface.asked(model), one.caller.used()) == (1, asked + 1, [0])


def test_an_upstream_that_refuses_is_asked_again(client: New) -> None:
    one = client("pro")
    told = one.call(CHAT, chat("fail-refuse"))
    assert told["error"]["status"] in (502, 503)
    assert (told["attempts"], one.caller.used()) == (3, [0])
