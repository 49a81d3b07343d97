"""Bad caps, choices, prompts and usage: refused in OpenAI's form, or settled with the fact in the log. No call is free."""

from typing import Any

import pytest

from tests.integration.budgets.conftest import HEAD, PRICE, Lab, document, event, logged
from tests.support.ends import chunk
from tests.support.surface import Caller, Json, chat, events, is_error

HI = 9
"""Tokens of the input of `chat()`, by the model's vocabulary."""
USAGES: dict[str, tuple[str, int | None]] = {
    "negative": ('{"prompt_tokens":-1,"completion_tokens":-5}', None),
    "negative output": ('{"prompt_tokens":9,"completion_tokens":-5}', None),
    "10^18": ('{"prompt_tokens":1000000000000000000,"completion_tokens":1000000000000000000}', None),
    "a string": ('"12"', None),
    "strings": ('{"prompt_tokens":"9","completion_tokens":"5"}', None),
    "a fraction": ('{"prompt_tokens":9.5,"completion_tokens":5.5}', None),
    "a list": ("[9,5]", None),
    "null": ("null", None),
    "empty": ("{}", None),
    "zeros": ('{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}', None),
    "no output": ('{"prompt_tokens":9,"completion_tokens":0}', HI + 3),
    "the largest": ('{"prompt_tokens":9,"completion_tokens":1099511627776}', 9 + 2**40),
    "more than its total": ('{"prompt_tokens":9,"completion_tokens":5,"total_tokens":3}', 14),
}
"""By name: the usage, and the tokens that count; None: the gateway's own count."""


def settled(lab: Lab, one: Caller, request_id: str) -> tuple[list[int], Json]:
    """The used tokens and the spend of a caller after one call, and the call's line in the log. Both agree."""
    one.used()
    amounts = {row["meter"]: row["used"] for row in one.limits()}
    tokens, spend = amounts["tokens"], amounts["spend"]
    line = logged(lab.gateway, request_id)
    assert line["price_nanodollars"] == spend
    assert line["input_tokens"] + line["output_tokens"] + line["reasoning_tokens"] == tokens
    return [tokens, spend], line


def budgeted(lab: Lab) -> Caller:
    limits = [{"tokens": 100_000, "per": "year"}, {"spend": 10, "per": "year"}]
    return lab.caller(limits=limits, price=PRICE)


@pytest.mark.parametrize("name", USAGES)
def test_bad_usage_of_a_plain_answer_is_settled_to_its_text(lab: Lab, name: str) -> None:
    usage, wanted = USAGES[name]
    text = b'{"choices":[{"index":0,"message":{"role":"assistant","content":" a b c"}}],"usage":%s}' % usage.encode()
    lab.act = lambda wire: wire.send(document(text))
    one = budgeted(lab)
    answer = one.post(chat("scripted", max_tokens=50))
    assert (answer.status_code, answer.content) == (200, text)
    [tokens, spend], line = settled(lab, one, answer.headers["x-request-id"])
    assert tokens == (HI + 3 if wanted is None else wanted)
    counted = wanted is None or name == "no output"
    assert line["usage_source"] == ("counted" if counted else "provider")
    assert line["overrun"] is (name == "the largest")
    assert round(float(answer.headers["x-aigw-price"]) * 1e9) == spend
    assert f"output={line['output_tokens']}," in answer.headers["x-aigw-tokens"]


@pytest.mark.parametrize("name", USAGES)
def test_bad_usage_of_a_stream_is_settled_to_its_text(lab: Lab, name: str) -> None:
    usage, wanted = USAGES[name]
    text = event({"choices": [{"index": 0, "delta": {"content": " a"}}]}) * 3
    told = chunk(b'data: {"choices":[],"usage":%s}\n\n' % usage.encode())
    lab.act = lambda wire: wire.send(HEAD + text + told + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    one = budgeted(lab)
    answer = one.post(chat("scripted", stream=True, stream_options={"include_usage": True}))
    assert answer.status_code == 200 and answer.content.endswith(b"data: [DONE]\n\n")
    [tokens, spend], line = settled(lab, one, answer.headers["x-request-id"])
    assert tokens == (HI + 3 if wanted is None else wanted)
    assert line["usage_source"] == ("counted" if wanted is None or name == "no output" else "provider")
    assert line["overrun"] is (name == "the largest")
    bills = [one["aigw"] for one in events(answer.content) if isinstance(one, dict) and "aigw" in one]
    assert [bill["price_nanodollars"] for bill in bills] == ([] if wanted is None else [spend])


@pytest.mark.parametrize(
    ("chunks", "wanted"),
    [
        pytest.param(["T", "T", "T"], HI + 3, id="missing"),
        pytest.param(["T", "U4", "T", "U5"], 14, id="twice"),
        pytest.param(["T", "U5", "T"], 14, id="in another event than the last"),
        pytest.param(["T", "T", "T", "T", "T", "U2"], 11, id="smaller than the streamed text"),
        pytest.param(["T", "T", "U5", "U0"], 14, id="taken back"),
        pytest.param(["T", "U1", "T", "T", "T", "U1"], 10, id="told again behind more text"),
    ],
)
def test_usage_of_a_stream_counts_wherever_it_stands(lab: Lab, chunks: list[str], wanted: int) -> None:
    def made(word: str) -> bytes:
        if word == "T":
            return event({"choices": [{"index": 0, "delta": {"content": " a"}}]})
        prompt = 9 if word != "U0" else 0
        return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": int(word[1:])}})

    body = b"".join(made(word) for word in chunks) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    lab.act = lambda wire: wire.send(HEAD + body)
    one = budgeted(lab)
    answer = one.post(chat("scripted", stream=True))
    [tokens, _], _ = settled(lab, one, answer.headers["x-request-id"])
    assert tokens == wanted


def test_text_after_a_streams_usage_is_not_free(lab: Lab) -> None:
    early = {"choices": [], "usage": {"prompt_tokens": HI, "completion_tokens": 1}}
    said = [event(early), *(event({"choices": [{"index": 0, "delta": {"content": " a"}}]}) for _ in range(20))]
    lab.act = lambda wire: wire.send(HEAD + b"".join(said) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    one = budgeted(lab)
    answer = one.post(chat("scripted", stream=True))
    [tokens, _], _ = settled(lab, one, answer.headers["x-request-id"])
    assert tokens == HI + 20


@pytest.mark.parametrize(
    ("path", "body", "usage", "wanted"),
    [
        ("completions", {"prompt": "", "max_tokens": 5}, (60, 3), {"input_tokens": 60, "output_tokens": 3}),
        ("embeddings", {"input": ""}, (4, 0), {"input_tokens": 4}),
        # It generates nothing: the output that it reports is input.
        ("embeddings", {"input": ""}, (4, 3), {"input_tokens": 7, "output_tokens": 0}),
    ],
)
def test_usage_is_counted_where_nothing_was_reserved(
    lab: Lab, path: str, body: Json, usage: tuple[int, int], wanted: Json
) -> None:
    told = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    lab.act = lambda wire: wire.send(document({"choices": [], "data": [], "usage": told}))
    one = lab.caller(limits=[{meter: 1000, "per": "year"} for meter in wanted])
    answer = one.post({"model": "scripted", **body}, f"/v1/{path}")
    assert answer.status_code == 200
    one.used()
    assert {row["meter"]: row["used"] for row in one.limits()} == wanted
    assert logged(lab.gateway, answer.headers["x-request-id"])["overrun"] is True


def test_answer_of_an_unknown_form_keeps_its_reservation(lab: Lab) -> None:
    for text in (b"{}", b"[]", b"hello", b'{"content":"hello"}'):
        lab.act = lambda wire, text=text: wire.send(document(text))
        one = budgeted(lab)
        answer = one.post(chat("scripted", max_tokens=50))
        [tokens, _], line = settled(lab, one, answer.headers["x-request-id"])
        assert (tokens, line["usage_source"]) == (13 + 50, "reserved")


@pytest.mark.parametrize(
    ("more", "cap"),
    [
        ({"max_tokens": 0}, None),
        ({"max_tokens": -2}, None),
        ({"max_tokens": 1.5}, None),
        ({"max_tokens": "10"}, None),
        ({"max_tokens": 2**63}, None),
        ({"max_tokens": None}, 4096),
        ({"max_tokens": -1}, 4096),
        ({"max_tokens": 7, "max_completion_tokens": 20}, 7),
        ({"max_tokens": 20, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 20, "max_completion_tokens": None}, 20),
        ({"max_tokens": 20, "max_completion_tokens": 0}, None),
        ({"n": 0}, None),
        ({"n": -1}, None),
        ({"n": 1.5}, None),
        ({"n": "2"}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_caps_and_choices_are_refused_and_cost_nothing(lab: Lab, more: Json, cap: int | None, stream: bool) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": usage}))
    one, calls = budgeted(lab), len(lab.upstream.requests)
    answer = one.post(chat("scripted", stream=stream, **more))
    if cap is None:
        error = is_error(answer, 400)
        assert error["type"] == "invalid_request_error" and error["param"] in more
        assert sorted(one.used()) == [0, 0] and len(lab.upstream.requests) == calls
    else:
        assert answer.status_code == 200
        sent = lab.sent()
        caps = {sent.get(name) for name in ("max_tokens", "max_completion_tokens")}
        assert caps - {None} == {cap}


@pytest.mark.parametrize("stream", [False, True])
def test_a_thousand_choices_share_the_grant(lab: Lab, stream: bool) -> None:
    lab.act = lambda wire: wire.send(
        document({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 99_000}})
    )
    one = lab.caller(limits=[{"tokens": 100_000, "per": "year"}])
    assert one.post(chat("scripted", n=1000)).status_code == 200
    assert lab.sent()["max_tokens"] == (100_000 - HI) // 1000
    assert one.used() == [99_009]
    # Each choice needs one token at least.
    is_error(one.post(chat("scripted", n=1000, stream=stream)), 429)
    assert one.used() == [99_009]


@pytest.mark.parametrize("tokens", [100_000, 10_000_000])
def test_prompts_of_0_and_10_megabytes_are_counted(lab: Lab, tokens: int) -> None:
    one = lab.caller(limits=[{"input_tokens": tokens, "per": "year"}])
    empty = one.post({"model": "small-chat", "messages": [{"role": "user", "content": ""}]})
    assert empty.status_code == 200 and one.used() == [1]
    words = " a" * 5_000_000
    answer = one.post({"model": "small-chat", "messages": [{"role": "user", "content": words}]})
    if tokens > 5_000_000:
        assert answer.status_code == 200 and one.used() == [5_000_001]
    else:
        error = is_error(answer, 429)
        assert error["aigw"]["reason"] == "above_limit" and one.used() == [1]


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings"])
def test_prompt_above_its_ceiling_is_refused(lab: Lab, path: str) -> None:
    one = lab.caller(prompt={"max_tokens": 20}, limits=[{"requests": 10, "per": "year"}])
    text: Any = {"chat/completions": {"messages": [{"role": "user", "content": " a" * 30}]}}.get(path)
    body = text or ({"prompt": " a" * 30} if path == "completions" else {"input": " a" * 30})
    error = is_error(one.post({"model": "small-chat", **body}, f"/v1/{path}"), 400)
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "context_length_exceeded",
        next(iter(body)),
    )
    assert "allows 20" in error["message"] and one.used() == [0]
    short = {name: "a b c" if isinstance(value, str) else value for name, value in body.items()}
    if path != "chat/completions":
        assert one.post({"model": "small-chat", **short}, f"/v1/{path}").status_code == 200


def test_call_above_the_ceiling_of_its_price_is_lowered_or_refused(lab: Lab) -> None:
    one = lab.caller(request={"max_spend": 0.0011}, price=PRICE)
    usage = {"prompt_tokens": 9, "completion_tokens": 95}
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": usage}))
    assert one.post(chat("scripted", max_tokens=4000)).status_code == 200
    assert lab.sent()["max_tokens"] == 95
    dear = {"model": "scripted", "messages": [{"role": "user", "content": " a" * 1000}]}
    error = is_error(one.post(dear), 400)
    assert error["code"] == "request_max_spend_exceeded" and "0.0011 USD" in error["message"]


def test_embeddings_are_counted_without_usage(lab: Lab) -> None:
    lab.act = lambda wire: wire.send(document({"data": []}))
    one = lab.caller(limits=[{"tokens": 1000, "per": "year"}])
    assert one.post({"model": "scripted", "input": " a b c"}, "/v1/embeddings").status_code == 200
    assert one.used() == [3]


@pytest.mark.parametrize(("tokens", "is_counted"), [(500_000, True), (600_000, False)])
def test_input_up_to_a_mebibyte_is_counted_without_usage(lab: Lab, tokens: int, is_counted: bool) -> None:
    lab.act = lambda wire: wire.send(document({"data": []}))
    one = lab.caller(limits=[{"tokens": 2**40, "per": "year"}])
    asked = {"model": "scripted", "input": " a" * tokens}
    told = one.post(asked, "/v1/tokenize").json()
    assert told["tokens"] == tokens < told["bound"]
    assert one.post(asked, "/v1/embeddings").status_code == 200
    assert one.used() == [tokens if is_counted else told["bound"]]
