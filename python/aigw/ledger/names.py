"""The names of the numbers in entries, kept in the ledger itself, so that it is readable when an entity is gone.

In: numbers of a batch, and `Directory`, which knows the entities of now. Out: rows of `names`, one for each number seen. A renamed entity
gets its new name; a deleted one keeps the name known last, and is marked as gone. Texts of the ledger's own (versions of prices, reasons
of refusals) get numbers here.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple, Protocol

import sqlalchemy as sa

from aigw.ledger.tables import names

ENTITIES: Final = ("consumer", "credential", "tier", "route", "model", "upstream", "service", "agent")
"""Kinds whose numbers come with the entries."""
VERSION: Final = "version"
REASON: Final = "reason"
CHUNK: Final = 500
"""Names of one query: SQLite takes at most 999 parameters in its oldest builds."""

PARTS: Final = 16
"""Queries of one refresh: 8,000 names, in less than 0.1 s."""


class Named(NamedTuple):
    """The name behind a number."""

    key: str
    """The entity's id."""
    name: str
    gone: bool = False
    """The entity is deleted."""


def version_text(number: int) -> str:
    """The id of a version of prices, from the number that entries have: one text everywhere."""
    return f"{number:016x}"


class Directory(Protocol):
    """The entities of now."""

    def version(self) -> int:
        """A number that changes when a name may have changed."""

    def lookup(self, kind: str, numbers: Collection[int]) -> Mapping[int, Named]:
        """The names of these numbers of a kind of `ENTITIES`. An entity of which nothing is known is left out. Raises StoreError."""


class Unnamed:
    """A directory without entities."""

    def version(self) -> int:
        return 0

    def lookup(self, kind: str, numbers: Collection[int]) -> Mapping[int, Named]:
        return {}


class Names:
    """The rows of `names` in memory: which numbers have one. Belongs to the writer of the ledger."""

    def __init__(self, directory: Directory, reasons: Iterable[str]) -> None:
        self._directory = directory
        self._reasons = list(reasons)
        self._known: dict[str, set[int]] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._refreshed = -1
        self._refresh: Iterator[tuple[str, list[int]]] | None = None

    def load(self, connection: sa.Connection) -> None:
        """Read the rows, at start and after a failed transaction."""
        self._known = {kind: set() for kind in ENTITIES}
        self._numbers = {VERSION: {}, REASON: {}}
        self._refresh, self._refreshed = None, -1
        for kind, n, key in connection.execute(sa.select(names.c.kind, names.c.n, names.c.key)):
            if kind in self._numbers:
                self._numbers[kind][key] = n
            else:
                self._known.setdefault(kind, set()).add(n)

    def meet(self, connection: sa.Connection, kind: str, numbers: set[int]) -> None:
        """Store the names of numbers that are new."""
        new = numbers - self._known[kind] - {0}
        if not new:
            return
        found = self._directory.lookup(kind, new)
        _put(connection, kind, {n: found.get(n, Named(f"{kind} {n}", f"{kind} {n}", gone=True)) for n in new})
        self._known[kind] |= new

    def number(self, connection: sa.Connection, kind: str, text: str) -> int:
        """The number of a text of the ledger's own."""
        known = self._numbers[kind]
        n = known.get(text)
        if n is None:
            n = max(known.values(), default=0) + 1
            _put(connection, kind, {n: Named(text, text)})
            known[text] = n
        return n

    def reason(self, connection: sa.Connection, index: int) -> int:
        """The number of a refusal's reason. The index counts in this version's table; the stored code outlives versions."""
        code = self._reasons[index] if 0 <= index < len(self._reasons) else f"reason {index}"
        return self.number(connection, REASON, code)

    @property
    def is_stale(self) -> bool:
        """Whether names may have changed since they were read."""
        return self._refresh is not None or self._directory.version() != self._refreshed

    def refresh(self, connection: sa.Connection) -> None:
        """Take over changed names of the next `PARTS` times `CHUNK` numbers. `is_stale` ends with the last of them."""
        if self._refresh is None:
            self._refreshed = self._directory.version()
            self._refresh = _chunks({kind: sorted(known) for kind, known in self._known.items()})
        for _ in range(PARTS):
            part = next(self._refresh, None)
            if part is None:
                self._refresh = None
                return
            self._take_over(connection, *part)

    def _take_over(self, connection: sa.Connection, kind: str, numbers: list[int]) -> None:
        c = names.c
        query = sa.select(c.n, c.key, c.name, c.gone).where(c.kind == kind, c.n.in_(numbers))
        found = self._directory.lookup(kind, numbers)
        changed = {}
        for n, key, name, gone in connection.execute(query):
            stored = Named(key, name, bool(gone))
            named = found.get(n, stored._replace(gone=True))
            # Of an entity that is gone only the id may be known by now; the name known last stays. A new id is a new name.
            named = named._replace(name=name) if named.name == named.key == key else named
            if named != stored:
                changed[n] = named
        _put(connection, kind, changed)


def _chunks(known: Mapping[str, list[int]]) -> Iterator[tuple[str, list[int]]]:
    for kind, numbers in known.items():
        rest = iter(numbers)
        while part := list(islice(rest, CHUNK)):
            yield kind, part


def _put(connection: sa.Connection, kind: str, found: Mapping[int, Named]) -> None:
    rows = [(kind, n, key, name, int(gone)) for n, (key, name, gone) in found.items()]
    if rows:
        connection.exec_driver_sql(
            "INSERT OR REPLACE INTO names (kind, n, key, name, gone) VALUES (?, ?, ?, ?, ?)", rows
        )
