"""Rates in USD for tokens and requests: a model's `cost`, paid to the upstream, and a tier's `price`, paid by the consumer.
Both are checked and stored, without effect in this version.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

from aigw.schema.fields import Model, shown, violation


def _money(value: float) -> float:
    if not 0 <= value <= 1_000_000 or round(value, 6) != value:
        raise violation("expected USD from 0 to 1000000 with at most 6 decimals")
    return value


Usd = Annotated[
    float,
    AfterValidator(_money),
    PlainSerializer(lambda v: int(v) if v == int(v) else v),
    shown(minimum=0, maximum=1_000_000),
]


class Rates(Model):
    """USD per million tokens of each kind, and per request."""

    input: Usd = Field(default=0, description="USD per million input tokens.")
    cached_input: Usd | None = Field(default=None, description="USD per million cached input tokens; null: as input.")
    cache_write: Usd | None = Field(
        default=None, description="USD per million tokens written to a cache; null: as input."
    )
    output: Usd = Field(default=0, description="USD per million output tokens.")
    reasoning: Usd | None = Field(default=None, description="USD per million reasoning tokens; null: as output.")
    request: Usd = Field(default=0, description="USD per request.")


__all__ = ["Rates", "Usd"]
