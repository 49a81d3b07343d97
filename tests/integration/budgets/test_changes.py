"""Limits that change while a stream runs: its next tokens go by the limits in force, its price by those of its admission."""

import itertools
import json
import threading
from collections.abc import Callable

import httpx2 as httpx
import pytest

from tests.integration.budgets.conftest import HEAD, PRICE, Lab, event
from tests.support.ends import Wire, connect, message, read_to_end, read_until
from tests.support.processes import PATIENCE_S
from tests.support.surface import Caller, Json, caller, chat, is_error

HI = 9
"""Tokens of the input of `chat()`, by the model's vocabulary."""
TOKEN = event({"choices": [{"index": 0, "delta": {"content": " a"}}]})
_numbers = itertools.count(1)


class Tier:
    """A tier with limits that change, and a caller in it."""

    def __init__(self, lab: Lab, *limits: Json) -> None:
        self.name = f"changing-{next(_numbers)}"
        self._url = f"{lab.gateway.admin}/tiers/{self.name}"
        self.put(*limits)
        self.caller: Caller = caller(lab.gateway, self.name)

    def put(self, *limits: Json, price: Json = PRICE) -> None:
        """Its limits from now on."""
        answer = httpx.put(self._url, json={"limits": list(limits), "price": price}, trust_env=False)
        assert answer.status_code == 200, answer.text


def settled(one: Caller) -> list[Json]:
    """The rows of a caller's limits, when nothing is reserved."""
    one.used()
    return one.limits()


def per_year(tokens: int) -> Json:
    return {"tokens": tokens, "per": "year"}


def stream(lab: Lab, tier: Tier, *limits: Json, tokens: int, price: Json = PRICE) -> bytes:
    """A stream of so many tokens, after whose first one the tier gets other limits."""
    return stream_around(lab, tier, lambda: tier.put(*limits, price=price), tokens)


def stream_around(lab: Lab, tier: Tier, change: Callable[[], None], tokens: int) -> bytes:
    """A stream of so many tokens, after whose first one `change` is made."""
    changed = threading.Event()

    def act(wire: Wire) -> None:
        wire.send(HEAD + TOKEN)
        assert changed.wait(PATIENCE_S)
        wire.send(TOKEN * (tokens - 1))
        wire.send(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"0\r\n\r\n")

    lab.act = act
    with connect(lab.gateway.proxy) as client:
        body = json.dumps(chat("scripted-endless", stream=True)).encode()
        client.sendall(message("POST", "/v1/chat/completions", tier.caller.bearer, body=body))
        got = read_until(client, b'" a"')
        change()
        changed.set()
        return got + read_to_end(client)


@pytest.mark.parametrize("lowered", [1, 100, 600])
def test_lowered_limit_ends_a_stream(lab: Lab, lowered: int) -> None:
    tier = Tier(lab, per_year(100_000))
    got = stream(lab, tier, per_year(lowered), tokens=800)
    # The 256 tokens that were reserved before pass.
    passed = max(256, lowered - HI)
    assert got.count(b'" a"') == passed
    assert b"budget_exhausted" in got and f"your limit of {lowered} tokens per year".encode() in got
    assert tier.caller.used() == [HI + passed]


@pytest.mark.parametrize("limits", [[per_year(5000)], [], [{"output_tokens": 1, "per": "year"}]])
def test_raised_and_removed_and_new_limits_let_a_stream_pass(lab: Lab, limits: list[Json]) -> None:
    tier = Tier(lab, per_year(300))
    got = stream(lab, tier, *limits, tokens=800)
    assert got.count(b'" a"') == 800 and b"budget_exhausted" not in got
    tier.put(per_year(5000))
    assert tier.caller.used() == [HI + 800]


def test_price_of_a_stream_is_that_of_its_admission(lab: Lab) -> None:
    tier = Tier(lab, {"spend": 1, "per": "year"})
    # 1,000,000 for the request, 4,500 for the input, 1,000 for each token: 395 of them fit.
    got = stream(lab, tier, {"spend": 0.0014, "per": "year"}, tokens=800, price={**PRICE, "output": 50})
    assert got.count(b'" a"') == 395
    assert tier.caller.used() == [1_000_000 + HI * 500 + 395 * 1000]


def test_deleted_limit_of_a_model_leaves_the_consumers_in_force(lab: Lab) -> None:
    of_model = {"tokens": 300, "per": "year", "scope": "model"}
    tier = Tier(lab, per_year(500), of_model)
    got = stream(lab, tier, per_year(500), tokens=800)
    assert HI + got.count(b'" a"') == 500
    assert b"your limit of 500 tokens per year" in got
    assert tier.caller.used() == [500]
    # Its counter has the stream's tokens, and refuses when the limit is back.
    tier.put(per_year(1000), of_model)
    rows = {(row["scope"], row["model"]): (row["used"], row["reserved"]) for row in settled(tier.caller)}
    assert rows["consumer", None] == rows["model", "scripted-endless"] == (500, 0)
    assert is_error(tier.caller.post(chat("scripted-endless")), 429)["aigw"]["scope"] == "model"


@pytest.mark.parametrize("other", [400, 2000])
def test_stream_of_a_consumer_that_moves_keeps_the_limits_of_its_admission(lab: Lab, other: int) -> None:
    tier, new = Tier(lab, per_year(700)), Tier(lab, per_year(other))
    got = stream_around(lab, tier, lambda: tier.caller.join(new.name), tokens=800)
    assert HI + got.count(b'" a"') == 700
    assert b"your limit of 700 tokens per year" in got
    # The limits of both tiers have one counter.
    assert [(row["limit"], row["used"], row["reserved"]) for row in settled(tier.caller)] == [(other, 700, 0)]
    assert tier.caller.post(chat("small-chat", max_tokens=20)).status_code == (200 if other > 700 else 429)


@pytest.mark.parametrize(
    ("rate", "burst", "passed"), [(72, 300, 300 - HI), (72, 200, 256), (144, 600, 600 - HI), (36, 700, 700 - HI)]
)
def test_stream_takes_from_the_bucket_in_force(lab: Lab, rate: int, burst: int, passed: int) -> None:
    # A token comes back in 10 minutes or more: the test sees no refill.
    tier = Tier(lab, {"tokens": 72, "per": "day", "burst": 600})
    got = stream(lab, tier, {"tokens": rate, "per": "day", "burst": burst}, tokens=800)
    assert got.count(b'" a"') == passed and b"budget_exhausted" in got
    (row,) = settled(tier.caller)
    assert (row["limit"], row["used"], row["reserved"]) == (burst, HI + passed, 0)
