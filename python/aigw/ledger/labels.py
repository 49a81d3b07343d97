"""Numbers -> names for answers, and names -> numbers for filters, from the ledger's own table of names.

In: a connection. Out: texts. A name may belong to several numbers: an entity that was deleted and made again has a new one.
"""

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from aigw.ledger.tables import names

CHUNK = 500


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
            query = sa.select(names.c.n, names.c.name).where(names.c.kind == kind, names.c.n.in_(part))
            self._known |= dict.fromkeys(((kind, n) for n in part), "")
            self._known |= {(kind, n): name for n, name in self._connection.execute(query)}

    def of(self, kind: str, n: int) -> str | None:
        """The name; None for number 0."""
        if not n:
            return None
        if (kind, n) not in self._known:
            self.read(kind, (n,))
        return self._known[kind, n] or f"{kind} {n}"


def numbers_of(connection: sa.Connection, kind: str, text: str) -> Collection[int]:
    """The numbers with this name, or with this id."""
    c = names.c
    query = sa.select(c.n).where(c.kind == kind, sa.or_(c.name == text, c.key == text))
    return list(connection.scalars(query))
