"""The tokens and the price of a call: in the headers of a plain answer, next to the usage of a stream, in the access log."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Gateway, wait_until
from tests.support.surface import Json, caller, chat, events, start_configured

PRICE = {"input": 0.5, "cached_input": 0.25, "output": 1, "request": 0.001}


@pytest.fixture(scope="module")
def gateway(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("bills")
    model = {"upstreams": [{"url": mock_llm + "/v1", "model": "mock-small"}], "max_output_tokens": 64}
    tiers: Json = {"priced": {"price": PRICE}, "free": {}}
    configuration = {"models": {"small-chat": model}, "tiers": tiers}
    gateway = start_configured(folder / "data", configuration, "--access-log", str(folder / "log"), workers=1)
    yield gateway
    gateway.process.end()


def logged(gateway: Gateway, request_id: str) -> Json:
    """The line of a request in the access log."""
    log: Path = gateway.data.parent / "log"

    def found() -> list[Json]:
        whole = log.read_text().rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["request_id"] == request_id]

    wait_until(lambda: bool(found()), "the call is logged")
    return found()[0]


def told(usage: Json) -> tuple[Json, int]:
    """The tokens by class of a usage of the mock, and their price in nano-dollars."""
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    reasoning = usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
    fresh, seen = usage["prompt_tokens"] - cached, usage["completion_tokens"] - reasoning
    tokens = {"input": fresh, "cached_input": cached, "cache_write": 0, "output": seen, "reasoning": reasoning}
    return tokens, 500 * fresh + 250 * cached + 1000 * (seen + reasoning) + 1_000_000


def test_plain_answer_shows_tokens_and_price(gateway: Gateway) -> None:
    answer = caller(gateway, "priced").post(chat())
    tokens, price = told(answer.json()["usage"])
    assert answer.headers["x-aigw-tokens"] == ", ".join(f"{name}={count}" for name, count in tokens.items())
    assert round(float(answer.headers["x-aigw-price"]) * 1e9) == price
    line = logged(gateway, answer.headers["x-request-id"])
    assert (line["input_tokens"], line["output_tokens"], line["price_nanodollars"]) == (
        tokens["input"],
        tokens["output"],
        price,
    )


def test_tier_without_price_shows_no_price(gateway: Gateway) -> None:
    answer = caller(gateway, "free").post(chat())
    assert "x-aigw-tokens" in answer.headers
    assert "x-aigw-price" not in answer.headers
    assert "price_nanodollars" not in logged(gateway, answer.headers["x-request-id"])


def test_stream_shows_price_next_to_usage_that_was_asked_for(gateway: Gateway) -> None:
    one = caller(gateway, "priced")
    answer = one.post(chat(stream=True, stream_options={"include_usage": True}))
    assert "x-aigw-tokens" not in answer.headers
    chunks = [event for event in events(answer.content) if isinstance(event, dict)]
    (last,) = [chunk for chunk in chunks if chunk.get("usage")]
    tokens, price = told(last["usage"])
    assert last["aigw"] == {"price_nanodollars": price, "tokens": tokens}
    assert [chunk for chunk in chunks if "aigw" in chunk] == [last]
    assert b'"aigw"' not in one.post(chat(stream=True)).content


def test_refusal_shows_neither_tokens_nor_price(gateway: Gateway) -> None:
    answer = caller(gateway, "priced").post(chat(model="unknown"))
    assert answer.status_code == 404
    assert not {"x-aigw-tokens", "x-aigw-price"} & set(answer.headers)
