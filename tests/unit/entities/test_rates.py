"""Amounts of USD: whole nano-dollars, exactly those that were written."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aigw._native import service_tiers
from aigw.entities.rates import Budget, Rates, ServiceTiers, Usd, nano_dollars

BUDGET: TypeAdapter[float] = TypeAdapter(Budget)
USD: TypeAdapter[float] = TypeAdapter(Usd)


@given(st.integers(0, 8_000_000 * 10**9))
def test_every_amount_of_nano_dollars_survives_its_text(nanos: int) -> None:
    text = f"{Decimal(nanos).scaleb(-9):f}"
    assert nano_dollars(BUDGET.validate_json(text)) == nanos


@given(st.integers(8_000_000 * 10**6, 72_000_000 * 10**6))
def test_a_large_budget_is_exact_to_the_micro_dollar(micros: int) -> None:
    assert nano_dollars(BUDGET.validate_json(f"{Decimal(micros).scaleb(-6):f}")) == micros * 1000


@pytest.mark.parametrize(
    "text", ["-1", "-0.000000001", "0.0000000001", "72000000.000001", "8000000.1234567", "1e300", "NaN", '"1"', "true"]
)
def test_a_budget_refuses_other_amounts(text: str) -> None:
    with pytest.raises(ValidationError):
        BUDGET.validate_json(text, strict=True)


@pytest.mark.parametrize("text", ["1000000.1", "1e-10", "-1"])
def test_a_rate_refuses_other_amounts(text: str) -> None:
    with pytest.raises(ValidationError, match="expected USD from 0 to 1000000 with at most 9 decimals"):
        USD.validate_json(text)


TEXT = {
    "input": 300_000_000,
    "cached_input": 0,
    "cache_write": 300_000_000,
    "output": 1_200_000_000,
    "reasoning": 1_200_000_000,
}


def test_missing_rates_are_those_of_input_and_output() -> None:
    rates = Rates(input=0.3, output=1.2, cached_input=0)
    assert rates.compiled() == {**TEXT, "request": 0, "special": None}
    audio = Rates(input=0.3, output=1.2, cached_input=0, audio_input=9)
    media = {
        "image_input": 300_000_000,
        "audio_input": 9 * 10**9,
        "image_output": 1_200_000_000,
        "audio_output": 1_200_000_000,
    }
    assert audio.compiled()["special"] == {"media": media, "above": None, "service_tiers": {}}


def test_rates_above_a_length_are_those_below_it_or_of_their_own_input_and_output() -> None:
    rates = Rates.model_validate(
        {"input": 1, "output": 2, "cached_input": 0.5, "audio_output": 8,
         "above": {"tokens": 200_000, "input": 3, "reasoning": 7}, "service_tiers": {"flex": 0.5, "priority": 2.000001}}
    )  # fmt: skip
    special = rates.compiled()["special"]
    media = {"image_input": 3 * 10**9, "audio_input": 3 * 10**9, "image_output": 2 * 10**9, "audio_output": 8 * 10**9}
    assert special["above"] == {
        "tokens": 200_000, "input": 3 * 10**9, "cached_input": 500_000_000, "cache_write": 3 * 10**9, "output": 2 * 10**9,
        "reasoning": 7 * 10**9, "media": media,
    }  # fmt: skip
    assert special["service_tiers"] == {"flex": 500_000, "priority": 2_000_001}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"above": {"tokens": 5}}, "names no price: add those that differ"),
        ({"above": {"tokens": 0, "input": 1}}, "value must be greater than 0"),
        ({"above": {"input": 1}}, "required field missing|Field required"),
        ({"above": {"tokens": 5, "request": 1}}, "Extra inputs|unknown field"),
        ({"service_tiers": {"flexx": 0.5}}, "Extra inputs|unknown field"),
        ({"service_tiers": {"flex": -1}}, "expected a factor from 0 to 1000 with at most 6 decimals"),
        ({"service_tiers": {"flex": 0.0000001}}, "expected a factor from 0 to 1000"),
        ({"service_tiers": {"flex": 1001}}, "expected a factor from 0 to 1000"),
    ],
)
def test_rates_refuse_what_cannot_be_reckoned(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Rates.model_validate(given)


def test_service_tiers_are_those_that_workers_know() -> None:
    assert list(ServiceTiers.model_fields) == [name for name, _ in service_tiers()]


def test_equal_prices_have_equal_versions() -> None:
    plain = Rates(input=1, output=2).price_list().version
    said = {"input": 1, "output": 2, "image_input": 1, "audio_output": 2, "service_tiers": {"flex": 1},
            "above": {"tokens": 9, "input": 1}}  # fmt: skip
    assert Rates.model_validate(said).price_list().version == plain
    for other in ({"input": 1.000000001}, {"audio_input": 2}, {"service_tiers": {"flex": 0.5}}):
        assert Rates.model_validate({"input": 1, "output": 2, **other}).price_list().version != plain


def test_worth_of_an_entry_is_that_of_its_kind() -> None:
    """(flags, outcome, source, five classes, four media, service tier): not counted, counted, of a reservation, of a crash."""
    prices = Rates.model_validate(
        {"input": 1, "output": 2, "cached_input": 4, "audio_input": 3, "above": {"tokens": 100, "input": 10},
         "service_tiers": {"flex": 0.5, "batch": 3}}
    ).price_list()  # fmt: skip
    classes = (20, 30, 0, 5, 0, 0, 10, 0, 0)
    rows = [(0, 0, 1, *classes, 4), (1, 0, 1, *classes, 4), (1, 0, 3, *classes, 4), (1, 5, 2, *classes, 4)]
    held = 3 * (50 * 4000 + 5 * 2000)
    assert prices.worth(rows) == [0, (10 * 1000 + 10 * 3000 + 30 * 4000 + 5 * 2000) // 2, held, held]
    assert prices.worth([(1, 0, 1, 99, 2, 0, 0, 0, 0, 0, 0, 0, 0)]) == [99 * 10_000 + 2 * 4000]
