"""Streams under budgets: extended on their way, ended at the boundary in their own form, settled to their use."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.budgets.conftest import HEAD, PRICE, Lab, event, measured
from tests.support.ends import Wire, chunk
from tests.support.processes import PATIENCE_S, wait_until
from tests.support.surface import Json, chat, events, stats

HI = 9
"""Tokens of the input of `chat()`, by the model's vocabulary."""


class Chunks:
    """An upstream that sends one chunk after the other until its connection is cut, and tells then."""

    def __init__(self, lab: Lab, make: Callable[[int], Json]) -> None:
        self.cut = threading.Event()

        def act(wire: Wire) -> None:
            wire.send(HEAD)
            try:
                for number in range(1_000_000):
                    wire.send(event(make(number)))
            except OSError:
                self.cut.set()
                raise

        lab.act = act


def ask(lab: Lab, limits: list[Json], path: str = "/v1/chat/completions", **body: Any) -> tuple[list[Any], list[int]]:
    """The events of a stream of a new caller, and the used amounts after it."""
    one = lab.caller(limits=limits, price=PRICE)
    answer = one.post({**chat(**body), "prompt": "hi", "stream": True}, path)
    assert answer.status_code == 200, answer.text
    return list(events(answer.content)), one.used()


def test_stream_is_extended_over_many_chunks(lab: Lab) -> None:
    many = lab.caller(limits=[{"tokens": 5000, "per": "year"}])
    lab.act = lambda wire: wire.send(
        HEAD
        + b"".join(event({"choices": [{"index": 0, "delta": {"content": " a"}}]}) for _ in range(2000))
        + event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2000}})
        + chunk(b"data: [DONE]\n\n")
        + b"0\r\n\r\n"
    )
    body = many.post(chat(model="scripted", stream=True, stream_options={"include_usage": True})).content
    assert body.count(b'" a"') == 2000 and body.endswith(b"data: [DONE]\n\n")
    assert many.used() == [2003]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("wants_usage", [False, True])
def test_stream_ends_at_the_boundary(lab: Lab, path: str, choices: int, wants_usage: bool) -> None:
    before = stats(lab.endless)
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    limits = [{"tokens": 1000, "per": "year"}]
    found, used = ask(lab, limits, path, model="endless", n=choices, **options)
    chat_ = path.endswith("chat/completions")
    chunks = [one for one in found if isinstance(one, dict)]
    assert found[-1] == "[DONE]" and found.count("[DONE]") == 1
    (last,) = [one for one in chunks if "aigw" in one and one["choices"]]
    tail = chunks[chunks.index(last) + 1 :]
    said = [one["choices"][0] for one in chunks[: chunks.index(last)] if one["choices"]]
    texts = [choice["delta"].get("content") if chat_ else choice["text"] for choice in said]
    passed = sum(bool(text) for text in texts)
    # Each chunk is one token, and a budget is used to its last one.
    assert used == [1000]
    assert passed == 1000 - (HI if chat_ else 1)
    assert sorted(choice["index"] for choice in last["choices"]) == list(range(choices))
    assert {choice["finish_reason"] for choice in last["choices"]} == {"length"}
    assert all(choice["delta"] == {} if chat_ else choice["text"] == "" for choice in last["choices"])
    marks = ("id", "object", "created", "model")
    assert [last[name] for name in marks] == [chunks[0][name] for name in marks]
    assert last["aigw"]["code"] == "budget_exhausted"
    if wants_usage:
        (usage,) = tail
        assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == passed
        assert usage["usage"]["total_tokens"] == 1000
    else:
        assert tail == [] and "usage" not in last
    wait_until(lambda: stats(lab.endless)["cancelled"] == before["cancelled"] + 1, "the upstream call is cancelled")


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "function": {"arguments": " a b c"}}]},
        {"content": None, "reasoning_content": " a b c"},
        {"content": " a b c"},
    ],
)
def test_text_of_every_kind_counts_to_the_boundary(lab: Lab, delta: Json) -> None:
    upstream = Chunks(lab, lambda n: {"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta}]})
    found, used = ask(lab, [{"tokens": 700, "per": "year"}], model="scripted-endless")
    passed = sum(bool(one["choices"][0]["delta"]) for one in found if isinstance(one, dict))
    assert passed == (700 - HI) // 3
    assert used == [HI + 3 * passed]
    assert found[-2]["choices"][0]["finish_reason"] == "length" and found[-2]["id"] == "x" and found[-1] == "[DONE]"
    assert upstream.cut.wait(PATIENCE_S)


def test_chunk_without_a_token_of_its_own_costs_one(lab: Lab) -> None:
    """A text that the vocabulary would put together with its neighbours."""
    Chunks(lab, lambda n: {"choices": [{"index": 0, "delta": {"content": "a"}}]})
    found, used = ask(lab, [{"output_tokens": 300, "per": "year"}], model="scripted-endless")
    assert (len(found), used) == (302, [300])


def test_spend_budget_ends_a_stream(lab: Lab) -> None:
    found, used = ask(lab, [{"spend": 0.002, "per": "year"}], model="endless")
    # 1,000,000 for the request, 4,500 for the input, 1,000 for each token.
    passed = sum(one["choices"] != [] and bool(one["choices"][0]["delta"].get("content")) for one in found[:-1])
    assert (passed, used) == (995, [1_000_000 + HI * 500 + 995 * 1000])
    assert found[-2]["aigw"]["code"] == "budget_exhausted"


def test_upstreams_own_count_on_the_way_replaces_the_gateways(lab: Lab) -> None:
    def make(number: int) -> Json:
        usage = {"prompt_tokens": 4, "completion_tokens": 10 * (number + 1)}
        return {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": usage}

    Chunks(lab, make)
    found, used = ask(lab, [{"output_tokens": 1005, "per": "year"}], model="scripted-endless")
    assert sum(bool(one["choices"][0]["delta"]) for one in found[:-1]) == 100
    assert used == [1000]


def test_two_streams_share_a_budget_to_its_last_token(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 3000, "per": "year"}])
    bodies: list[bytes] = []
    both = threading.Barrier(2)

    def endless(wire: Wire) -> None:
        """Stream past every cap, from the moment that both calls are there."""
        both.wait(PATIENCE_S)
        with contextlib.suppress(OSError):
            wire.send(HEAD)
            while True:
                wire.send(event({"choices": [{"index": 0, "delta": {"content": " token"}}]}) * 20)

    lab.act = endless

    def run() -> None:
        bodies.append(one.post(chat("scripted", stream=True)).content)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.used() == [3000]
    assert all(body.endswith(b"data: [DONE]\n\n") and b"budget_exhausted" in body for body in bodies)
    assert sum(body.count(b'" token"') for body in bodies) == 3000 - 2 * HI


def test_stream_whose_input_was_bounded_by_bytes_passes_to_the_exact_boundary(lab: Lab) -> None:
    """The upstream ignores the cap of 10 tokens, for which the bytes of the prompt prove the budget ample."""
    messages = [{"role": "user", "content": "several " * 300}]
    body = chat("endless", stream=True, max_tokens=10, messages=messages)
    exact, bound = measured(lab.caller(limits=[]), body)
    assert exact < bound / 4
    one = lab.caller(limits=[{"tokens": bound + 100, "per": "year"}])
    answer = one.post(body).content
    assert answer.count(b'" token"') == bound + 100 - exact
    assert b"budget_exhausted" in answer and answer.endswith(b"data: [DONE]\n\n")
    assert one.used() == [bound + 100] and one.limits()[0]["reserved"] == 0


def test_events_larger_than_the_budget_end_the_stream_at_once(lab: Lab) -> None:
    Chunks(lab, lambda n: {"choices": [{"index": 0, "delta": {"content": " a" * 100_000}}]})
    found, used = ask(lab, [{"tokens": 1000, "per": "year"}], model="scripted-endless")
    assert len(found) == 2 and found[0]["choices"][0]["finish_reason"] == "length"
    assert used == [HI]
