"""OpenAI's own Python client against the gateway: what it gets, what it raises, and how often it asks."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import httpx2 as httpx
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.ends import connect, message, parse, read_to_end
from tests.support.failing import DYING, UNSAFE, Surface
from tests.support.processes import wait_until
from tests.support.surface import Caller, Json, caller, chat, events, grown, metric, occupy, spend, stats

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
WORDS = " ".join(["token"] * 16)  # the mock's answer
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@dataclass
class Client:
    """The official client as it comes, its caller, and the requests it really made."""

    api: OpenAI
    caller: Caller
    requests: list[httpx.Request] = field(default_factory=list)

    @property
    def attempts(self) -> int:
        return len(self.requests)


New = Callable[..., Client]


@pytest.fixture
def client(surface: Surface) -> Iterator[New]:
    """`client(tier)`: a client with the library's own retries, for a new consumer in this tier."""
    with ExitStack() as stack:

        def new(tier: str | None = "free", key: str | None = None) -> Client:
            who = caller(surface.gateway, tier)
            requests: list[httpx.Request] = []
            http = stack.enter_context(httpx.Client(event_hooks={"request": [requests.append]}, trust_env=False))
            base = surface.gateway.proxy + "/v1"
            api = OpenAI(api_key=key or who.key, base_url=base, http_client=http, timeout=60)  # type: ignore[arg-type]
            return Client(api, who, requests)

        yield new


def test_a_chat(surface: Surface, client: New) -> None:
    one = client()
    before = stats(surface.llm)
    raw = one.api.chat.completions.with_raw_response.create(model="small-chat", messages=HI)
    answer = raw.parse()
    assert answer.choices[0].message.content == WORDS
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert grown(before, surface.llm, "requests", "tokens", "prompt_tokens", "completion_tokens") == [
        1,
        16,
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    ]
    assert raw.headers["x-ratelimit-limit-requests"] == "1000000"
    assert raw.headers["x-ratelimit-remaining-requests"] == "999999"
    assert len(str(raw.request_id)) == 32
    assert (one.attempts, one.caller.used()) == (1, [1])


def test_a_stream_without_usage_has_none(client: New) -> None:
    one = client()
    with one.api.chat.completions.create(model="small-chat", messages=HI, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).strip() == WORDS
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert all(len(chunk.choices) == 1 and "usage" not in chunk.model_fields_set for chunk in chunks)
    assert one.caller.used() == [1]


def test_a_stream_with_usage_ends_with_it(surface: Surface, client: New) -> None:
    one = client()
    before = stats(surface.llm)
    options = {"include_usage": True}
    with one.api.chat.completions.create(
        model="small-chat",
        messages=HI,
        stream=True,
        stream_options=options,  # type: ignore[call-overload]
    ) as stream:
        *chunks, last = stream
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)
    assert last.choices == [] and last.usage is not None
    assert grown(before, surface.llm, "prompt_tokens", "completion_tokens") == [
        last.usage.prompt_tokens,
        last.usage.completion_tokens,
    ]


def test_completions(client: New) -> None:
    one = client()
    answer = one.api.completions.create(model="small-chat", prompt="once", max_tokens=3)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("token token token", "length")
    with one.api.completions.create(model="small-chat", prompt="once", max_tokens=3, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == " token" * 3


def test_embeddings(client: New) -> None:
    one = client()
    answer = one.api.embeddings.create(model="small-chat", input=["a", "b"], encoding_format="float")
    assert answer.data[0].embedding == [0.5, -0.5, 0.5, -0.5]
    assert answer.usage.prompt_tokens > 0
    assert one.caller.used() == [1]


def test_models_are_those_of_the_tier_and_cost_nothing(client: New) -> None:
    one = client()
    listed = [model.id for model in one.api.models.list()]
    failing = {"fail-hang", "fail-reset", "fail-garbage", "fail-midway", "fail-refuse"}
    assert set(listed) == {"small-chat", "slow-chat"} | failing
    shown = one.api.models.retrieve("small-chat")
    assert (shown.id, shown.object, shown.owned_by) == ("small-chat", "model", "aigw")
    for name, raised in (("big-chat", openai.PermissionDeniedError), ("none", openai.NotFoundError)):
        with pytest.raises(raised):
            one.api.models.retrieve(name)
    assert (one.attempts, one.caller.used()) == (4, [0])


def refused(surface: Surface, one: Client, call: Callable[[OpenAI], object], status: int) -> openai.APIStatusError:
    """The error of a call that must fail at the first attempt, reach nobody and count nothing."""
    before = stats(surface.llm)
    seen = metric(surface.gateway, "kong_http_requests_total", code=str(status))
    with pytest.raises(openai.APIStatusError) as raised:
        call(one.api)
    error = raised.value
    assert error.status_code == status
    assert isinstance(error.body, dict) and {"message", "type", "param", "code"} <= error.body.keys()
    assert error.request_id and error.body["aigw"]["request_id"] == error.request_id
    assert one.attempts == 1
    assert metric(surface.gateway, "kong_http_requests_total", code=str(status)) == seen + 1
    assert grown(before, surface.llm, "requests") == [0]
    assert sum(one.caller.used()) == 0
    return error


def test_an_unknown_key_is_told_once(surface: Surface, client: New) -> None:
    one = client(key="sk-nobody-0123456789")
    error = refused(surface, one, lambda api: api.chat.completions.create(model="small-chat", messages=HI), 401)
    assert isinstance(error, openai.AuthenticationError)
    assert (error.type, error.code) == ("invalid_request_error", "invalid_api_key")
    assert error.response.headers["x-should-retry"] == "false"
    assert error.response.headers["www-authenticate"] == "Bearer"


FORBIDDEN: dict[str, tuple[str | None, dict[str, object], str, str | None]] = {
    "a model that the tier does not name": ("free", {"model": "hidden-chat"}, "model_not_allowed", "model"),
    "a feature that the tier lacks": ("free", {"model": "big-chat"}, "feature_not_in_tier", "model"),
    "tools": ("free", {"tools": [TOOL]}, "feature_not_in_tier", "tools"),
    "two choices": ("free", {"n": 2}, "feature_not_in_tier", "n"),
    "no tier": (None, {}, "no_tier", None),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_refusal_names_the_forbidden_field(surface: Surface, client: New, what: str) -> None:
    tier, asked, code, param = FORBIDDEN[what]
    one = client(tier)
    body = {"model": "small-chat", "messages": HI, **asked}
    error = refused(surface, one, lambda api: api.chat.completions.create(**body), 403)  # type: ignore[call-overload]
    assert isinstance(error, openai.PermissionDeniedError)
    assert (error.type, error.code, error.param) == ("permission_error", code, param)


def test_an_unknown_model_is_not_found(surface: Surface, client: New) -> None:
    error = refused(surface, client(), lambda api: api.chat.completions.create(model="smal-chat", messages=HI), 404)
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param) == ("model_not_found", "model")
    assert "smal-chat" in error.message


def test_an_endpoint_that_is_not_there_is_not_found(surface: Surface, client: New) -> None:
    error = refused(surface, client(), lambda api: api.moderations.create(input="x"), 404)
    assert isinstance(error, openai.NotFoundError) and error.code == "unsupported_endpoint"


@pytest.mark.parametrize(
    ("asked", "param"), [({"max_tokens": -2}, "max_tokens"), ({"messages": []}, "messages"), ({"n": 0}, "n")]
)
def test_a_body_that_is_wrong_is_told_once(surface: Surface, client: New, asked: dict[str, object], param: str) -> None:
    body = {"model": "small-chat", "messages": HI, **asked}
    error = refused(surface, client(), lambda api: api.chat.completions.create(**body), 400)  # type: ignore[call-overload]
    assert isinstance(error, openai.BadRequestError)
    assert (error.type, error.param) == ("invalid_request_error", param)


def test_a_body_too_large_for_the_tier_is_told_once(surface: Surface, client: New) -> None:
    large: list[ChatCompletionMessageParam] = [{"role": "user", "content": "x" * 30_000}]
    error = refused(surface, client(), lambda api: api.chat.completions.create(model="small-chat", messages=large), 413)
    assert (error.type, error.code) == ("invalid_request_error", "request_too_large")
    assert "20000 bytes" in error.message


def watch_retries(
    one: Client, monkeypatch: pytest.MonkeyPatch, other: Json
) -> tuple[list[float], list[tuple[int, str | None]]]:
    """The client's own waits in seconds, and status and `retry-after-ms` of each answer, as they come. After its first wait somebody
    else's call (`other`) takes the amount that has come back.
    """
    slept: list[float] = []
    told: list[tuple[int, str | None]] = []
    really = time.sleep

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        really(seconds)
        if len(slept) == 1:
            assert one.caller.post(other).status_code == 200

    monkeypatch.setattr(openai._base_client.time, "sleep", sleep)
    one.api._client.event_hooks["response"] = [lambda r: told.append((r.status_code, r.headers.get("retry-after-ms")))]
    return slept, told


def test_a_burst_is_sat_out_by_the_librarys_own_retries(
    surface: Surface, client: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = client("burst")
    slept, told = watch_retries(one, monkeypatch, chat())
    before = stats(surface.llm)
    denied = metric(surface.gateway, "aigw_tier_denials_total", tier="burst", reason="rate_limited")
    one.api.chat.completions.create(model="small-chat", messages=HI)
    answer = one.api.chat.completions.create(model="small-chat", messages=HI)
    assert answer.choices[0].message.content == WORDS
    (first, _), (second, wait), (third, again), (fourth, _) = told
    assert (first, second, third, fourth) == (200, 429, 429, 200)
    assert slept == [int(wait or 0) / 1000, int(again or 0) / 1000] and max(slept) <= 3  # 2 s, and the spread of a herd
    assert grown(before, surface.llm, "requests") == [3]  # two of the client's, one of somebody else
    assert metric(surface.gateway, "aigw_tier_denials_total", tier="burst", reason="rate_limited") == denied + 2
    assert one.caller.used()[-1] == 3  # of the year's


def test_a_days_quota_is_told_once_with_the_true_wait(surface: Surface, client: New) -> None:
    one = client("daily")
    for _ in range(2):
        one.api.chat.completions.create(model="small-chat", messages=HI)
    before, now = stats(surface.llm), time.time()
    denied = metric(surface.gateway, "aigw_tier_denials_total", tier="daily", reason="insufficient_quota")
    with pytest.raises(openai.RateLimitError) as raised:
        one.api.chat.completions.create(model="small-chat", messages=HI)
    error = raised.value
    assert one.attempts == 3
    assert (error.type, error.code) == ("insufficient_quota", "insufficient_quota")
    headers = error.response.headers
    midnight = (int(now) // 86_400 + 1) * 86_400
    assert midnight - time.time() - 1 <= int(headers["retry-after"]) <= midnight - now + 1
    assert headers["x-should-retry"] == "false" and "retry-after-ms" not in headers
    assert isinstance(error.body, dict) and error.body["aigw"]["reset_at"] == midnight
    assert (error.body["aigw"]["limit"], error.body["aigw"]["used"], error.body["aigw"]["tier"]) == (2, 2, "daily")
    assert metric(surface.gateway, "aigw_tier_denials_total", tier="daily", reason="insufficient_quota") == denied + 1
    assert grown(before, surface.llm, "requests") == [0]
    assert one.caller.used() == [2]


@pytest.mark.parametrize("tier", ["tokens-a-day", "spend-a-month"])
def test_a_spent_budget_is_told_once(surface: Surface, client: New, tier: str) -> None:
    one = client(tier)
    spend(one.caller)
    before = stats(surface.llm)
    for stream in (False, True):
        attempts = one.attempts
        with pytest.raises(openai.RateLimitError) as raised:
            one.api.chat.completions.create(model="small-chat", messages=HI, stream=stream)
        assert (one.attempts - attempts, raised.value.code) == (1, "insufficient_quota")
        headers = raised.value.response.headers
        assert headers["x-should-retry"] == "false" and "retry-after-ms" not in headers
    assert grown(before, surface.llm, "requests") == [0]


def test_a_burst_of_tokens_is_sat_out_by_two_retries(
    surface: Surface, client: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = client("token-burst")
    assert one.caller.post(chat(max_tokens=16)).status_code == 200
    slept, told = watch_retries(one, monkeypatch, chat(max_tokens=16))
    before = stats(surface.llm)
    answer = one.api.chat.completions.create(model="small-chat", messages=HI, max_tokens=16)
    assert answer.choices[0].message.content == WORDS
    (first, wait), (second, again), (third, _) = told
    assert (first, second, third) == (429, 429, 200)
    assert slept == [int(wait or 0) / 1000, int(again or 0) / 1000]
    assert grown(before, surface.llm, "requests") == [2]


def test_a_full_place_is_waited_for(surface: Surface, client: New, monkeypatch: pytest.MonkeyPatch) -> None:
    one = client("one-at-once")
    told: list[tuple[int, str | None]] = []
    slept: list[float] = []
    really = time.sleep
    holder = occupy(one.caller)

    def sleep(seconds: float) -> None:
        """The client's own wait. The other call ends in it."""
        slept.append(seconds)
        monkeypatch.setattr(openai._base_client.time, "sleep", really)
        holder.close()
        wait_until(lambda: one.caller.limits()[0]["used"] == 0, "the place is free")
        really(seconds)

    monkeypatch.setattr(openai._base_client.time, "sleep", sleep)
    one.api._client.event_hooks["response"] = [lambda r: told.append((r.status_code, r.headers.get("retry-after-ms")))]
    answer = one.api.chat.completions.create(model="small-chat", messages=HI)
    assert answer.choices[0].message.content == WORDS
    (first, wait), (second, _) = told
    assert (first, second) == (429, 200)
    assert slept == [int(wait or 0) / 1000] and 0.5 <= slept[0] <= 1


def test_a_client_that_leaves_a_stream_ends_the_upstreams_work(surface: Surface, client: New) -> None:
    one = client("pro")
    before = stats(surface.slow)
    cut = metric(surface.gateway, "aigw_model_requests_total", model="slow-chat", outcome="client_cut")
    stream = one.api.chat.completions.create(model="slow-chat", messages=HI, stream=True)
    assert [next(iter(stream)).choices[0].delta.content for _ in range(3)][1:] == [" token", " token"]
    assert [row["reserved"] for row in one.caller.limits()] == [1]
    stream.close()
    wait_until(lambda: grown(before, surface.slow, "cancelled") == [1], "the upstream's stream is cancelled")
    assert grown(before, surface.slow, "requests", "completed", "in_flight") == [1, 0, 0]
    assert one.caller.used() == [1]  # the upstream had worked for it
    wait_until(
        lambda: (
            metric(surface.gateway, "aigw_model_requests_total", model="slow-chat", outcome="client_cut") == cut + 1
        ),
        "the call is counted as cut by its client",
    )


def test_an_upstream_that_dies_midway_is_an_error_and_no_clean_end(surface: Surface, client: New) -> None:
    one = client("pro")
    asked = surface.asked("fail-midway")
    got = []
    with (
        pytest.raises(openai.APIError) as raised,
        one.api.chat.completions.create(model="fail-midway", messages=HI, stream=True) as stream,
    ):
        got.extend(stream)
    assert [chunk.choices[0].delta.content for chunk in got] == ["half ", "half "]
    assert raised.value.code == "upstream_error" and isinstance(raised.value.body, dict)
    assert (one.attempts, surface.asked("fail-midway")) == (1, asked + 1)
    assert one.caller.used() == [1]

    body = json.dumps(chat("fail-midway", stream=True)).encode()
    with connect(surface.gateway.proxy) as wire:
        wire.sendall(message("POST", "/v1/chat/completions", one.caller.bearer, body=body, close=False))
        answer = parse("POST", read_to_end(wire))
    assert (answer.status, answer.whole) == (200, False)
    *pieces, last = events(answer.body)
    assert len(pieces) == 2 and isinstance(last, dict)
    assert last["error"]["type"] == "server_error" and "[DONE]" not in pieces


def test_a_permit_is_held_until_a_dying_stream_is_dead(surface: Surface, client: New) -> None:
    one = client("pro")
    DYING.clear()
    try:
        stream = one.api.chat.completions.create(model="fail-midway", messages=HI, stream=True)
        next(iter(stream))
        assert [row["reserved"] for row in one.caller.limits()] == [1]
    finally:
        DYING.set()
    with pytest.raises(openai.APIError):
        list(stream)
    stream.close()
    assert one.caller.used() == [1]


@pytest.mark.parametrize("model", UNSAFE)
def test_an_upstream_that_may_have_acted_is_asked_once(surface: Surface, client: New, model: str) -> None:
    tier, status, code = UNSAFE[model]
    one = client(tier)
    asked = surface.asked(model)
    with pytest.raises(openai.InternalServerError) as raised:
        one.api.chat.completions.create(model=model, messages=HI)
    error = raised.value
    assert (error.status_code, error.type, error.code) == (status, "server_error", code)
    assert error.response.headers["x-should-retry"] == "false"
    assert (one.attempts, surface.asked(model)) == (1, asked + 1)
    assert one.caller.used() == [0]  # no answer: nothing is counted


def test_an_upstream_that_refuses_is_asked_again(surface: Surface, client: New) -> None:
    one = client("pro")
    with pytest.raises(openai.InternalServerError) as raised:
        one.api.chat.completions.create(model="fail-refuse", messages=HI)
    error = raised.value
    assert error.status_code in (502, 503)  # 503 once its address is out
    assert (error.type, error.code) == ("server_error", "upstream_error")
    assert "x-should-retry" not in error.response.headers
    assert one.attempts == 3
    assert one.caller.used() == [0]


async def test_many_at_once(surface: Surface) -> None:
    who = caller(surface.gateway, "pro")
    before = stats(surface.llm)
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        openai.AsyncOpenAI(api_key=who.key, base_url=surface.gateway.proxy + "/v1", http_client=http) as api,  # type: ignore[arg-type]
    ):
        import asyncio

        async def one(n: int) -> str:
            stream = await api.chat.completions.create(model="small-chat", messages=HI, max_tokens=n + 1, stream=True)
            async with stream:
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        said = await asyncio.gather(*(one(n) for n in range(50)))
    assert said == [" token" * min(n + 1, 16) for n in range(50)]
    assert grown(before, surface.llm, "requests", "streams", "completed") == [50, 50, 50]
    assert who.used() == [50]
