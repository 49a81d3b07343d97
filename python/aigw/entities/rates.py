"""Amounts of USD, and rates for tokens and requests: a model's `cost`, paid to the upstream, and a tier's `price`, paid by the consumer.

In: numbers as YAML and JSON have them. Out: the checked number, and its whole nano-dollars, the unit of everything behind the entities.
"""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator, Field, PlainSerializer

from aigw.schema.fields import Model, shown, violation

DECIMALS: Final = 9
"""A nano-dollar is the smallest amount."""
MAX_RATE: Final = 1_000_000
MAX_BUDGET: Final = 72_000_000
"""USD: a counter holds 2^56 nano-dollars, 72.06 million USD."""
FINE: Final = 8_000_000
"""USD up to which a float tells nano-dollars apart; from 2^23 on, two floats are more than one nano-dollar apart."""


def nano_dollars(usd: float) -> int:
    """Whole nano-dollars of an amount that was checked."""
    return int(Decimal(repr(usd)).scaleb(DECIMALS))


class Money:
    """Validator of USD from 0 to `high`, to the nano-dollar."""

    def __init__(self, high: int) -> None:
        self.high = high

    def __call__(self, value: float) -> float:
        finest = DECIMALS if value <= FINE else 6
        if not 0 <= value <= self.high or Decimal(repr(value)).scaleb(finest) % 1 != 0:
            coarse = f", above {FINE} with at most 6" if self.high > FINE else ""
            raise violation(f"expected USD from 0 to {self.high} with at most {DECIMALS} decimals{coarse}")
        return value


_PLAIN: Final = PlainSerializer(lambda v: int(v) if v == int(v) else v)
Usd = Annotated[float, AfterValidator(Money(MAX_RATE)), _PLAIN, shown(minimum=0, maximum=MAX_RATE)]
Budget = Annotated[float, AfterValidator(Money(MAX_BUDGET)), _PLAIN, shown(minimum=0, maximum=MAX_BUDGET)]


class Rates(Model):
    """USD per million tokens of each class, and per request."""

    input: Usd = Field(default=0, description="USD per million input tokens.")
    cached_input: Usd | None = Field(default=None, description="USD per million cached input tokens; null: as input.")
    cache_write: Usd | None = Field(
        default=None, description="USD per million tokens written to a cache; null: as input."
    )
    output: Usd = Field(default=0, description="USD per million output tokens.")
    reasoning: Usd | None = Field(default=None, description="USD per million reasoning tokens; null: as output.")
    request: Usd = Field(default=0, description="USD per request.")

    def nano_dollars(self) -> dict[str, int]:
        """Nano-dollars per million tokens of each class, and per request."""
        cached = self.input if self.cached_input is None else self.cached_input
        write = self.input if self.cache_write is None else self.cache_write
        reasoning = self.output if self.reasoning is None else self.reasoning
        rates = {
            "input": self.input,
            "cached_input": cached,
            "cache_write": write,
            "output": self.output,
            "reasoning": reasoning,
            "request": self.request,
        }
        return {name: nano_dollars(usd) for name, usd in rates.items()}


__all__ = ["Budget", "Rates", "Usd", "nano_dollars"]
