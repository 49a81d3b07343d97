"""Numbers -> names for answers, and names -> numbers for filters, from the ledger's own table of names.

In: a connection. Out: texts. A name may belong to several numbers: an entity that was deleted and made again has a new one. Tiers and
models of one name are one, as people mean them. Consumers are not: they pay their own bills, so the name is that of the one that lives,
among deleted ones the newest one's, and another has its id behind its name: `alice (0d7c...)`.
"""

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from aigw.ledger.tables import names

CHUNK = 500
APART = ("consumer",)
"""Kinds whose entities of one name are several."""


class Labels:
    """Names by kind and number, read when they are needed."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str, int], str] = {}

    def read(self, kind: str, numbers: Iterable[int]) -> None:
        """Read the names of these numbers at once."""
        wanted = sorted({n for n in numbers if n and (kind, n) not in self._known})
        for at in range(0, len(wanted), CHUNK):
            part = wanted[at : at + CHUNK]
            holder = names.alias()
            has_it = sa.or_(
                holder.c.gone < names.c.gone, sa.and_(holder.c.gone == names.c.gone, holder.c.n > names.c.n)
            )
            is_anothers = sa.exists().where(holder.c.kind == kind, holder.c.name == names.c.name, has_it)
            apart = is_anothers if kind in APART else sa.false()
            query = sa.select(names.c.n, names.c.key, names.c.name, apart)
            self._known |= dict.fromkeys(((kind, n) for n in part), "")
            for n, key, name, is_apart in self._connection.execute(
                query.where(names.c.kind == kind, names.c.n.in_(part))
            ):
                self._known[kind, n] = f"{name} ({key})" if is_apart and name != key else name

    def of(self, kind: str, n: int) -> str | None:
        """The name; None for number 0."""
        if not n:
            return None
        if (kind, n) not in self._known:
            self.read(kind, (n,))
        return self._known[kind, n] or f"{kind} {n}"


def numbers_of(connection: sa.Connection, kind: str, text: str) -> Collection[int]:
    """The numbers that a name, an id, or a name with its id stands for."""
    c = names.c
    key = text.rpartition(" (")[2].removesuffix(")") if kind in APART and text.endswith(")") else text
    by_key = list(connection.scalars(sa.select(c.n).where(c.kind == kind, c.key == key)))
    holders = sa.select(c.n).where(c.kind == kind, c.name == text).order_by(c.gone, c.n.desc())
    by_name = list(connection.scalars(holders))
    if kind in APART:
        return by_key or by_name[:1]
    return sorted({*by_key, *by_name})
