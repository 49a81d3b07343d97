"""A tier: what a consumer bought, in one document. Limits, gates, clamps, deadlines, and the price.

`TierSpec` is the YAML object of `tiers.<name>` in the configuration file and the JSON object of `/tiers/{name}`: the same
fields, the same checks. A field that this version does not enforce is refused with "not supported in this version", never
ignored. Kong's clients see a tier as a consumer group: the entity without its
spec. The tier of a consumer is a column of the consumer.
"""

import re
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import AfterValidator, ConfigDict, Field, model_validator

from aigw._native import wrong_limit
from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.period import Per, canonical_per, longest
from aigw.entities.rates import Budget, Rates, nano_dollars
from aigw.schema.fields import (
    Between,
    FieldErrors,
    Model,
    Name,
    Only,
    Positive,
    Prose,
    SetMarker,
    Timestamp,
    refuse,
    shown,
    unique,
    violation,
    violation_of,
)
from aigw.types import JsonDict

MAX_REQUESTS: Final = 2**32 - 1
MAX_TOKENS: Final = 2**31 - 1
MAX_AMOUNT: Final = 2**48
"""Tokens. A counter holds 2^56: a settled overrun above the limit fits, too."""
MAX_BURST: Final = 1_000_000
"""Requests of a bucket."""
MAX_PLACES: Final = 65_535
"""Calls in flight: each worker counts its own in 16 bits."""
MAX_LIMITS: Final = 16
_MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h)\Z", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_PATTERN: Final = re.compile(r"[A-Za-z0-9._:/@+*\-]+\Z", re.ASCII)

NotYet = Annotated[Any, AfterValidator(refuse), shown(type="null")]
"""A field of later versions: null, or refused."""


def milliseconds_of(duration: str) -> int:
    """Milliseconds of a duration like `10s`, `1.5m`, `250ms`."""
    found = _DURATION.match(duration)
    return round(float(found.group(1)) * _MILLISECONDS[found.group(2)]) if found else 0


def _duration(value: str) -> str:
    if not 1 <= milliseconds_of(value) <= 24 * 3_600_000:
        raise violation("expected a duration from 1ms to 24h as in 250ms, 10s, 1.5m")
    return value


def _pattern(value: str) -> str:
    if not _PATTERN.match(value):
        raise violation("expected a name, or a pattern with '*': letters, digits and ._:/@+-")
    return value


Duration = Annotated[str, AfterValidator(_duration), shown(pattern=r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h)$")]
Pattern = Annotated[
    str,
    Field(min_length=1, max_length=256),
    AfterValidator(_pattern),
    shown(pattern="^[A-Za-z0-9._:/@+*-]+$"),
]
Patterns = Annotated[list[Pattern], SetMarker(), AfterValidator(unique)]
Requests = Annotated[int, AfterValidator(Between(0, MAX_REQUESTS))]
TokenAmount = Annotated[int, AfterValidator(Between(0, MAX_AMOUNT))]
Places = Annotated[int, AfterValidator(Between(0, MAX_PLACES))]
TokenCap = Annotated[int, AfterValidator(Positive(MAX_TOKENS))]


METERS: Final = ("requests", "tokens", "input_tokens", "output_tokens", "spend", "concurrency")
"""The fields of a limit that name its amount. A limit has one of them."""
_WITH_BURST: Final = ("requests", "tokens", "input_tokens", "output_tokens")
"""Meters that buckets count."""
_COLUMNS: Final = {
    "window": "",
    "bucket": "rate:",
    **{meter: f"{meter}:" for meter in METERS[1:]},
    **{f"{meter}_bucket": f"rate:{meter}:" for meter in _WITH_BURST[1:]},
}
"""Limit kind -> prefix of the names of its counter columns. Data folders contain these names, so they never change."""


def _given(meter: str, *, burst: bool) -> JsonDict:
    """The JSON Schema of a limit on this meter, with `burst` or without it. The fields of the other meters are absent."""
    amount: JsonDict = {"anyOf": [{"type": "number"}, {"type": "string"}]}
    per: JsonDict = {"type": "null" if meter == "concurrency" else "string"}
    fields = {name: amount if name == meter else {"type": "null"} for name in METERS} | {"per": per}
    size: JsonDict = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    fields["burst"] = (size | {"maximum": MAX_BURST} if meter == "requests" else size) if burst else {"type": "null"}
    if meter != "requests" or burst:
        fields["scope"] = {"not": {"const": "ip"}}
    required = [meter, *(["per"] if meter != "concurrency" else []), *(["burst"] if burst else [])]
    return {"required": required, "properties": fields}


def _alternatives() -> list[Any]:
    """The JSON Schemas of limits, one of which a limit has."""
    return [_given(meter, burst=False) for meter in METERS] + [_given(meter, burst=True) for meter in _WITH_BURST]


class Limit(Model):
    """A bound on one meter, per period. With `burst` it is a bucket of that size, which refills continuously."""

    model_config = ConfigDict(json_schema_extra={"anyOf": _alternatives()})

    requests: Requests | None = Field(default=None, description="Requests per window; 0 refuses all.")
    tokens: TokenAmount | None = Field(
        default=None, description="Input and output tokens of models per window, all classes together; 0 refuses all."
    )
    input_tokens: TokenAmount | None = Field(
        default=None, description="Input tokens of models per window, cached ones included; 0 refuses all."
    )
    output_tokens: TokenAmount | None = Field(
        default=None, description="Output tokens of models per window, reasoning included; 0 refuses all."
    )
    spend: Budget | None = Field(
        default=None, description="USD per window at the tier's `price`, with up to 9 decimals; 0 refuses all."
    )
    concurrency: Places | None = Field(
        default=None, description="Calls in flight at once, without `per`; 0 refuses all."
    )
    per: Per | None = Field(
        default=None,
        description="The window: second, minute, hour, day, month, year (UTC), or a duration as in 90s, 5h.",
    )
    burst: Annotated[int, AfterValidator(Positive(MAX_AMOUNT))] | None = Field(
        default=None,
        description="Requests (1000000 at most) or tokens that may be used at once; they come back at the limit's amount per `per`.",
    )
    window: Annotated[Literal["fixed", "sliding"], AfterValidator(Only(("fixed",)))] = Field(
        default="fixed", description="fixed: aligned to UTC; sliding is not supported in this version."
    )
    scope: Annotated[
        Literal["consumer", "credential", "model", "route", "agent", "ip"],
        AfterValidator(Only(("consumer", "credential", "model", "ip"))),
    ] = Field(
        default="consumer",
        description="Scope of one counter: the consumer, each of its keys, each model it calls, or each address it"
        " calls from; route and agent are not supported in this version.",
    )
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="shadow: counted and shown in metrics, never refused."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        named = [meter for meter in METERS if getattr(self, meter) is not None]
        if not named:
            raise violation(f"name the amount that is limited: {', '.join(METERS)}")
        if len(named) > 1:
            raise violation(f"one limit bounds one amount: write one limit for each of {', '.join(named)}")
        if self.meter == "concurrency" and (self.per is not None or self.burst is not None):
            field = "burst" if self.per is None else "per"
            raise violation_of(field, "concurrency counts calls in flight: leave it out")
        if self.per is None and self.meter != "concurrency":
            raise violation_of("per", "required field missing: write the window, as in per: day")
        if self.burst is not None and self.meter not in _WITH_BURST:
            raise violation_of("burst", f"{self.meter} has no burst: leave it out, or limit tokens")
        if self.requests is not None and (self.burst or 0) > MAX_BURST:
            raise violation_of("burst", f"a bucket has at most {MAX_BURST} requests: lower it")
        wrong = wrong_limit(self.kind, orjson.dumps(self.fields), self.scope == "ip")
        if wrong is not None:
            field, _, text = wrong.partition(": ")
            raise violation_of(field, text) if field in type(self).model_fields else violation(wrong)
        return self

    @property
    def meter(self) -> str:
        """The field that names the amount."""
        return next(meter for meter in METERS if getattr(self, meter) is not None)

    @property
    def kind(self) -> str:
        """The name of its limit kind in `src/limits`."""
        if self.meter == "requests":
            return "window" if self.burst is None else "bucket"
        return self.meter if self.burst is None else f"{self.meter}_bucket"

    @property
    def fields(self) -> JsonDict:
        """The fields that its kind reads; money in nano-dollars."""
        if self.meter == "requests":
            return self.model_dump(include={"requests", "per", "burst"}, exclude_none=True)
        if self.concurrency is not None:
            return {"calls": self.concurrency}
        amount = nano_dollars(self.spend) if self.spend is not None else getattr(self, self.meter)
        burst = {} if self.burst is None else {"burst": self.burst}
        return {"amount": amount, "per": self.per, **burst}

    def column(self, model: str | None = None) -> str:
        """The name of the column that it counts in, the same in all tiers. `model`: the id, for scope model."""
        scope = f"model={model}" if self.scope == "model" else self.scope
        shadow = ":shadow" if self.mode == "shadow" else ""
        per = "-" if self.per is None else canonical_per(self.per)
        return f"{_COLUMNS[self.kind]}tier:{scope}:{per}{shadow}"

    def order(self) -> tuple[int, int, str]:
        """Where it stands among the limits of its tier: calls in flight, then requests, then budgets; the shortest period first."""
        rank = {"concurrency": 0, "requests": 1}.get(self.meter, 2)
        return rank, 0 if self.per is None else longest(self.per), self.column()


class Parameters(Model):
    """Request parameters that a tier may use. A boolean allows or refuses, a number is the maximum."""

    tools: bool = Field(default=True, description="Tools and functions.")
    n: Annotated[int, AfterValidator(Between(1, 128))] | None = Field(
        default=None, description="Most choices per request."
    )
    logprobs: bool = Field(default=True, description="Log probabilities.")
    stream: bool = Field(default=True, description="Streamed answers.")
    response_format: bool = Field(default=True, description="Structured output.")
    reasoning_effort: bool = Field(default=True, description="Choosing how much the model reasons.")


class Allow(Model):
    """Gates of a tier: features, models, parameters."""

    features: Patterns = Field(
        default=["*"],
        description="Features whose models may be called: every feature of the model must be named; '*' is any.",
    )
    models: Patterns = Field(default=["*"], description="Models by name; '*' stands for any characters.")
    parameters: Parameters = Field(default_factory=Parameters, description="Request parameters.")


class Prompt(Model):
    """Bounds on the request body."""

    max_tokens: TokenCap | None = Field(
        default=None, description="Most input tokens of a call of a model, as the gateway counts them."
    )
    max_bytes: Annotated[int, AfterValidator(Positive(2**40))] | None = Field(
        default=None, description="Bytes of a request body; more are answered 413."
    )


class Output(Model):
    """Bounds on the generated output."""

    max_tokens: TokenCap | None = Field(
        default=None, description="Output tokens per choice: a higher or missing number in a request is set to it."
    )


class Request(Model):
    """Bounds on one call."""

    max_spend: Budget | None = Field(
        default=None, description="Most USD that one call of a model may cost at the tier's `price`."
    )


class Timeouts(Model):
    """Deadlines of a call on /v1. Where the model has one, too, the shorter counts."""

    first_byte: Duration | None = Field(default=None, description="Until the answer's head.")
    between: Duration | None = Field(
        default=None,
        description="Between two pieces of an answer; left out, 120s, or first_byte where that is longer.",
    )
    total: Duration | None = Field(default=None, description="For the whole call.")


def _priced(field: str, schema: JsonDict) -> JsonDict:
    """The JSON Schema of a tier that needs a price where `field` has this form."""
    then: JsonDict = {"required": ["price"], "properties": {"price": {"type": "object"}}}
    return {"if": {"required": [field], "properties": {field: schema}}, "then": then}


def _money(field: str) -> JsonDict:
    """The JSON Schema of a record whose `field` is an amount of money."""
    return {"type": "object", "required": [field], "properties": {field: {"type": ["number", "string"]}}}


class TierSpec(Model):
    """The YAML object of a tier."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _priced("limits", {"type": "array", "contains": _money("spend")}),
                _priced("request", _money("max_spend")),
            ]
        }
    )

    limits: Annotated[list[Limit], Field(max_length=MAX_LIMITS)] = Field(
        default=[], description="Bounds that hold together: the strictest decides."
    )
    allow: Allow = Field(default_factory=Allow, description="Gates; left out: all models and features are open.")
    prompt: Prompt = Field(default_factory=Prompt, description="Bounds on the request body.")
    output: Output = Field(default_factory=Output, description="Bounds on the generated output.")
    request: Request = Field(default_factory=Request, description="Bounds on one call.")
    timeouts: Timeouts = Field(default_factory=Timeouts, description="Deadlines.")
    weight: NotYet = Field(default=None, description="Share of a full pool: not supported in this version.")
    reserved_concurrency: NotYet = Field(default=None, description="Guaranteed places: not supported in this version.")
    price: Rates | None = Field(default=None, description="Price for the consumer.")
    durability: Literal["os", "strict"] = Field(
        default="os",
        description="When an answer may end. os: its entry in the ledger survives the death of every process. "
        "strict: it survives a loss of power, too; each answer waits a few milliseconds for the disk.",
    )
    description: Prose | None = Field(default=None, description="A few lines for people.")

    @model_validator(mode="after")
    def _limits_differ(self) -> Self:
        seen: set[str] = set()
        found: list[str | None] = []
        for limit in self.limits:
            counts = limit.meter if limit.burst is None else f"{limit.meter} with burst"
            per = "" if limit.per is None else f" per {limit.per}"
            text = f"two limits on {counts}{per} by {limit.scope} ({limit.mode}): keep one"
            found.append(text if limit.column() in seen else None)
            seen.add(limit.column())
        if any(found):
            raise FieldErrors({"limits": found})
        return self

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Self:
        if self.price is not None:
            return self
        text = "counts money, and the tier has no price: set price, as in {input: 0.30, output: 1.20}"
        found = [{"spend": text} if limit.spend is not None else None for limit in self.limits]
        if any(found):
            raise FieldErrors({"limits": found})
        if self.request.max_spend is not None:
            raise FieldErrors({"request": {"max_spend": text}})
        return self


def _tier_name(value: str) -> str:
    if not value.isascii() or _UUID.match(value):
        raise violation(f"invalid value '{value}': expected ascii, and no UUID: paths take ids, too")
    if value in (".", ".."):
        raise violation(f"invalid value '{value}': a client takes it out of a path")
    return value


TierName = Annotated[
    Name,
    Field(max_length=128),
    AfterValidator(_tier_name),
    shown(pattern=r"^(?!\.\.?$|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$)[A-Za-z0-9._~-]+$"),
]


class Tier(Entity):
    """Headers contain the name, so it is ASCII without spaces."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    name: TierName = Field(description="Unique name.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    spec: TierSpec = Field(default_factory=TierSpec, description="Limits, gates, clamps, deadlines and price.")


KIND = EntityKind(name="tiers", model=Tier, endpoint_key="name", unique=("name",), served=False)

__all__ = [
    "Allow",
    "Limit",
    "Parameters",
    "Tier",
    "TierName",
    "TierSpec",
    "milliseconds_of",
]
