"""Remarks about an answer: parts of the range that are deleted, and names that the ledger has never seen.

In: a checked query, and the range of its answer. Out: texts for people, each with its repair; the command line writes them to standard
error. A remark is no error: the answer is right for the range that it names.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import sqlalchemy as sa

from aigw.ledger.events import timestamp
from aigw.ledger.labels import APART, numbers_of
from aigw.ledger.query import Filters, PriceFilters
from aigw.ledger.retention import kept_since
from aigw.ledger.tables import events, names, prices

NS: Final = 10**9
_GROWN: Final[Mapping[int, tuple[str, str, str]]] = {
    60: ("entries", "events", "minutes"),
    3600: ("sums by minute", "minutes", "hours"),
    86400: ("sums by hour", "hours", "days"),
}
"""Seconds of a rollup -> the finer rows that are deleted, the setting that keeps them, and the ranges that need none of them."""


def of_names(connection: sa.Connection, wanted: Filters) -> Iterator[str]:
    """Names that select nothing, since no entry and no refusal has them, and the name of a consumer that is deleted."""
    for kind in ("consumer", "model", "tier"):
        text = getattr(wanted, kind)
        if text is None:
            continue
        numbers = numbers_of(connection, kind, text)
        if not numbers:
            yield f"the ledger has no call and no refusal of a {kind} '{text}': check the name"
        c = names.c
        gone = sa.select(c.key).where(c.kind == kind, c.n.in_(numbers), c.gone == 1, c.name == text, c.key != text)
        if kind in APART and (key := connection.scalar(gone)) is not None:
            yield (
                f"the {kind} '{text}' of these calls is deleted (its id was {key}); one made again with this name has no call"
                " and no refusal yet"
            )


def of_owner(connection: sa.Connection, wanted: PriceFilters) -> Iterator[str]:
    """The name of an owner that never had a price."""
    if wanted.owner is None:
        return
    query = sa.select(prices.c.n).where(prices.c.owner == wanted.owner).limit(1)
    kinds = {"cost": ("cost", "model"), "price": ("price", "tier")}
    of, owner = kinds.get(wanted.kind or "", ("price", "model or tier"))
    if connection.scalar(query if wanted.kind is None else query.where(prices.c.kind == wanted.kind)) is None:
        yield f"the ledger has no {of} of a {owner} '{wanted.owner}': check the name"


def span(wanted: Filters, low: int, high: int) -> str:
    """A range in words; without an end where none was asked for."""
    return f"{timestamp(low)} on" if wanted.before is None else f"{timestamp(low)} up to {timestamp(high)}"


def of_sums(connection: sa.Connection, wanted: Filters, low: int, high: int, grown: int) -> Iterator[str]:
    """A range [low, high) in nanoseconds that is longer than the one asked for (`grown`: seconds of the rollup that it was grown to), or
    that begins before the oldest day."""
    if grown:
        rows, setting, whole = _GROWN[grown]
        yield (
            f"these sums are of {span(wanted, low, high)}, longer than asked for, so the next range may count the same"
            f" calls again: {rows} of that time are deleted. Ask for whole {whole}, or keep {rows} longer (ledger.{setting})"
        )
    if low < (gone := kept_since(connection)["86400"] * NS):
        yield f"calls before {timestamp(gone)} are not in these sums: they are deleted (ledger.days)"


def of_refusals(connection: sa.Connection, low: int) -> Iterator[str]:
    """A range that begins before the oldest minute with refusals."""
    if low < (gone := kept_since(connection)["denials"] * NS):
        yield f"refusals before {timestamp(gone)} are not counted: they are deleted (ledger.hours)"


def of_events(connection: sa.Connection, wanted: Filters, after: int) -> Iterator[str]:
    """A page that begins with entries which are deleted; `after`: the number of the event before it."""
    gone = kept_since(connection)["events"]
    oldest = connection.scalar(sa.select(sa.func.min(events.c.n))) or 0
    if oldest > after + 1 and (wanted.after or 0) < gone:
        yield (
            f"entries of this range are deleted (ledger.events, ledger.max_disk): those admitted before {timestamp(gone)} may be missing"
            " here. Their sums stay (aigw usage, GET /usage)"
        )
