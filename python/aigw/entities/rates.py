"""Amounts of USD, and rates for tokens and requests: a model's `cost`, paid to the upstream, and a tier's `price`, paid by the consumer.

In: numbers as YAML and JSON have them. Out: the checked number, and its whole nano-dollars, the unit of everything behind the entities;
a factor becomes whole parts per million.
"""

from decimal import Decimal
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer, model_validator

from aigw._native import PriceList
from aigw.schema.fields import Model, Positive, entity_violation, shown, violation
from aigw.types import JsonDict

DECIMALS: Final = 9
"""A nano-dollar is the smallest amount."""
MAX_RATE: Final = 1_000_000
MAX_BUDGET: Final = 72_000_000
"""USD: a counter holds 2^56 nano-dollars, 72.06 million USD."""
FINE: Final = 8_000_000
"""USD up to which a float tells nano-dollars apart; from 2^23 on, two floats are more than one nano-dollar apart."""
MAX_LENGTH: Final = 2**31 - 1
"""Tokens. No context window is as large."""
FACTOR_DECIMALS: Final = 6
MAX_FACTOR: Final = 1000
_OF_INPUT: Final = ("input", "cached_input", "cache_write")
_OF_OUTPUT: Final = ("output", "reasoning")
_MEDIA: Final = ("image_input", "audio_input", "image_output", "audio_output")


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


def _factor(value: float) -> float:
    if not 0 <= value <= MAX_FACTOR or Decimal(repr(value)).scaleb(FACTOR_DECIMALS) % 1 != 0:
        raise violation(f"expected a factor from 0 to {MAX_FACTOR} with at most {FACTOR_DECIMALS} decimals, as in 0.5")
    return value


_PLAIN: Final = PlainSerializer(lambda v: int(v) if v == int(v) else v)
Usd = Annotated[float, AfterValidator(Money(MAX_RATE)), _PLAIN, shown(minimum=0, maximum=MAX_RATE)]
Budget = Annotated[float, AfterValidator(Money(MAX_BUDGET)), _PLAIN, shown(minimum=0, maximum=MAX_BUDGET)]
Factor = Annotated[float, AfterValidator(_factor), _PLAIN, shown(minimum=0, maximum=MAX_FACTOR)]
Length = Annotated[int, AfterValidator(Positive(MAX_LENGTH))]


def _some_price() -> list[Any]:
    """The JSON Schemas of records with a price, one for each class."""
    return [_given(name, "number", "string") for name in (*_OF_INPUT, *_OF_OUTPUT, *_MEDIA)]


def _given(name: str, *types: str) -> Any:
    """The JSON Schema of a record in which `name` is there, and of these types."""
    return {"required": [name], "properties": {name: {"type": list(types)}}}


class Above(Model):
    """Prices of calls with a long input, for all tokens of such a call."""

    model_config = ConfigDict(json_schema_extra={"anyOf": _some_price()})

    tokens: Length = Field(description="A call with more input tokens, of all classes together, has these prices.")
    input: Usd | None = Field(default=None, description="USD per million input tokens; null: as below the length.")
    cached_input: Usd | None = Field(
        default=None, description="USD per million cached input tokens; null: as below the length, or as input."
    )
    cache_write: Usd | None = Field(
        default=None, description="USD per million tokens written to a cache; null: as below the length, or as input."
    )
    output: Usd | None = Field(default=None, description="USD per million output tokens; null: as below the length.")
    reasoning: Usd | None = Field(
        default=None, description="USD per million reasoning tokens; null: as below the length, or as output."
    )
    image_input: Usd | None = Field(
        default=None,
        description="USD per million tokens of images in the input; null: as below the length, or as input.",
    )
    audio_input: Usd | None = Field(
        default=None,
        description="USD per million tokens of audio in the input; null: as below the length, or as input.",
    )
    image_output: Usd | None = Field(
        default=None,
        description="USD per million tokens of images in the output; null: as below the length, or as output.",
    )
    audio_output: Usd | None = Field(
        default=None,
        description="USD per million tokens of audio in the output; null: as below the length, or as output.",
    )

    @model_validator(mode="after")
    def _names_a_price(self) -> Self:
        if all(getattr(self, name) is None for name in (*_OF_INPUT, *_OF_OUTPUT, *_MEDIA)):
            raise entity_violation("names no price: add those that differ, as in {tokens: 200000, input: 0.60}")
        return self


class ServiceTiers(Model):
    """Factors on the whole price of a call, by the `service_tier` that its answer names. null, and a name that is not here: 1."""

    default: Factor | None = Field(default=None, description="Factor of calls that were served as `default`.")
    standard: Factor | None = Field(default=None, description="Factor of calls that were served as `standard`.")
    on_demand: Factor | None = Field(default=None, description="Factor of calls that were served as `on_demand`.")
    flex: Factor | None = Field(default=None, description="Factor of calls that were served as `flex`.")
    priority: Factor | None = Field(default=None, description="Factor of calls that were served as `priority`.")
    scale: Factor | None = Field(default=None, description="Factor of calls that were served as `scale`.")
    performance: Factor | None = Field(default=None, description="Factor of calls that were served as `performance`.")
    batch: Factor | None = Field(default=None, description="Factor of calls that were served as `batch`.")


class Rates(Model):
    """USD per million tokens of each class, and per request. One without any price would make calls free by mistake."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [*_some_price(), _given("request", "number", "string"), _given("above", "object")]}
    )

    input: Usd = Field(default=0, description="USD per million input tokens.")
    cached_input: Usd | None = Field(default=None, description="USD per million cached input tokens; null: as input.")
    cache_write: Usd | None = Field(
        default=None, description="USD per million tokens written to a cache; null: as input."
    )
    output: Usd = Field(default=0, description="USD per million output tokens.")
    reasoning: Usd | None = Field(default=None, description="USD per million reasoning tokens; null: as output.")
    request: Usd = Field(default=0, description="USD per request.")
    image_input: Usd | None = Field(
        default=None, description="USD per million tokens of images in the input that no cache had; null: as input."
    )
    audio_input: Usd | None = Field(
        default=None, description="USD per million tokens of audio in the input that no cache had; null: as input."
    )
    image_output: Usd | None = Field(
        default=None, description="USD per million tokens of images in the output; null: as output."
    )
    audio_output: Usd | None = Field(
        default=None, description="USD per million tokens of audio in the output; null: as output."
    )
    above: Above | None = Field(default=None, description="Other prices for calls with a long input.")
    service_tiers: ServiceTiers | None = Field(
        default=None, description="Factors on the price by the service tier that the answer names; left out: 1."
    )

    @model_validator(mode="after")
    def _names_a_price(self) -> Self:
        if all(name == "service_tiers" or getattr(self, name) is None for name in self.model_fields_set):
            raise entity_violation("names no price: add one, as in {input: 0.30, output: 1.20}; {input: 0} is free")
        return self

    def compiled(self) -> JsonDict:
        """The prices of a policy: nano-dollars per million tokens of each class, and per request; `special` has the others."""
        return {**_text(self), "request": nano_dollars(self.request), "special": self._special()}

    def price_list(self) -> PriceList:
        """The prices as workers reckon with them."""
        return PriceList(orjson.dumps(self.compiled()))

    def is_free(self) -> bool:
        """Whether every price is 0."""
        free = all(not value for name, value in self if name not in ("above", "service_tiers"))
        return free and (self.above is None or all(not value for name, value in self.above if name != "tokens"))

    def _special(self) -> JsonDict | None:
        if not any((*(getattr(self, name) is not None for name in _MEDIA), self.above, self.service_tiers)):
            return None
        factors = self.service_tiers.model_dump(exclude_none=True) if self.service_tiers is not None else {}
        return {
            "media": _media(self),
            "above": None if self.above is None else self._above(self.above),
            "service_tiers": {name: int(Decimal(repr(f)).scaleb(FACTOR_DECIMALS)) for name, f in factors.items()},
        }

    def _above(self, above: Above) -> JsonDict:
        """A class that `above` leaves out has its own price below the length; without one, that of input or output there."""
        given = {name: value for name, value in above if value is not None and name != "tokens"}
        merged = self.model_copy(update=given)
        return {"tokens": above.tokens, **_text(merged), "media": _media(merged)}


def _text(rates: Rates) -> dict[str, int]:
    """Nano-dollars of the five classes."""
    return _priced(rates, _OF_INPUT, rates.input) | _priced(rates, _OF_OUTPUT, rates.output)


def _media(rates: Rates) -> dict[str, int]:
    """Nano-dollars of images and audio."""
    return _priced(rates, _MEDIA[:2], rates.input) | _priced(rates, _MEDIA[2:], rates.output)


def _priced(rates: Rates, names: tuple[str, ...], otherwise: float) -> dict[str, int]:
    values: dict[str, Any] = {name: getattr(rates, name) for name in names}
    return {name: nano_dollars(otherwise if usd is None else usd) for name, usd in values.items()}


__all__ = ["Above", "Budget", "Rates", "ServiceTiers", "Usd", "nano_dollars"]
