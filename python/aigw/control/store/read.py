"""Queries of the store on one connection, which sees one committed state. Out: `Row`s, or tuples where there may be a million."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import sqlalchemy as sa

from aigw.control.store import tables
from aigw.control.store.origin import ReadOnly
from aigw.control.store.rows import (
    DEFAULT_TIER,
    FORMER,
    LEDGER,
    LINE_SHIFT,
    SECTIONS,
    SHIFTED,
    V1,
    Row,
    Sections,
    row_of,
)
from aigw.types import JsonDict


class StoreReader:
    """Queries on one connection. Credentials that expired before `now` (unix seconds) are hidden. Raises StoreError."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def get(self, kind: str, column: str, value: Any, now: int) -> Row | None:
        """The entity whose `column` (id, a unique field, `hash`) has this value."""
        return self.find(kind, {column: value}, now)

    def find(self, kind: str, where: Mapping[str, Any], now: int) -> Row | None:
        """The one entity with these values."""
        table = tables.ENTITIES[kind]
        query = sa.select(table).where(*(table.c[c] == v for c, v in where.items()), *_alive(kind, now))
        record = self.connection.execute(query).one_or_none()
        return None if record is None else row_of(kind, record)

    def page(
        self,
        kind: str,
        now: int,
        size: int,
        after: str = "",
        where: Mapping[str, Any] | None = None,
        tags: "TagFilter | None" = None,
    ) -> list[Row]:
        """Up to `size` entities with an id after `after`, by id."""
        table = tables.ENTITIES[kind]
        query = sa.select(table).where(table.c.id > after, *_alive(kind, now)).order_by(table.c.id).limit(size)
        for column, value in (where or {}).items():
            query = query.where(table.c[column] == value)
        for wanted in tags.conditions(kind, table) if tags is not None else ():
            query = query.where(wanted)
        return [row_of(kind, r) for r in self.connection.execute(query)]

    def those(self, kind: str, where: Mapping[str, Any]) -> list[Row]:
        """The entities with these values, by id: for few."""
        table = tables.ENTITIES[kind]
        query = sa.select(table).where(*(table.c[c] == v for c, v in where.items())).order_by(table.c.id)
        return [row_of(kind, record) for record in self.connection.execute(query)]

    def among(self, kind: str, column: str, values: Collection[str]) -> list[Row]:
        """The entities whose `column` has one of these values: for some thousand."""
        table = tables.ENTITIES[kind]
        records = self.connection.execute(sa.select(table).where(table.c[column].in_(values))) if values else ()
        return [row_of(kind, record) for record in records]

    def service_of_ca(self, key: str) -> Row | None:
        """A service that names this CA certificate."""
        table = tables.services
        query = sa.select(table).where(table.c.body.contains(key, autoescape=True)).order_by(table.c.id)
        found = (row_of(table.name, record) for record in self.connection.execute(query))
        return next((row for row in found if key in (row.body["ca_certificates"] or ())), None)

    def everything(self, kind: str, now: int) -> Iterator[Row]:
        """All entities of a kind, streamed, without an order."""
        table = tables.ENTITIES[kind]
        for record in self.connection.execution_options(yield_per=1000).execute(
            sa.select(table).where(*_alive(kind, now))
        ):
            yield row_of(kind, record)

    def credentials(self, now: int) -> Iterator[list[tuple[int, str, str, bytes, int]]]:
        """(n, id, consumer's id, hmac, expires_at) of every credential, in parts. A join for the consumer's number would search the index
        once for each credential."""
        k = tables.keyauth_credentials
        return self._parts(sa.select(k.c.n, k.c.id, k.c.consumer, k.c.hash, k.c.expires_at).where(*_alive(k.name, now)))

    def consumers(self) -> Iterator[list[tuple[int, str, str | None, str | None, str | None]]]:
        """(n, id, username, custom_id, tier's id) of every consumer, in parts."""
        c = tables.consumers.c
        return self._parts(sa.select(c.n, c.id, c.username, c.custom_id, c.tier))

    def origins(self, kind: str) -> Iterator[tuple[str, str]]:
        """(id, column `origin`) of every entity of a kind of the configuration file in force; there may be a million."""
        c = tables.ENTITIES[kind].c
        for part in self._parts(sa.select(c.id, c.origin).where(c.origin.is_not(None))):
            yield from part

    def line_shift(self, kind: str) -> int:
        """Lines that the origins of a kind stand further down in the file than they say."""
        c = tables.meta.c
        found = self.connection.scalar(sa.select(c.value).where(c.key == LINE_SHIFT)) if kind in SHIFTED else None
        return int(found or 0)

    def must_be_of(self, kind: str, row: Row, *, file: bool = False) -> None:
        """Raises ReadOnly if the Admin API would change an entity of the file."""
        if row.origin is not None and not file:
            raise ReadOnly(row.body, row.origin._replace(line=row.origin.line + self.line_shift(kind)))

    def was_below(self, kind: str, key: str, parents: Mapping[str, str], now: int) -> bool:
        """Whether an entity had this id below these parents until a moment ago (`WriteSession.note_former`)."""
        c = tables.meta.c
        found = self.connection.scalar(sa.select(c.value).where(c.key == f"{FORMER}/{kind}/{key.lower()}"))
        until, _, noted = (found or "0").partition(" ")
        return int(until) > now and parents.items() <= orjson.loads(noted).items()

    def members(self, tier: str) -> Iterator[Row]:
        """The consumers of a tier, by id, streamed."""
        table = tables.consumers
        query = sa.select(table).where(table.c.tier == tier).order_by(table.c.id)
        for record in self.connection.execute(query, execution_options={"yield_per": 1000}):
            yield row_of(table.name, record)

    def groups(self, consumer: str) -> list[str]:
        """Names of the groups that a consumer belongs to."""
        c = tables.acls.c
        return sorted(self.connection.scalars(sa.select(c.group).where(c.consumer == consumer)))

    def all_groups(self) -> dict[str, list[str]]:
        """Names of groups by consumer, for consumers with groups."""
        c = tables.acls.c
        found: dict[str, list[str]] = {}
        for consumer, group in self.connection.execute(sa.select(c.consumer, c.group)):
            found.setdefault(consumer, []).append(group)
        return {consumer: sorted(groups) for consumer, groups in found.items()}

    def default_tier(self) -> str | None:
        """Id of the tier of consumers without a tier."""
        c = tables.meta.c
        found = self.connection.scalar(sa.select(c.value).where(c.key == DEFAULT_TIER))
        return None if found is None else str(found)

    def section(self, name: str) -> JsonDict | None:
        """A section of the file that is a setting of the gateway (`SECTIONS`)."""
        c = tables.meta.c
        found = self.connection.scalar(sa.select(c.value).where(c.key == name))
        return None if found is None else orjson.loads(found)

    def sections(self) -> Sections:
        """All of them."""
        return {name: self.section(name) for name in SECTIONS}

    def v1(self) -> JsonDict | None:
        """The file's `v1`."""
        return self.section(V1)

    def ledger(self) -> JsonDict | None:
        """The file's `ledger`."""
        return self.section(LEDGER)

    def consumer_plugins(self, consumer: str | None = None) -> list[JsonDict]:
        """Bodies of the plugins on one consumer; None: of all plugins on consumers."""
        p = tables.plugins
        scope = p.c.consumer.is_not(None) if consumer is None else p.c.consumer == consumer
        return [orjson.loads(body) for body in self.connection.scalars(sa.select(p.c.body).where(scope))]

    def unscoped_plugins(self) -> list[JsonDict]:
        """Bodies of the plugins on no consumer."""
        p = tables.plugins
        return [
            orjson.loads(body) for body in self.connection.scalars(sa.select(p.c.body).where(p.c.consumer.is_(None)))
        ]

    def columns(self) -> dict[tuple[str, str], int]:
        """(kind, key) -> number of every counter column, unused columns included."""
        c = tables.columns.c
        return {(kind, key): n for kind, key, n in self.connection.execute(sa.select(c.kind, c.key, c.n))}

    def numbers(self, kind: str, beginning: str = "") -> dict[str, int]:
        """Id -> row number of the deleted entities of a kind; of a kind without entities, of all. `beginning`: of the ids."""
        c = tables.row_numbers.c
        query = sa.select(c.id, c.n).where(c.kind == kind, c.id.startswith(beginning, autoescape=True))
        return dict(self._tuples(query))

    def highest_of(self, kind: str) -> int:
        """The highest number of a kind without entities."""
        c = tables.row_numbers.c
        return int(self.connection.scalar(sa.select(sa.func.max(c.n)).where(c.kind == kind)) or 0)

    def consumer_names(self, numbers: Sequence[int]) -> dict[int, str]:
        """Row number -> username, custom id or id of these consumers; those that are gone are left out."""
        c = tables.consumers.c
        query = sa.select(c.n, sa.func.coalesce(c.username, c.custom_id, c.id)).where(c.n.in_(numbers))
        return dict(self._tuples(query))

    def named(self, kind: str, numbers: Collection[int]) -> dict[int, tuple[str, str, bool]]:
        """Row number -> (id, name for people, is deleted) of entities of a kind of the ledger. A deleted entity has the name that it had last,
        or its id."""
        found: dict[int, tuple[str, str, bool]] = {}
        wanted = sorted(numbers)
        for at in range(0, len(wanted), NAMED_AT_ONCE):
            part = wanted[at : at + NAMED_AT_ONCE]
            if (query := _named(kind, part)) is not None:
                found |= {n: (key, name, False) for n, key, name in self.connection.execute(query)}
            c, gone = tables.row_numbers.c, [n for n in part if n not in found]
            retired = sa.select(c.n, c.id, c.name).where(c.kind == _COLLECTIONS.get(kind, kind), c.n.in_(gone))
            is_gone = kind in _COLLECTIONS and kind != "upstream"
            found |= {
                n: (key, name or _shown_key(kind, key), is_gone) for n, key, name in self.connection.execute(retired)
            }
        return found

    def of_file(self, kinds: Iterable[str] = tables.ENTITIES) -> dict[str, dict[str, str]]:
        """Kind -> id -> the column `origin` (`Origin.text`) of every entity of the configuration file in force."""
        found: dict[str, dict[str, str]] = {}
        for kind in kinds:
            table = tables.ENTITIES[kind]
            query = sa.select(table.c.id, table.c.origin).where(table.c.origin.is_not(None))
            found[kind] = dict(self._tuples(query))
        return found

    def _tuples(self, query: sa.Select[Any]) -> list[Any]:
        """All records as tuples of the driver: SQLAlchemy's rows cost more."""
        return [one for part in self._parts(query) for one in part]

    def _parts(self, query: sa.Select[Any]) -> Iterator[list[Any]]:
        """The same, some thousand at a time: there may be a million."""
        return self.raw(str(query.compile(self.connection, compile_kwargs={"literal_binds": True})))

    def raw(self, query: str) -> Iterator[list[Any]]:
        """All records of a query in SQL, as tuples of the driver, `PART` at a time."""
        result = self.connection.exec_driver_sql(query)  # its end would close the cursor
        cursor = result.cursor
        assert cursor is not None
        while part := cursor.fetchmany(PART):
            yield list(part)

    def count(self, table: sa.Table) -> int:
        """The number of rows of a table."""
        return int(self.connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)

    def is_empty(self, table: sa.Table) -> bool:
        """Whether a table has no rows."""
        return self.connection.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) is None

    def highest(self, kind: str) -> int:
        """The highest row number of a kind, deleted entities included."""
        c, table = tables.row_numbers.c, tables.ENTITIES[kind]
        gone = sa.select(sa.func.max(c.n)).where(c.kind == kind)
        return max(int(self.connection.scalar(q) or 0) for q in (gone, sa.select(sa.func.max(table.c.n))))

    def tags(self, size: int, after: tuple[str, str, str], tag: str | None) -> list[tuple[str, str, str]]:
        """Up to `size` of (tag, kind, id), in order, after the given one."""
        c = tables.tags.c
        query = sa.select(c.tag, c.kind, c.id).where(
            sa.tuple_(c.tag, c.kind, c.id) > sa.tuple_(*map(sa.literal, after))
        )
        if tag is not None:
            query = query.where(c.tag == tag)
        return [tuple(r) for r in self.connection.execute(query.order_by(c.tag, c.kind, c.id).limit(size))]


PART: Final = 5000
"""Records that are in memory at once where there may be a million: some megabytes."""
NAMED_AT_ONCE: Final = 500
_COLLECTIONS: Final = {
    "consumer": "consumers", "credential": "keyauth_credentials", "tier": "tiers", "route": "routes", "model": "models",
    "service": "services", "upstream": "calls",
}  # fmt: skip
"""Kind of the ledger -> collection, or kind of `row_numbers`."""


def _named(kind: str, numbers: Sequence[int]) -> sa.Select[Any] | None:
    """(n, id, name) of these entities; None for kinds without a table."""
    table = tables.ENTITIES.get(_COLLECTIONS.get(kind, ""))
    if table is None:
        return None
    c = table.c
    names = [c[name] for name in ("username", "custom_id", "name") if name in c]
    name: sa.ColumnElement[Any] = sa.func.coalesce(*names, c.id) if names else c.id
    if kind == "service":  # an event shows it as the upstream
        name = sa.func.json_extract(c.body, "$.host") + ":" + sa.cast(sa.func.json_extract(c.body, "$.port"), sa.Text)
    return sa.select(c.n, c.id, name).where(c.n.in_(numbers))


def _shown_key(kind: str, key: str) -> str:
    """The name of an entity without a row; the key of an upstream ends with its labels."""
    return key.split("/", 2)[-1] if kind == "upstream" else key


def _alive(kind: str, now: int) -> list[sa.ColumnElement[bool]]:
    if kind != "keyauth_credentials":
        return []
    expires = tables.keyauth_credentials.c.expires_at
    return [sa.or_(expires == 0, expires > now)]


@dataclass(frozen=True, slots=True)
class TagFilter:
    """The query argument `tags`: entities with all of the tags, or with any of them."""

    tags: tuple[str, ...]
    every: bool

    def conditions(self, kind: str, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """Conditions on the entity's table."""
        c = tables.tags.c
        groups: Sequence[tuple[str, ...]] = [(t,) for t in self.tags] if self.every else [self.tags]
        return [table.c.id.in_(sa.select(c.id).where(c.kind == kind, c.tag.in_(group))) for group in groups]
