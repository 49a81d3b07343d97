"""Findings about token and spend limits, and the form in which limits of every meter are compiled."""

import re
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from aigw._native import PriceList
from aigw.config import ConfigErrors, patterns, read_text
from aigw.entities.tier import Limit, TierSpec


def file(spec: str, model: str = "max_output_tokens: 9") -> str:
    return f"models: {{m: {{upstreams: [{{url: 'http://h/v1'}}], {model}}}}}\ntiers: {{a: {spec}}}\n"


def errors(text: str) -> list[str]:
    try:
        read_text("f.yaml", text.encode(), {})
    except ConfigErrors as found:
        return [f"{f.path}: {f.message}" for f in found.findings]
    return []


def warnings(text: str) -> list[str]:
    return [f"{f.path}: {f.message}" for f in read_text("f.yaml", text.encode(), {}).warnings]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("{limits: [{tokens: 7, per: day}]}", "tiers.a.limits[0].tokens: no chat call could ever pass"),
        ("{limits: [{tokens: 8, per: day}]}", None),
        ("{limits: [{tokens: 0, per: day}]}", None),
        ("{limits: [{tokens: 7, per: day, mode: shadow}]}", None),
        ("{limits: [{input_tokens: 6, per: day}]}", "tiers.a.limits[0].input_tokens: no chat call could ever pass"),
        ("{limits: [{output_tokens: 1, per: day}]}", None),
        ("{prompt: {max_tokens: 6}}", "tiers.a.prompt.max_tokens: no chat call could ever pass"),
        ("{limits: [{spend: 0.5, per: day}], price: {request: 0.6}}", "the smallest one reserves 0.6 USD"),
        (
            "{request: {max_spend: 0.5}, price: {request: 0.6}}",
            "tiers.a.request.max_spend: no chat call could ever pass",
        ),
        ("{limits: [{spend: 0.000008, per: day}], price: {input: 1, output: 1}}", None),
        ("{limits: [{spend: 0.000007999, per: day}], price: {input: 1, output: 1}}", "reserves 0.000008 USD"),
        ("{limits: [{spend: 1, per: day}]}", "tiers.a.limits[0].spend: counts money, and the tier has no price"),
        ("{request: {max_spend: 1}}", "tiers.a.request.max_spend: counts money, and the tier has no price"),
        ("{limits: [{tokens: 7, per: day}], allow: {models: [x]}}", None),
        (
            "{limits: [{tokens: 1000, per: second, burst: 7}]}",
            "tiers.a.limits[0].burst: no chat call could ever pass",
        ),
        ("{limits: [{tokens: 1, per: second, burst: 8}]}", None),
        ("{limits: [{input_tokens: 1, per: second, burst: 6}]}", "template takes 7 tokens"),
    ],
)
def test_check_finds_a_limit_that_no_call_could_pass(spec: str, found: str | None) -> None:
    texts = errors(file(spec))
    assert len(texts) == bool(found), texts
    assert all(found in text for text in texts if found)


@pytest.mark.parametrize(
    ("spec", "model", "found"),
    [
        (
            "{limits: [{tokens: 100, per: day}]}",
            "weight",
            "tiers.a.limits[0].tokens: a call of 'm' may reserve all that is left",
        ),
        ("{limits: [{output_tokens: 100, per: day}]}", "", "a call of 'm' may reserve all that is left"),
        ("{limits: [{input_tokens: 100, per: day}]}", "", None),
        ("{limits: [{tokens: 100, per: second, burst: 100}]}", "", "a call of 'm' may reserve the whole burst"),
        ("{limits: [{tokens: 100, per: day}], output: {max_tokens: 5}}", "", None),
        ("{limits: [{tokens: 100, per: day}]}", "max_output_tokens: 9", None),
        ("{limits: [{spend: 1, per: day}], price: {input: 0}}", "max_output_tokens: 9", "every price of the tier is 0"),
    ],
)
def test_check_warns_of_budgets_without_an_output_cap_or_a_price(spec: str, model: str, found: str | None) -> None:
    texts = warnings(file(spec, model if ":" in model else "features: []"))
    assert len(texts) == bool(found), texts
    assert all(found in text for text in texts if found)


@pytest.mark.parametrize(
    ("rates", "left_out"),
    [
        ("{input: 1}", "output"),
        ("{output: 1}", "input"),
        ("{input: 1, reasoning: 2, cached_input: 0.1, request: 1}", "output"),
        ("{input: 1, output: 0}", None),
        ("{input: 0, output: 1}", None),
        ("{input: 0}", None),
        ("{request: 1}", None),
        ("{input: 1, output: 2}", None),
    ],
)
def test_check_warns_of_tokens_that_cost_nothing(rates: str, left_out: str | None) -> None:
    for text, path in (
        (file(f"{{price: {rates}}}"), "tiers.a.price"),
        (file("{}", f"cost: {rates}"), "models.m.cost"),
    ):
        wanted = f"{path}: {left_out} is left out, so {left_out} tokens cost nothing: add it, or {left_out}: 0"
        found = warnings(text)
        assert len(found) == bool(left_out) and all(one.startswith(wanted) for one in found)


@pytest.mark.parametrize(
    ("given", "kind", "fields", "column"),
    [
        ({"tokens": 5, "per": "day"}, "tokens", {"amount": 5, "per": "day"}, "tokens:tier:consumer:day"),
        ({"spend": 0.000000001, "per": "5h", "scope": "credential"}, "spend", {"amount": 1, "per": "5h"},
         "spend:tier:credential:18000s"),
        ({"concurrency": 3, "mode": "shadow"}, "concurrency", {"calls": 3}, "concurrency:tier:consumer:-:shadow"),
        ({"requests": 5, "per": "day"}, "window", {"requests": 5, "per": "day"}, "tier:consumer:day"),
        ({"requests": 5, "per": "day", "burst": 9}, "bucket", {"requests": 5, "per": "day", "burst": 9},
         "rate:tier:consumer:day"),
        ({"tokens": 5, "per": "second", "burst": 9}, "tokens_bucket", {"amount": 5, "per": "second", "burst": 9},
         "rate:tokens:tier:consumer:second"),
        ({"output_tokens": 5, "per": "2s", "burst": 2**20}, "output_tokens_bucket",
         {"amount": 5, "per": "2s", "burst": 2**20}, "rate:output_tokens:tier:consumer:2s"),
    ],
)  # fmt: skip
def test_a_limit_names_its_kind_fields_and_column(
    given: dict[str, Any], kind: str, fields: dict[str, Any], column: str
) -> None:
    limit = Limit.model_validate(given)
    assert (limit.kind, limit.fields, limit.column()) == (kind, fields, column)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tokens": 5}, "required field missing: write the window, as in per: day"),
        ({"concurrency": 5, "per": "day"}, "concurrency counts calls in flight: leave it out"),
        ({"concurrency": 5, "burst": 2}, "concurrency counts calls in flight: leave it out"),
        (
            {"tokens": 5, "spend": 1.0, "per": "day"},
            "one limit bounds one amount: write one limit for each of tokens, spend",
        ),
        ({"tokens": 2**48 + 1, "per": "day"}, "value should be between 0 and 281474976710656"),
        ({"concurrency": 65_536}, "value should be between 0 and 65535"),
        ({"spend": 1, "per": "day", "burst": 5}, "spend has no burst: leave it out, or limit tokens"),
        ({"requests": 1, "per": "day", "burst": 1_000_001}, "a bucket has at most 1000000 requests: lower it"),
        ({"spend": 0.0000000001, "per": "day"}, "expected USD from 0 to 72000000 with at most 9 decimals"),
    ],
)
def test_a_limit_refuses_fields_that_do_not_fit_its_meter(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Limit.model_validate(given)


def test_limits_stand_in_the_order_of_their_cost() -> None:
    given = [
        {"tokens": 5, "per": "minute"},
        {"requests": 5, "per": "day"},
        {"concurrency": 5},
        {"requests": 5, "per": "second"},
        {"tokens": 5, "per": "second"},
    ]
    spec = TierSpec.model_validate({"limits": given})
    ordered = [(limit.meter, limit.per) for limit in sorted(spec.limits, key=Limit.order)]
    assert ordered == [("concurrency", None), ("requests", "second"), ("requests", "day"), ("tokens", "second"),
                       ("tokens", "minute")]  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "nano_dollars"), [((0, 0), 7), ((1, 0), 10), ((0, 1), 11), ((2, 3), 23), ((10**6, 10**6), 6_000_007)]
)
def test_bound_of_a_price_takes_the_dearest_class(tokens: tuple[int, int], nano_dollars: int) -> None:
    """2.5 nano-dollars for a token of the input, 3.5 for one of the output, 7 for the request, rounded up once."""
    inputs = {"input": 1_000_000, "cached_input": 1_500_000, "cache_write": 2_500_000}
    outputs = {"output": 3_500_000, "reasoning": 3_000_000}
    prices = PriceList(orjson.dumps({**inputs, **outputs, "request": 7}))
    assert prices.bound(*tokens) == nano_dollars


def test_a_pattern_is_compiled_once_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    real = re.compile
    monkeypatch.setattr(patterns.re, "compile", lambda text, flags=0: compiled.append(text) or real(text, flags))
    models = "\n".join(f"  m{n}: {{upstreams: [{{url: 'http://h/v1'}}]}}" for n in range(50))
    tiers = "\n".join(
        f"  t{n}: {{allow: {{models: ['m*', m1]}}, limits: [{{tokens: 9, per: day}}]}}" for n in range(50)
    )
    found = read_text("f.yaml", f"models:\n{models}\ntiers:\n{tiers}\n".encode(), {})
    assert len(found.warnings) == 50 and "'m0', 'm1', 'm2' and 47 more" in found.warnings[0].message
    assert 0 < len(compiled) <= 50 * 2 + 8, "the warnings about an entry compile it for its tier; no pair does"
