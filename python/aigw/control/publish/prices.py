"""The prices of a configuration, for the ledger's versions. Pure.

In: the world that is about to be published. Out: the version of each model's cost and each tier's price.
"""

from collections.abc import Callable, Iterator

from aigw.control.publish.world import World
from aigw.entities.rates import Rates
from aigw.ledger.prices import Owner, Version, version

Note = Callable[[dict[Owner, Version]], None]
"""Stores the versions that come in force. Raises OSError."""


def versions(world: World) -> dict[Owner, Version]:
    """The versions by owner: (`cost`, name of a model), (`price`, name of a tier)."""
    return {owner: version(_body(rates), rates.compiled()) for owner, rates in _rates(world)}


def _rates(world: World) -> Iterator[tuple[Owner, Rates]]:
    for model in world.models.values():
        if model.entity.spec.cost is not None:
            yield ("cost", model.entity.name), model.entity.spec.cost
    for tier in world.tiers.values():
        if tier.entity.spec.price is not None:
            yield ("price", tier.entity.name), tier.entity.spec.price


def _body(rates: Rates) -> dict[str, object]:
    """As a configuration file has it."""
    return rates.model_dump(mode="json", exclude_none=True)


__all__ = ["Note", "versions"]
