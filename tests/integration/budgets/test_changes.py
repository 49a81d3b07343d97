"""Limits that change while a stream runs: its next tokens go by the limits in force, its price by those of its admission."""

import itertools
import json
import threading

import httpx2 as httpx
import pytest

from tests.integration.budgets.conftest import HEAD, PRICE, Lab, event
from tests.support.ends import Wire, connect, message, read_to_end, read_until
from tests.support.processes import PATIENCE_S
from tests.support.surface import Caller, Json, caller, chat

HI = 9
"""Tokens of the input of `chat()`, by the model's vocabulary."""
TOKEN = event({"choices": [{"index": 0, "delta": {"content": " a"}}]})
_numbers = itertools.count(1)


class Tier:
    """A tier with limits that change, and a caller in it."""

    def __init__(self, lab: Lab, *limits: Json) -> None:
        self._url = f"{lab.gateway.admin}/tiers/changing-{next(_numbers)}"
        self.put(*limits)
        self.caller: Caller = caller(lab.gateway, self._url.rpartition("/")[2])

    def put(self, *limits: Json, price: Json = PRICE) -> None:
        """Its limits from now on."""
        answer = httpx.put(self._url, json={"limits": list(limits), "price": price}, trust_env=False)
        assert answer.status_code == 200, answer.text


def per_year(tokens: int) -> Json:
    return {"tokens": tokens, "per": "year"}


def stream(lab: Lab, tier: Tier, *limits: Json, tokens: int, price: Json = PRICE) -> bytes:
    """A stream of so many tokens, after whose first one the tier gets other limits."""
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
        tier.put(*limits, price=price)
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
