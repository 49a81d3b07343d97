"""The checks of token and spend limits that need the file: a tier's limits against the models that it allows.

In: a checked file. Out: an error for each limit that no chat call could ever pass, since the template alone is above it; a warning
for each limit whose calls have no output cap, or no price. 0 is a limit's own word for "none", so it is no finding.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from aigw.config.finding import Path
from aigw.config.patterns import Names
from aigw.config.source import Source
from aigw.entities.model import ModelSpec
from aigw.entities.rates import nano_dollars
from aigw.entities.tier import Limit, TierSpec

_OF_OUTPUT: Final = ("tokens", "output_tokens", "spend")
"""Meters that a longer answer uses more of."""


def check_budgets(source: Source, models: Mapping[str, ModelSpec], tiers: Mapping[str, TierSpec]) -> None:
    """Add an error for each bound that is below the smallest chat call of every model that its tier allows."""
    known = _Allowed(models)
    for name, tier in tiers.items():
        bounds = list(_bounds(tier))
        allowed = list(known.of(tier).values()) if bounds else []
        if not allowed:
            continue
        least = _least(tier, allowed)
        for path, meter, bound in bounds:
            if 0 < bound < least[meter]:
                source.add(("tiers", name, *path), _text(meter, least[meter]))


def warn_budgets(source: Source, models: Mapping[str, ModelSpec], tiers: Mapping[str, TierSpec]) -> None:
    """Add a warning for each limit that reserves whole budgets, or that counts only zeros."""
    known = _Allowed(models)
    for name, tier in tiers.items():
        is_capped = tier.output.max_tokens is not None or not any(limit.meter in _OF_OUTPUT for limit in tier.limits)
        uncapped = [] if is_capped else _uncapped(known.of(tier))
        free = tier.price is not None and tier.price.is_free()
        for index, limit in enumerate(tier.limits):
            path: Path = ("tiers", name, "limits", index, limit.meter)
            if uncapped and limit.meter in _OF_OUTPUT:
                most = "all that is left" if limit.burst is None else "the whole burst"
                text = (
                    f"a call of {_listed(uncapped)} may reserve {most}, since nothing caps its output: set"
                    " output.max_tokens of the tier, or max_output_tokens of the model"
                )
                source.warn(path, text)
            if free and limit.meter == "spend":
                source.warn(path, "every price of the tier is 0: this limit is never reached")


def _bounds(tier: TierSpec) -> Iterator[tuple[Path, str, int]]:
    """Position, meter and amount of each bound that refuses; money in nano-dollars."""
    for index, limit in enumerate(tier.limits):
        if limit.meter not in ("requests", "concurrency") and limit.mode == "enforce":
            yield ("limits", index, limit.meter if limit.burst is None else "burst"), limit.meter, _amount(limit)
    if tier.prompt.max_tokens is not None:
        yield ("prompt", "max_tokens"), "input_tokens", tier.prompt.max_tokens
    if tier.request.max_spend is not None:
        yield ("request", "max_spend"), "spend", nano_dollars(tier.request.max_spend)


def _amount(limit: Limit) -> int:
    """The most that one call may use."""
    return int(limit.fields["amount"]) if limit.burst is None else limit.burst


def _least(tier: TierSpec, models: Iterable[ModelSpec]) -> dict[str, int]:
    """The amounts of the smallest chat call: one message without text, and one token of an answer."""
    prompt = min(spec.template.per_request + spec.template.per_message for spec in models)
    spend = 0
    if tier.price is not None:
        spend = tier.price.price_list().bound(prompt, 1)
    return {"tokens": prompt + 1, "input_tokens": prompt, "output_tokens": 1, "spend": spend}


def _text(meter: str, least: int) -> str:
    if meter == "spend":
        amount = f"{least / 10**9:.9f}".rstrip("0").rstrip(".")
        return f"no chat call could ever pass: the smallest one reserves {amount} USD at the tier's price"
    what = "template of the tier's models and one token of an answer take" if meter == "tokens" else "template takes"
    return f"no chat call could ever pass: the {what} {least} tokens"


class _Allowed:
    """The models that calls of a tier may name, found once for all tiers that allow the same."""

    def __init__(self, models: Mapping[str, ModelSpec]) -> None:
        self._models = models
        self._known: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, ModelSpec]] = {}

    def of(self, tier: TierSpec) -> Mapping[str, ModelSpec]:
        key = tuple(tier.allow.models), tuple(tier.allow.features)
        found = self._known.get(key)
        if found is None:
            names, features = map(Names, key)
            found = self._known[key] = {
                name: spec
                for name, spec in self._models.items()
                if name in names and all(feature in features for feature in spec.features)
            }
        return found


def _uncapped(allowed: Mapping[str, ModelSpec]) -> list[str]:
    return [name for name, spec in allowed.items() if spec.max_output_tokens is None]


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


__all__ = ["check_budgets", "warn_budgets"]
