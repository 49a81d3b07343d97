"""Rows of metrics that an earlier version numbered in the store: one for each tier and model, and for each tier and upstream.

In: the stored numbers. Out: the same rows by the numbers of tiers, models and upstreams, as workers find them since. Read once, before
workers number rows in a data folder.
"""

from aigw.control.publish.compile import ANY_TIER
from aigw.control.publish.numbers import CALLS, Numbers
from aigw.control.publish.world import World
from aigw.control.store.read import StoreReader

SERIES = "series"
Row = tuple[int, int, int]
"""(tier n, model n or upstream's number, row)"""


def rows_of_before(reader: StoreReader, world: World, numbers: Numbers) -> tuple[list[Row], list[Row]]:
    """The rows by tier and model, and those by tier and upstream. An upstream that has no number gets one in `numbers`."""
    tiers = {**reader.numbers("tiers"), **{key: tier.n for key, tier in world.tiers.items()}}
    models = {**reader.numbers("models"), **{key: model.n for key, model in world.models.items()}}
    series = [(key.split("/"), row) for key, row in reader.numbers(SERIES).items()]
    calls = sorted((row, key.split("/", 1)) for key, row in reader.numbers(CALLS).items())
    return (
        [(tiers[t], models[m], row) for (t, m), row in series if t in tiers and m in models],
        [
            (tiers[t], numbers.of(f"{ANY_TIER}/{rest}", CALLS), row)
            for row, (t, rest) in calls
            if t in tiers  # not a number of today, whose first part is no tier
        ],
    )
