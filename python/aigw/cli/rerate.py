"""Re-rating: recorded tokens at the prices of another file. Pure: it reads entries and writes nothing.

In: entries as `/usage/events` has them, and the prices of a file's tiers and models, matched by name. Out: sums by group of the recorded and
of the re-rated cost and price. The arithmetic is the workers', so the file that was in force gives the recorded amounts exactly. An entry
whose tier or model the file lacks keeps its recorded price or cost, and is counted by that name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aigw._native import PriceList, service_tiers
from aigw.config import Prices
from aigw.entities.rates import Rates
from aigw.errors import ConfigError
from aigw.ledger.query import USAGE_GROUPS as GROUPS
from aigw.ledger.query import BadQuery, grouping
from aigw.ledger.source import COUNTED, CRASHED, OUTCOMES, SOURCES
from aigw.types import JsonDict

SUMS: Final = (
    "requests", "cost_nanodollars", "rerated_cost_nanodollars", "cost_difference_nanodollars", "price_nanodollars",
    "rerated_price_nanodollars", "price_difference_nanodollars", "unpriced", "rerated_unpriced", "kept",
)  # fmt: skip
"""Sums of a row. `kept`: entries whose tier or model the file lacks."""
MOST: Final = 2**48 - 1
"""The largest amount that the ledger keeps of one entry."""
_CLASSES: Final = (
    "input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens", "reasoning_tokens", "image_input_tokens",
    "audio_input_tokens", "image_output_tokens", "audio_output_tokens",
)  # fmt: skip
_SERVICE_TIERS: Final = dict(service_tiers())
_OUTCOMES: Final = {word: n for n, word in enumerate(OUTCOMES)}
_SOURCES: Final = {word: n for n, word in enumerate(SOURCES)}
_SHARES: Final = {"minute": (16, ":00Z"), "hour": (13, ":00:00Z"), "day": (10, ""), "month": (7, "")}
"""Time group -> characters of `admitted_at` that name it, and their end."""
_UNKNOWN: Final = "unknown"

Lists = Mapping[str, PriceList | None]
"""Name of a tier or model -> its prices; None: it has none."""


class Rerating:
    """Sums of entries at recorded and at other prices."""

    def __init__(self, file: Prices, groups: Sequence[str]) -> None:
        """Raises ConfigError for an unknown group."""
        try:
            self.groups = grouping({"group_by": ",".join(groups)}, GROUPS)
        except BadQuery as error:
            raise ConfigError(str(error)) from None
        self._of_tiers = {name: _list(rates) for name, rates in file.tiers.items()}
        self._of_models = {name: _list(rates) for name, rates in file.models.items()}
        self._sums: dict[tuple[str | None, ...], Counter[str]] = {}
        self.lacking: Counter[tuple[str, str]] = Counter()
        """(`tier` or `model`, name that the file lacks) -> entries."""

    def add(self, events: Sequence[JsonDict]) -> None:
        """Add a page of entries."""
        rows = [_columns(event) for event in events]
        prices = _worths(self._of_tiers, [e["tier"] if e["model"] is not None else None for e in events], rows)
        costs = _worths(self._of_models, [e["model"] for e in events], rows)
        for event, price, cost in zip(events, prices, costs, strict=True):
            key = tuple(_group(event, word) for word in self.groups)
            self._count(self._sums.setdefault(key, Counter()), event, price, cost)

    def _count(self, sums: Counter[str], event: JsonDict, price: int | str | None, cost: int | str | None) -> None:
        lacks = [kind for kind, found in (("tier", price), ("model", cost)) if found == _UNKNOWN]
        for kind in lacks:
            self.lacking[kind, event[kind]] += 1
        recorded_price, recorded_cost = event["price_nanodollars"], event["cost_nanodollars"]
        new_price = recorded_price if isinstance(price, str) else price or 0
        new_cost = recorded_cost if isinstance(cost, str) else cost
        has_model = event["model"] is not None
        sums["requests"] += 1
        sums["kept"] += bool(lacks)
        sums["price_nanodollars"] += recorded_price
        sums["rerated_price_nanodollars"] += new_price
        sums["cost_nanodollars"] += recorded_cost or 0
        sums["rerated_cost_nanodollars"] += new_cost or 0
        sums["unpriced"] += has_model and recorded_cost is None
        sums["rerated_unpriced"] += has_model and new_cost is None

    @property
    def count(self) -> int:
        """Entries so far."""
        return sum(sums["requests"] for sums in self._sums.values())

    def rows(self) -> list[JsonDict]:
        """The sums by group, ordered by time and name."""
        time = next((place for place, word in enumerate(self.groups) if word in _SHARES), None)

        def order(key: tuple[str | None, ...]) -> tuple[tuple[bool, str], ...]:
            first = () if time is None else (key[time],)
            return tuple((part is not None, part or "") for part in (*first, *key))

        return [self._row(key, self._sums[key]) for key in sorted(self._sums, key=order)]

    def _row(self, key: tuple[str | None, ...], sums: Counter[str]) -> JsonDict:
        for of in ("cost", "price"):
            sums[f"{of}_difference_nanodollars"] = sums[f"rerated_{of}_nanodollars"] - sums[f"{of}_nanodollars"]
        return {"group": dict(zip(self.groups, key, strict=True)), **{name: sums[name] for name in SUMS}}


def _list(rates: Rates | None) -> PriceList | None:
    return None if rates is None else rates.price_list()


def _columns(event: JsonDict) -> tuple[int, ...]:
    """As `PriceList.worth` takes them."""
    return (
        COUNTED if event["counted"] else 0,
        _OUTCOMES.get(event["outcome"], CRASHED),
        _SOURCES.get(event["usage_source"], 0),
        *(event[name] for name in _CLASSES),
        _SERVICE_TIERS.get(event["service_tier"], 0),
    )


def _worths(lists: Lists, names: Sequence[str | None], rows: Sequence[tuple[int, ...]]) -> list[int | str | None]:
    """Of each row: nano-dollars; None without prices, or for a call of no model; `_UNKNOWN` where the name is not in `lists`."""
    found: list[int | str | None] = [None] * len(rows)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name is not None:
            places.setdefault(name, []).append(place)
    for name, of in places.items():
        prices = lists.get(name)
        values: Iterable[int | str | None] = (None if name in lists else _UNKNOWN for _ in of)
        if prices is not None:
            values = (min(worth, MOST) for worth in prices.worth([rows[place] for place in of]))
        for place, value in zip(of, values, strict=True):
            found[place] = value
    return found


def _group(event: JsonDict, word: str) -> str | None:
    if word not in _SHARES:
        name: str | None = event[word]
        return name
    length, end = _SHARES[word]
    return f"{event['admitted_at'][:length]}{end}"
