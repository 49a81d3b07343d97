"""The questions of `/usage`, `/usage/events`, `/denials` and `/prices`, the same for the Admin API and the command line.

In: a connection and the texts of a query string. Out: JSON: `data`; `next`, true while there is a next page; `notes`, remarks about the
answer for people. Raises `BadQuery`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import sqlalchemy as sa

from aigw.ledger import events, notes, prices
from aigw.ledger import query as q
from aigw.ledger.events import of_request as one_request
from aigw.ledger.offset import Page, Row, offset, offset_text
from aigw.ledger.usage import refusals, usage
from aigw.types import JsonDict

Answering = Callable[[sa.Connection, Mapping[str, str]], JsonDict]


def _paged(
    query: Mapping[str, str],
    digest: str,
    newest: int,
    row: Row,
    page: Callable[[int, int], Page],
) -> tuple[int, JsonDict]:
    """The place that the query goes on from, and the page behind it."""
    after = offset(query, digest, newest, row)
    found = page(after, q.size(query))
    # The last page has an offset, too: a program that polls goes on from it.
    return after, {"data": found.data, "next": found.more or None, "offset": offset_text(found.last, digest, row)}


def _events(connection: sa.Connection, query: Mapping[str, str]) -> JsonDict:
    wanted = q.filters(query, ("size", "offset"))
    row, page = partial(events.identity, connection), partial(events.page, connection, wanted)
    after, answer = _paged(query, wanted.digest(), events.newest(connection), row, page)
    return {**answer, "notes": [*notes.of_names(connection, wanted), *notes.of_events(connection, wanted, after)]}


def _usage(connection: sa.Connection, query: Mapping[str, str]) -> JsonDict:
    return usage(connection, q.filters(query, ("group_by",)), q.grouping(query, q.USAGE_GROUPS))


def _denials(connection: sa.Connection, query: Mapping[str, str]) -> JsonDict:
    return refusals(connection, q.filters(query, ("group_by",)), q.grouping(query, q.DENIAL_GROUPS))


def _prices(connection: sa.Connection, query: Mapping[str, str]) -> JsonDict:
    wanted = q.price_filters(query, ("size", "offset"))
    row, page = partial(prices.identity, connection), partial(prices.page, connection, wanted)
    _, answer = _paged(query, wanted.digest(), prices.newest(connection), row, page)
    return {**answer, "notes": list(notes.of_owner(connection, wanted))}


ANSWERS: Final[Mapping[str, Answering]] = {"usage": _usage, "events": _events, "denials": _denials, "prices": _prices}
"""Name of a question -> the function that answers it."""

__all__ = ["ANSWERS", "Answering", "one_request"]
