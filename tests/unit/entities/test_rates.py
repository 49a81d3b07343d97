"""Amounts of USD: whole nano-dollars, exactly those that were written."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aigw.entities.rates import Budget, Rates, Usd, nano_dollars

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


def test_missing_rates_are_those_of_input_and_output() -> None:
    rates = Rates(input=0.3, output=1.2, cached_input=0)
    assert rates.nano_dollars() == {
        "input": 300_000_000,
        "cached_input": 0,
        "cache_write": 300_000_000,
        "output": 1_200_000_000,
        "reasoning": 1_200_000_000,
        "request": 0,
    }
