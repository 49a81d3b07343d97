"""Versions of prices: the cost of each model and the price of each tier, with their times.

In: the prices of a configuration, before it is in force. Out: a row for each version that begins, with its end once another one follows or
the price is taken back; pages of them. The id of a version is the hash of its content, in the same text as `price_version` and
`cost_version` of events, so a row is there before any event can name it. Rows are kept for ever.
"""

import json
import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from aigw._native import PriceList
from aigw.ledger.database import LedgerStore
from aigw.ledger.events import timestamp
from aigw.ledger.names import version_text
from aigw.ledger.offset import Page
from aigw.ledger.query import PriceFilters
from aigw.ledger.tables import prices
from aigw.types import JsonDict

Owner = tuple[str, str]
"""(`cost`, name of a model) or (`price`, name of a tier)."""


class Version(NamedTuple):
    """The content of a price."""

    id: str
    body: JsonDict
    """As configuration files have it, USD per million tokens."""
    compiled: JsonDict
    """As workers have it, nano-dollars per million tokens."""


def version(body: JsonDict, compiled: JsonDict) -> Version:
    """The version with this content."""
    return Version(version_text(PriceList(json.dumps(compiled).encode()).version), body, compiled)


class PriceBook:
    """Writes the versions. Any thread may call it."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._known: dict[Owner, tuple[int, str, int]] | None = None
        """Owner -> number, id and begin of its version in force; None before the first call, and after a fault."""
        self._writing = threading.Lock()

    def note(self, wanted: Mapping[Owner, Version], now: int) -> bool:
        """Store the versions that come in force now (unix nanoseconds), and the end of the others. False: nothing has changed. Raises
        StoreError."""
        with self._writing:
            known = self._known if self._known is not None else self._load()
            new = {owner: v for owner, v in wanted.items() if owner not in known or known[owner][1] != v.id}
            gone = [known[owner] for owner in known if owner not in wanted or owner in new]
            if new or gone:
                self._known = None
                self._store_versions(new, gone, max(now, 1 + max((begin for *_, begin in known.values()), default=0)))
                self._known = self._load()
            return bool(new or gone)

    def _store_versions(self, new: Mapping[Owner, Version], gone: list[tuple[int, str, int]], now: int) -> None:
        with self._store.writing() as connection:
            for n, *_ in gone:
                connection.execute(sa.update(prices).where(prices.c.n == n).values(valid_until=now))
            rows = [
                {"id": v.id, "kind": kind, "owner": owner, "body": json.dumps(v.body), "compiled": json.dumps(v.compiled),
                 "valid_from": now}
                for (kind, owner), v in new.items()
            ]  # fmt: skip
            if rows:
                connection.execute(sa.insert(prices), rows)

    def _load(self) -> dict[Owner, tuple[int, str, int]]:
        with self._store.reading() as connection:
            rows = connection.execute(sa.select(prices).where(prices.c.valid_until.is_(None)))
            self._known = {(row.kind, row.owner): (row.n, row.id, row.valid_from) for row in rows}
        return self._known


def newest(connection: sa.Connection) -> int:
    """The number of the newest version; 0 before the first."""
    return int(connection.scalar(sa.select(sa.func.max(prices.c.n))) or 0)


def identity(connection: sa.Connection, n: int) -> tuple[Any, ...] | None:
    """Owner, content and begin of version `n`."""
    c = prices.c
    found = connection.execute(sa.select(c.kind, c.owner, c.id, c.valid_from).where(c.n == n)).one_or_none()
    return None if found is None else tuple(found)


def page(connection: sa.Connection, wanted: PriceFilters, after: int, size: int) -> Page:
    """Up to `size` versions after number `after`, in the order in which they came in force."""
    c = prices.c
    where: list[sa.ColumnElement[bool]] = [c.n > after]
    if wanted.kind is not None:
        where.append(c.kind == wanted.kind)
    if wanted.owner is not None:
        where.append(c.owner == wanted.owner)
    if wanted.at is not None:
        where += [c.valid_from <= wanted.at, sa.or_(c.valid_until.is_(None), c.valid_until > wanted.at)]
    rows = connection.execute(sa.select(prices).where(*where).order_by(c.n).limit(size + 1)).all()
    shown = [_shown(row) for row in rows[:size]]
    return Page(shown, rows[:size][-1].n if shown else after, len(rows) > size)


def _shown(row: Any) -> JsonDict:
    return {
        "id": row.id,
        "kind": row.kind,
        "owner": row.owner,
        "body": json.loads(row.body),
        "valid_from": timestamp(row.valid_from),
        "valid_until": None if row.valid_until is None else timestamp(row.valid_until),
    }


class KnownPrices:
    """Prices by their version, for entries whose cost nobody could reckon: that of a call whose worker died in its middle."""

    MOST: Final = 256
    """Versions in memory."""

    def __init__(self) -> None:
        self._lists: dict[int, PriceList] = {}

    def of(self, connection: sa.Connection, number: int) -> PriceList | None:
        """The prices with this number; None where the ledger does not know them."""
        if number not in self._lists:
            query = sa.select(prices.c.compiled).where(prices.c.id == version_text(number)).limit(1)
            found = connection.scalar(query)
            if found is None:
                return None
            if len(self._lists) >= self.MOST:
                self._lists.clear()
            self._lists[number] = PriceList(str(found).encode())
        return self._lists[number]


__all__ = ["KnownPrices", "Owner", "Page", "PriceBook", "Version", "identity", "newest", "page", "version"]
