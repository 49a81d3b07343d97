"""Budgets of tokens and money of calls of models: reserved before the call, settled by its usage, refused where it does not fit."""

import re
import threading
from typing import Any

import httpx2 as httpx
import pytest

from tests.integration.budgets.conftest import PRICE, Lab, document
from tests.support.ends import Wire
from tests.support.processes import PATIENCE_S, wait_until
from tests.support.surface import Caller, Json, chat, is_error

HI = 9
"""Tokens of the input of `chat()`: the role, one word, 4 for the message, 3 for the request."""
AMPLE = 13
"""The bound of the same by its bytes, where a budget is ample."""


def row(one: Caller, meter: str) -> Json:
    """The standing of the caller's limit on this meter."""
    (found,) = [limit for limit in one.limits() if limit["meter"] == meter]
    return found


class Held:
    """An upstream that answers when it is told to, with this usage."""

    def __init__(self, lab: Lab, **usage: Any) -> None:
        self.came, self.go = threading.Event(), threading.Event()

        def act(wire: Wire) -> None:
            self.came.set()
            assert self.go.wait(PATIENCE_S)
            wire.send(document({"choices": [], "usage": usage}))

        lab.act = act

    def call(self, one: Caller, body: Json) -> threading.Thread:
        """Make a call that waits in the upstream."""
        thread = threading.Thread(target=one.post, args=(body,))
        thread.start()
        assert self.came.wait(PATIENCE_S)
        return thread


def test_plain_call_reserves_its_bound_and_settles_to_its_usage(lab: Lab) -> None:
    limits = [
        {"tokens": 1000, "per": "year"},
        {"input_tokens": 500, "per": "year"},
        {"output_tokens": 700, "per": "year"},
    ]
    one = lab.caller(limits=[*limits, {"spend": 1, "per": "year"}], price=PRICE)
    held = Held(lab, prompt_tokens=7, completion_tokens=20)
    call = held.call(one, chat("scripted", max_tokens=50, n=2))
    reserved = {"tokens": AMPLE + 100, "input_tokens": AMPLE, "output_tokens": 100}
    reserved["spend"] = 1_000_000 + AMPLE * 500 + 100 * 1000
    for meter, amount in reserved.items():
        found = row(one, meter)
        assert (found["used"], found["reserved"]) == (0, amount), found
        assert found["remaining"] == found["limit"] - amount
    held.go.set()
    call.join()
    wait_until(lambda: row(one, "tokens")["reserved"] == 0, "the call is settled")
    used = {"tokens": 27, "input_tokens": 7, "output_tokens": 20, "spend": 1_000_000 + 7 * 500 + 20 * 1000}
    own = {limit["meter"]: limit for limit in one.get("/v1/limits").json()["data"]}
    for meter, amount in used.items():
        found = row(one, meter)
        assert (found["used"], found["reserved"], found["remaining"]) == (amount, 0, found["limit"] - amount)
        assert own[meter] == found


def test_settled_call_leaves_the_mocks_usage_in_every_meter(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 1000, "per": "year"}, {"spend": 1, "per": "year"}], price=PRICE)
    answer = one.post(chat(max_tokens=5))
    usage = answer.json()["usage"]
    assert usage["completion_tokens"] == 5
    assert sorted(one.used()) == [6, 1_000_000 + 500 + 5 * 1000]
    assert answer.headers["x-aigw-price"] == "0.0010055"
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - 6)
    assert answer.headers["x-aigw-remaining-spend"] == f"{1 - (1_000_000 + 500 + 5000) / 1e9:.9f}".rstrip("0")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", None])
def test_cap_sent_upstream_is_the_grant_of_the_budget(lab: Lab, name: str | None) -> None:
    one = lab.caller(limits=[{"tokens": 100, "per": "year"}])
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 2}}))
    for used in (0, 10, 20):
        assert one.post(chat("scripted", **({name: 5000} if name else {}))).status_code == 200
        sent = lab.sent()
        caps = {key: sent[key] for key in ("max_tokens", "max_completion_tokens") if key in sent}
        assert list(caps.values()) == [100 - used - HI], caps
        assert name is None or name in caps
        assert one.used() == [used + 10]


def test_grant_of_a_budget_is_shared_by_the_choices(lab: Lab) -> None:
    one = lab.caller(limits=[{"output_tokens": 100, "per": "year"}])
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 90}}))
    assert one.post(chat("uncapped", n=3)).status_code == 200
    assert lab.sent()["max_tokens" if "max_tokens" in lab.sent() else "max_completion_tokens"] == 33


@pytest.mark.parametrize(
    ("limit", "needs"),
    [
        ({"tokens": 60, "per": "year"}, 59),
        ({"input_tokens": 60, "per": "year"}, 60),
        ({"spend": 0.002, "per": "month"}, 1_000_000 + 58 * 500 + 1000),
    ],
)
def test_call_that_does_not_fit_is_told_its_need_and_the_rest(lab: Lab, limit: Json, needs: int) -> None:
    one = lab.caller(limits=[limit], price=PRICE)
    assert one.post(chat(max_tokens=16)).status_code == 200
    (used,) = one.used()
    words = 52 if "input_tokens" in limit else 50
    answer = one.post({"model": "small-chat", "messages": [{"role": "user", "content": " a" * words}]})
    error = is_error(answer, 429)
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    facts = error["aigw"]
    assert (facts["left"], facts["used"]) == (facts["limit"] - used, used)
    assert facts["needs"] == needs > facts["left"] and not facts["retryable"]
    assert "This call needs up to" in error["message"] and "can be taken now" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert one.used() == [used]


def test_spent_budget_of_a_minute_is_a_rate_limit(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 25, "per": "59m"}])
    assert one.post(chat(max_tokens=16)).status_code == 200
    error = is_error(one.post(chat(max_tokens=16)), 429) if one.used() == [25] else None
    assert error is None or (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")


def test_call_that_can_never_fit_asks_for_no_retry(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 20, "per": "year"}])
    answer = one.post({"model": "small-chat", "messages": [{"role": "user", "content": " a" * 50}]})
    error = is_error(answer, 429)
    assert error["aigw"]["reason"] == "above_limit" and error["aigw"]["needs"] == 59
    assert "send a shorter prompt" in error["message"]
    assert answer.headers["x-should-retry"] == "false" and "retry-after" not in answer.headers
    assert one.used() == [0]


def test_limit_of_zero_lets_none_pass(lab: Lab) -> None:
    for limit in ({"tokens": 0, "per": "year"}, {"spend": 0, "per": "year"}):
        is_error(lab.caller(limits=[limit], price=PRICE).post(chat()), 429)


def test_shadow_budget_counts_and_refuses_none(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 30, "per": "year", "mode": "shadow"}])
    assert [one.post(chat(max_tokens=16)).status_code for _ in range(3)] == [200] * 3
    # The second call gets no smaller cap than it asked for, and is settled to its use. The third is one too many.
    assert one.used() == [34]


def test_shadow_budget_counts_as_if_it_refused(lab: Lab) -> None:
    limit = {"tokens": 100, "per": "year"}
    one = lab.caller(limits=[limit | {"mode": "shadow"}])
    other = lab.caller(limits=[limit])
    for _ in range(5):
        # A model without a cap: the limit grants the rest, in shadow mode as well as enforced.
        lab.act = lambda wire: wire.send(
            document({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 20}})
        )
        assert one.post(chat("scripted")).status_code == 200
        assert "max_tokens" not in lab.sent() and "max_completion_tokens" not in lab.sent()
        status = other.post(chat("scripted")).status_code
    assert status == 429
    assert one.used() == other.used()
    page = httpx.get(f"{lab.gateway.admin}/metrics", trust_env=False).text
    reserved = re.findall(r'^aigw_reserved_total\{.*meter="output_tokens"\} (\d+)$', page, re.MULTILINE)
    assert reserved and max(map(int, reserved)) < 2**31


def test_headers_of_a_plain_answer_show_the_budgets_after_it(lab: Lab) -> None:
    limits = [{"tokens": 1000, "per": "year"}, {"output_tokens": 900, "per": "day"}, {"spend": 1, "per": "year"}]
    one = lab.caller(limits=limits, price=PRICE)
    answer = one.post(chat(max_tokens=100))
    one.used()
    left = {row["meter"]: row["remaining"] for row in one.limits()}
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(min(left["tokens"], left["output_tokens"]))
    assert answer.headers["x-ratelimit-limit-tokens"] == "900"
    assert round(float(answer.headers["x-aigw-remaining-spend"]) * 1e9) == left["spend"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_failure_of_the_fleet_gives_everything_back(lab: Lab, status: int) -> None:
    one = lab.caller(limits=[{"tokens": 100, "per": "year"}, {"spend": 1, "per": "year"}], price=PRICE)
    lab.act = lambda wire: wire.send(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)
    assert one.post(chat("scripted")).status_code == status
    assert one.used() == [0, 0]


def test_scopes_count_apart(lab: Lab) -> None:
    one = lab.caller(
        limits=[{"tokens": 100, "per": "year", "scope": "model"}, {"tokens": 100, "per": "year", "scope": "credential"}]
    )
    assert one.post(chat(max_tokens=2)).status_code == 200
    by_model = [row["used"] for row in one.limits() if (row["scope"], row["model"]) == ("model", "small-chat")]
    assert by_model == [3] and sum(limit["used"] for limit in one.limits()) == 6


def test_spent_budget_refuses_no_work_that_it_does_not_count(lab: Lab) -> None:
    one = lab.caller(limits=[{"output_tokens": 20, "per": "year"}, {"requests": 100, "per": "year"}])
    # The second call gets the last 4 tokens.
    assert [one.post(chat(max_tokens=16)).status_code for _ in range(3)] == [200, 200, 429]
    embeddings = {"model": "small-chat", "input": "some text"}
    assert one.post(embeddings, "/v1/embeddings").status_code == 200
    make = lab.gateway.make
    make("/services", name="plain", url=lab.mock)
    route = make("/services/plain/routes", name="plain", paths=["/plain"], strip_path=True)
    make(f"/routes/{route['id']}/plugins", name="key-auth")
    for body in (b"", b"some text"):
        answer = one.post(body, "/plain/v1/chat/completions", apikey=one.key)
        assert answer.status_code != 429, answer.text
    assert sorted(one.used()) == [5, 20]
