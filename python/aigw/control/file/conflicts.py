"""Conflicts between the file and entities of the Admin API, each with its owner and its repair.

In: the rows that the file would write. Out: `Conflict`s, which become findings at their position in the file. A tier cannot leave the
file while consumers of the Admin API are in it: they could call nothing, and would have no tier when it returns.
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
"""Conflicts in one error. A file that repeats all entities of the Admin API would give one for each."""
NAMED: Final = 3
"""Consumers of a tier that a message names."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One entity that the file cannot write or remove. `origin` is None if the entity left the file."""

    kind: str
    origin: Origin | None
    message: str


class Conflicts(Exception):
    """All conflicts of a file. The caller rolls the transaction back."""

    def __init__(self, found: Sequence[Conflict]) -> None:
        self.found = found
        super().__init__("; ".join(f"{c.origin}: {c.message}" if c.origin else c.message for c in found))


@dataclass(frozen=True, slots=True)
class ConflictBuilder:
    """Makes conflicts whose messages name entities for people. A credential is named by its consumer, because its key is secret.
    `rows` (new and changed consumers of the file) and `name_of_file` map ids of consumers to names; other names are in the store."""

    session: WriteSession
    rows: Mapping[str, Row]
    name_of_file: Callable[[str], str | None]

    def declared_twice(self, kind: str, row: Row, other: Row) -> Conflict:
        """The file declares an entity, a name or a key twice."""
        origin, too = self._place(kind, row), f"is declared by {self._place(kind, other)}, too"
        if kind != _KEYS:
            return Conflict(kind, origin, f"{kind} '{name_of(row.body)}' {too}")
        return Conflict(kind, origin, f"{kind} of {self._owner(row)}: its key {too} ({self._owner(other)})")

    def held_by_admin_api(self, kind: str, column: str, row: Row, other: Row) -> Conflict:
        """An entity of the Admin API has the value of a column that an entity of the file declares."""
        field = {"hash": "key", "scope": "scope"}.get(column, column)
        if kind == _KEYS:
            mine, by = f"of {self._owner(row)}", f"{self._owner(other)} in"
        else:
            name, theirs = name_of(row.body), name_of(other.body)
            mine, by = f"'{name}'", f"'{theirs}' of" if theirs != name else "an entity of"
        text = f"{kind} {mine}: its {field} is held by {by} the Admin API (id {other.id}): remove one of the two"
        return Conflict(kind, self._place(kind, row), text)

    def cuts_off(self, model: Row, route: Row) -> Conflict:
        """With this first model of the file, a route of the Admin API could never be reached."""
        text = (
            f"models '{name_of(model.body)}': with models all below /v1 is theirs, and routes '{name_of(route.body)}' of the"
            f" Admin API (id {route.id}) would never be reached: give it another path, or remove it"
        )
        return Conflict("models", model.origin, text)

    def _place(self, kind: str, row: Row) -> Origin | None:
        """The origin with the line that the file has now."""
        origin = row.origin
        return None if origin is None else origin._replace(line=origin.line + self.session.line_shift(kind))

    def _owner(self, key: Row) -> str:
        owner = key.body["consumer"]["id"]
        row = self.rows.get(owner)
        name = name_of(row.body) if row is not None else self.name_of_file(owner)
        if name is None:
            row = self.session.get("consumers", "id", owner, 0)
            name = owner if row is None else name_of(row.body)
        return f"consumer '{name}'"


def tiers_in_use(session: WriteSession, tiers: Iterable[Row]) -> Iterator[Conflict]:
    """Conflicts for tiers that leave the file while consumers of the Admin API are in them. Consumers of the file must have their new
    tier already. Costs two index lookups for each tier."""
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


def authorities_in_use(session: WriteSession, authorities: Iterable[Row]) -> Iterator[Conflict]:
    """Conflicts for CA certificates that leave the file while a service of the Admin API trusts them. The file's own services are
    written already."""
    for authority in authorities:
        user = session.service_of_ca(authority.id)
        if user is not None:
            yield Conflict(
                "ca_certificates",
                None,
                f"the CA certificate {authority.id} ({authority.origin}) left the file, but services '{name_of(user.body)}' of the Admin API"
                f" (id {user.id}) trusts it: change that service first",
            )
