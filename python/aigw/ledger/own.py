"""`GET /v1/usage`: the usage of one consumer by model and day, as the consumer itself may see it.

In: a worker's question: the consumer's number, which the worker has from the caller's key, and the query as the caller wrote it. Out: JSON
with prices and never with costs. Calls on Kong routes have no model. Raises `BadQuery`, which names the parameter.
"""

from typing import Final
from urllib.parse import parse_qsl

import sqlalchemy as sa

from aigw.ledger.query import BadQuery, filters
from aigw.ledger.tables import SUMS
from aigw.ledger.usage import SHOWN, bounds, kept, rows, summed
from aigw.types import JsonDict

MOST_ROWS: Final = 10_000
"""Rows of one answer: 4 MiB. A year of 27 models has as many."""
_PARAMETERS: Final = ("after", "before")
_SUMS: Final = ("requests", "errors", "input", "cached_input", "cache_write", "output", "reasoning", "price")


def own_usage(connection: sa.Connection, consumer: int, query: str) -> JsonDict:
    """The consumer's rows, ordered by day and model."""
    wanted = filters(_parameters(query), of=_PARAMETERS)
    low, high, _ = kept(connection, wanted, "day")
    found = summed(connection, (low, high), ["model"], "day", {"consumer": [consumer]})
    if len(found) > MOST_ROWS:
        raise BadQuery(
            "after", f"the answer has more than {MOST_ROWS} rows: give a shorter range with after and before"
        )
    names = [SHOWN[name] if name in _SUMS else None for name in SUMS]
    data = [{**group.pop("group"), **group} for group in rows(connection, found, ("model", "day"), names)]
    return {"object": "list", "data": data, **bounds(wanted, low, high)}


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in found:
            raise BadQuery(name[:64], "stands twice: send it once")
        found[name] = value
    return found
