"""What the file declares and what the Admin API holds, where the two do not fit: each with its owner and its repair.

In: what the file is about to do to the store. Out: `Conflict`s, for a finding at the place in the file. A tier that leaves
the file while the Admin API's consumers are in it is one: without it they could call nothing, and would not be in it when
it is back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from aigw.control.store import tables
from aigw.control.store.origin import Origin, name_of
from aigw.control.store.rows import Row, row_of
from aigw.control.store.write import WriteSession

_KEYS: Final = "keyauth_credentials"
MOST: Final = 1000
"""Conflicts that are told at once: of a whole file that the Admin API holds already, each would be one."""
NAMED: Final = 3
"""Consumers of a tier that are told by name."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One entity that cannot be what the file says. `origin` is None when it left the file."""

    kind: str
    origin: Origin | None
    message: str


class Conflicts(Exception):
    """What the file declares and what others hold do not fit. Nothing may be kept of the attempt."""

    def __init__(self, found: Sequence[Conflict]) -> None:
        self.found = found
        super().__init__("; ".join(f"{c.origin}: {c.message}" if c.origin else c.message for c in found))


@dataclass(frozen=True, slots=True)
class ConflictBuilder:
    """Tells entities that clash by what people call them. A key is told by its consumer: itself is secret, and its id says nothing.
    `rows` (new and changed consumers of the file) and `name_of_file` know consumers by id; the others are in the store."""

    session: WriteSession
    rows: Mapping[str, Row]
    name_of_file: Callable[[str], str | None]

    def declared_twice(self, kind: str, row: Row, other: Row) -> Conflict:
        """Two of the file are one."""
        too = f"is declared by {other.origin}, too"
        if kind != _KEYS:
            return Conflict(kind, row.origin, f"{kind} '{name_of(row.body)}' {too}")
        return Conflict(kind, row.origin, f"{kind} of {self._owner(row)}: its key {too} ({self._owner(other)})")

    def held_by_admin_api(self, kind: str, column: str, row: Row, other: Row) -> Conflict:
        """The Admin API has what one of the file is to have."""
        field = {"hash": "key", "scope": "scope"}.get(column, column)
        if kind == _KEYS:
            mine, by = f"of {self._owner(row)}", f"{self._owner(other)} in"
        else:
            name, theirs = name_of(row.body), name_of(other.body)
            mine, by = f"'{name}'", f"'{theirs}' of" if theirs != name else "an entity of"
        text = f"{kind} {mine}: its {field} is held by {by} the Admin API (id {other.id}): remove one of the two"
        return Conflict(kind, row.origin, text)

    def _owner(self, key: Row) -> str:
        owner = key.body["consumer"]["id"]
        row = self.rows.get(owner)
        name = name_of(row.body) if row is not None else self.name_of_file(owner)
        if name is None:
            row = self.session.get("consumers", "id", owner, 0)
            name = owner if row is None else name_of(row.body)
        return f"consumer '{name}'"


def tiers_in_use(session: WriteSession, tiers: Iterable[Row]) -> Iterator[Conflict]:
    """Tiers that leave the file while consumers are in them. The file's own are in others by now, so these are the Admin
    API's. Two looks at an index for each tier, however many consumers there are."""
    c = tables.consumers
    for tier in tiers:
        count = session.connection.scalar(sa.select(sa.func.count()).where(c.c.tier == tier.id)) or 0
        if not count:
            continue
        query = sa.select(c).where(c.c.tier == tier.id).limit(NAMED)
        some = [name_of(row_of(c.name, record).body) for record in session.connection.execute(query)]
        names = ", ".join(f"'{name}'" for name in some) + (", ..." if count > NAMED else "")
        one = count == 1
        yield Conflict(
            "tiers",
            None,
            f"tiers '{name_of(tier.body)}' ({tier.origin}) left the file, but {count} {'consumer' if one else 'consumers'}"
            f" of the Admin API {'is' if one else 'are'} in it ({names}): keep the tier, or move {'it' if one else 'them'} first"
            " (curl -X POST :8001/consumers/NAME/consumer_groups -d group=TIER)",
        )
