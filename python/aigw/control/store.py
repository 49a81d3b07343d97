"""Where entities are kept: SQLite in WAL by SQLAlchemy Core. In: checked entities. Out: their rows, and what changed.

Writes go through `Writing`, which only the writer thread holds, inside one transaction for a whole group of changes;
each change has its own savepoint. Reads take their own connection and see the last committed state.
What the configuration file declares is changed by the file only (`ReadOnly`); `bulk` writes it.
The store knows no HTTP and no snapshot; keys reach it as HMACs only.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson
import sqlalchemy as sa

from aigw.control import tables
from aigw.control.entities import KINDS, Kind
from aigw.control.origin import Origin, ReadOnly, content_hash
from aigw.errors import ConfigError, StoreError
from aigw.types import JsonDict

BUSY_SECONDS: Final = 5
CACHE_KIB: Final = 2000
LARGE_CACHE_KIB: Final = 256 * 1024
"""Most that one large transaction may hold in memory."""
_REPAIRS: Final = {
    "SQLITE_FULL": "; free some space on that disk",
    "SQLITE_CORRUPT": "; restore it from a backup",
    "SQLITE_NOTADB": "; restore it from a backup",
}


class Row(NamedTuple):
    """One entity as it is kept. `body` is the entity's JSON (a credential's has no key); `n` is 0 for kinds without one."""

    id: str
    n: int
    body: JsonDict
    hash: bytes = b""
    expires_at: int = 0
    tier: str | None = None
    """Of a consumer: the id of its tier."""
    origin: Origin | None = None
    """Where the configuration file declares it; None for what the Admin API made."""


SETTINGS: Final = "settings"
"""The kind of a change to a setting of the whole gateway: it has no rows."""
DEFAULT_TIER: Final = "default_tier"


class Change(NamedTuple):
    """What one write did to one entity: None before it existed, None after it is gone."""

    kind: str
    before: Row | None
    after: Row | None


class UniqueViolation(Exception):
    """Another entity has this value. `fields` are Kong's: the field, or a plugin's name and scope."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        super().__init__(str(fields))


class Referenced(Exception):
    """Another entity holds this one in place."""

    def __init__(self, by: str) -> None:
        self.by = by
        super().__init__(by)


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        repair = _REPAIRS.get(getattr(error.orig, "sqlite_errorname", ""), "")
        raise StoreError(
            f"the store {path} cannot be used: {error.orig}; nothing of this was changed{repair}"
        ) from error


class Store:
    """The open store. Thread-safe for reads; `writing` must be entered by one thread only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        url = sa.URL.create("sqlite", database=str(path))
        self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(self._engine, "connect", _configure)
        # Transactions are begun by SQLAlchemy, not by the driver: savepoints need that (and a writer asks at once).
        sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        with _readable_errors(path):
            self._prepare()
            with self._engine.connect() as connection:
                query = sa.select(tables.meta.c.value).where(tables.meta.c.key == "store_id")
                self.store_id: Final = str(connection.scalar(query))

    def _prepare(self) -> None:
        with self._engine.begin() as connection:
            names = set(sa.inspect(connection).get_table_names())
            found = (
                connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
                if "alembic_version" in names
                else None
            )
            if found == tables.HEAD:
                return
            if not names:
                # A new store needs no history: the tables as they are now, stamped. Saves importing alembic.
                tables.metadata.create_all(connection)
                connection.exec_driver_sql(
                    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
                )
                connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (tables.HEAD,))
            else:
                migrate(connection, self._path, found)
            connection.execute(sqlite_insert_or_ignore(tables.meta, {"key": "store_id", "value": str(uuid4())}))

    @contextmanager
    def reading(self) -> Iterator["Reading"]:
        """A consistent view. Raises StoreError."""
        with _readable_errors(self._path), self._engine.connect() as connection:
            yield Reading(connection)

    @contextmanager
    def writing(self) -> Iterator["Writing"]:
        """One transaction, durable when the block ends without an exception. Raises StoreError."""
        with _readable_errors(self._path), self._engine.connect() as connection:
            writing = Writing(connection)
            try:
                yield writing
                writing.commit()
            finally:
                writing.rest()

    def keep(self, key: str, value: str) -> bool:
        """Remember a fact of this folder, once; False when another one is remembered. Raises StoreError."""
        meta = tables.meta.c
        with _readable_errors(self._path), self._engine.begin() as connection:
            known = connection.scalar(sa.select(meta.value).where(meta.key == key))
            if known is None:
                connection.execute(sa.insert(tables.meta).values(key=key, value=value))
        return known in (None, value)

    def close(self) -> None:
        """Let go of the files."""
        self._engine.dispose()


def _configure(raw: sqlite3.Connection, _: object) -> None:
    raw.isolation_level = None
    cursor = raw.cursor()
    # FULL: an answered write survives a power loss; the group commit shares its fsync.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(connection: sa.Connection, path: Path, found: str | None) -> None:
    """Bring an older store to HEAD. Raises ConfigError when it was made by a newer version."""
    from alembic import command  # noqa: PLC0415  (half a second that a store at HEAD need not pay)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"{path} is at schema revision {found}, which this version does not know: use the version that made it ({error})"
        ) from error


def sqlite_insert_or_ignore(table: sa.Table, values: Mapping[str, Any]) -> sa.Insert:
    """Insert that leaves an existing row alone."""
    return sa.insert(table).prefix_with("OR IGNORE").values(**values)


def row_of(kind: str, record: Any) -> Row:
    """An entity from its table's record."""
    secret = kind == "keyauth_credentials"
    return Row(
        record.id,
        record.n if KINDS[kind].numbered else 0,
        orjson.loads(record.body),
        record.hash if secret else b"",
        record.expires_at if secret else 0,
        record.tier if kind == "consumers" else None,
        Origin.parse(record.origin) if record.origin else None,
    )


_TEXTS: Final = {
    kind: tuple(c for c in ("name", "username", "custom_id", "instance_name", "group") if c in table.c)
    for kind, table in tables.ENTITIES.items()
}
"""Fields of the body that have a column of their own."""


def columns_of(kind: Kind, row: Row) -> JsonDict:
    """What an entity's record holds."""
    body = row.body
    values: JsonDict = {
        "id": row.id,
        "body": orjson.dumps(body).decode(),
        "origin": row.origin.text() if row.origin else None,
    }
    if kind.numbered:
        values["n"] = row.n
    for name in _TEXTS[kind.name]:
        values[name] = body[name]
    for name in kind.foreign:
        values[name] = body[name]["id"] if body[name] else None
    if kind.name == "keyauth_credentials":
        values["hash"], values["expires_at"] = row.hash, row.expires_at
    elif kind.name == "consumers":
        values["tier"] = row.tier
    elif kind.name == "plugins":
        values["scope"] = scope_of(body)
    return values


class Reading:
    """Queries on one connection. `now` (unix seconds) hides credentials that have run out."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def get(self, kind: str, column: str, value: Any, now: int) -> Row | None:
        """The entity whose `column` (id, a unique field, `hash`) has this value."""
        return self.find(kind, {column: value}, now)

    def find(self, kind: str, where: Mapping[str, Any], now: int) -> Row | None:
        """The entity that has these values, which no other has."""
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

    def everything(self, kind: str, now: int) -> Iterator[Row]:
        """All entities of a kind, in no order, streamed."""
        table = tables.ENTITIES[kind]
        for record in self.connection.execution_options(yield_per=1000).execute(
            sa.select(table).where(*_alive(kind, now))
        ):
            yield row_of(kind, record)

    def credentials(self, now: int) -> list[tuple[int, str, int, bytes, int]]:
        """(n, id, consumer's n, hmac, expires_at) of every credential: what the snapshot needs, and no JSON."""
        c, k = tables.consumers, tables.keyauth_credentials
        query = sa.select(k.c.n, k.c.id, c.c.n, k.c.hash, k.c.expires_at).join(c, c.c.id == k.c.consumer)
        return [tuple(r) for r in self.connection.execute(query.where(*_alive(k.name, now)))]

    def consumers(self) -> list[tuple[int, str, str | None, str | None, str | None]]:
        """(n, id, username, custom_id, tier's id) of every consumer."""
        c = tables.consumers.c
        query = sa.select(c.n, c.id, c.username, c.custom_id, c.tier)
        return [tuple(r) for r in self.connection.execute(query)]

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
        """The same of every consumer that belongs to any."""
        c = tables.acls.c
        found: dict[str, list[str]] = {}
        for consumer, group in self.connection.execute(sa.select(c.consumer, c.group)):
            found.setdefault(consumer, []).append(group)
        return {consumer: sorted(groups) for consumer, groups in found.items()}

    def default_tier(self) -> str | None:
        """Id of the tier of consumers that have none."""
        c = tables.meta.c
        found = self.connection.scalar(sa.select(c.value).where(c.key == DEFAULT_TIER))
        return None if found is None else str(found)

    def consumer_plugins(self, consumer: str | None = None) -> list[JsonDict]:
        """Bodies of the plugins on one consumer, or on any."""
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
        """(kind, key) -> number of every counter column there ever was."""
        c = tables.columns.c
        return {(kind, key): n for kind, key, n in self.connection.execute(sa.select(c.kind, c.key, c.n))}

    def numbers(self, kind: str) -> dict[str, int]:
        """Id -> row number of everything of a kind that ever was."""
        c = tables.row_numbers.c
        rows = self.connection.execute(sa.select(c.id, c.n).where(c.kind == kind))
        return {r.id: r.n for r in rows}

    def of_file(self) -> dict[str, dict[str, Origin]]:
        """Kind -> id -> where the configuration file declared it when it was applied last, and its content hash."""
        found: dict[str, dict[str, Origin]] = {}
        for kind, table in tables.ENTITIES.items():
            query = sa.select(table.c.id, table.c.origin).where(table.c.origin.is_not(None))
            found[kind] = {key: Origin.parse(text) for key, text in self.connection.execute(query)}
        return found

    def highest(self, kind: str) -> int:
        """The highest row number given so far."""
        c = tables.row_numbers.c
        return int(self.connection.scalar(sa.select(sa.func.max(c.n)).where(c.kind == kind)) or 0)

    def tags(self, size: int, after: tuple[str, str, str], tag: str | None) -> list[tuple[str, str, str]]:
        """(tag, kind, id), ordered, after the given one."""
        c = tables.tags.c
        query = sa.select(c.tag, c.kind, c.id).where(
            sa.tuple_(c.tag, c.kind, c.id) > sa.tuple_(*map(sa.literal, after))
        )
        if tag is not None:
            query = query.where(c.tag == tag)
        return [tuple(r) for r in self.connection.execute(query.order_by(c.tag, c.kind, c.id).limit(size))]


def _alive(kind: str, now: int) -> list[sa.ColumnElement[bool]]:
    if kind != "keyauth_credentials":
        return []
    expires = tables.keyauth_credentials.c.expires_at
    return [sa.or_(expires == 0, expires > now)]


@dataclass(frozen=True, slots=True)
class TagFilter:
    """`?tags=`: all of them, or any of them."""

    tags: tuple[str, ...]
    every: bool

    def conditions(self, kind: str, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """As conditions on the entity's table."""
        c = tables.tags.c
        groups: Sequence[tuple[str, ...]] = [(t,) for t in self.tags] if self.every else [self.tags]
        return [table.c.id.in_(sa.select(c.id).where(c.kind == kind, c.tag.in_(group))) for group in groups]


class Writing(Reading):
    """The writer's hand. Collects a `Change` for everything it did, also for what a deletion took along."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection)
        self.changes: list[Change] = []
        self._much = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """One write of the group: when it raises, it alone is undone."""
        kept = len(self.changes)
        try:
            with self.connection.begin_nested():
                yield
        except BaseException:
            del self.changes[kept:]
            raise

    def put(
        self,
        kind: Kind,
        body: JsonDict,
        before: Row | None,
        digest: bytes = b"",
        expires_at: int = 0,
        origin: Origin | None = None,
    ) -> Row:
        """Insert, or replace `before`; a consumer keeps its tier. References were checked by the caller. `origin`: the
        file writes. Raises UniqueViolation, ReadOnly."""
        table, key = tables.ENTITIES[kind.name], body["id"]
        if before is not None:
            must_be_of(origin is not None, before)
        n = (before.n if before else self._number(kind.name, key)) if kind.numbered else 0
        if origin is not None:
            origin = origin._replace(hash=content_hash(body, digest.hex(), expires_at, before and before.tier))
        after = Row(key, n, body, digest, expires_at, before.tier if before else None, origin)
        values = columns_of(kind, after)
        self._clash(kind, table, values, body)
        if before is None:
            self.connection.execute(sa.insert(table).values(**values))
        else:
            self.connection.execute(sa.update(table).where(table.c.id == key).values(**values))
        self._retag(kind.name, key, before.body.get("tags") if before else None, body.get("tags"))
        self.changes.append(Change(kind.name, before, after))
        return after

    def join(self, consumer: Row, tier: str | None) -> Row:
        """Give a consumer this tier, instead of the one it has. Raises ReadOnly."""
        if consumer.tier == tier:
            return consumer
        must_be_of(False, consumer)
        after = consumer._replace(tier=tier)
        c = tables.consumers
        self.connection.execute(sa.update(c).where(c.c.id == consumer.id).values(tier=tier))
        self.changes.append(Change(c.name, consumer, after))
        return after

    def leave(self, tier: str) -> None:
        """Return all consumers of a tier to none. Raises ReadOnly for one whose tier the file declares."""
        c = tables.consumers
        held = [row_of(c.name, r) for r in self.connection.execute(sa.select(c).where(c.c.tier == tier)).all()]
        for row in held:
            must_be_of(False, row)
        self.connection.execute(sa.update(c).where(c.c.tier == tier).values(tier=None))
        self.changes += [Change(c.name, row, row._replace(tier=None)) for row in held]

    def set_default_tier(self, tier: str | None) -> None:
        """Which tier consumers have that have none."""
        if self.default_tier() == tier:
            return
        c = tables.meta.c
        self.connection.execute(sa.delete(tables.meta).where(c.key == DEFAULT_TIER))
        if tier is not None:
            self.connection.execute(sa.insert(tables.meta).values(key=DEFAULT_TIER, value=tier))
        self.changes.append(Change(SETTINGS, None, None))

    def delete(self, kind: Kind, row: Row, *, by_file: bool = False) -> None:
        """Remove, with what it takes along. Raises Referenced, ReadOnly."""
        must_be_of(by_file, row)
        for other in KINDS.values():
            for field, target in other.foreign.items():
                if target != kind.name:
                    continue
                table = tables.ENTITIES[other.name]
                held = self.connection.execute(sa.select(table).where(table.c[field] == row.id))
                for record in held.all():
                    if field not in other.cascades:
                        raise Referenced(other.name)
                    below = row_of(other.name, record)
                    # The file may take along what the Admin API hung below its entities, never the other way round.
                    self.delete(other, below, by_file=by_file and below.origin is not None)
        if kind.name == "tiers":
            self.leave(row.id)
            if self.default_tier() == row.id:
                self.set_default_tier(None)
        table = tables.ENTITIES[kind.name]
        self.connection.execute(sa.delete(table).where(table.c.id == row.id))
        self._retag(kind.name, row.id, row.body.get("tags"), None)
        self.changes.append(Change(kind.name, row, None))

    def expect_much(self) -> None:
        """Let this transaction hold its pages in memory: ids are in no order, and a page that does not fit is written and
        read again for each row."""
        self.connection.exec_driver_sql(f"PRAGMA cache_size = -{LARGE_CACHE_KIB}")
        self._much = True

    def rest(self) -> None:
        """Give that memory back: the transaction is over."""
        if self._much:
            self.connection.rollback()
            self.connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIB}")

    def commit(self) -> None:
        """Make it durable now, while the caller can still take its own bookkeeping back."""
        self.connection.commit()

    def purge(self, now: int, most: int = 1000) -> int:
        """Delete credentials of the Admin API that have run out; how many there were."""
        k = tables.keyauth_credentials
        query = sa.select(k).where(k.c.expires_at > 0, k.c.expires_at <= now, k.c.origin.is_(None)).limit(most)
        rows = [row_of(k.name, r) for r in self.connection.execute(query)]
        for row in rows:
            self.delete(KINDS[k.name], row)
        return len(rows)

    def purge_hash(self, digest: bytes, now: int) -> None:
        """Make room for a key whose former credential has run out."""
        k = tables.keyauth_credentials
        query = sa.select(k).where(k.c.hash == digest, k.c.expires_at > 0, k.c.expires_at <= now, k.c.origin.is_(None))
        for record in self.connection.execute(query).all():
            self.delete(KINDS[k.name], row_of(k.name, record))

    def keep_numbers(self, columns: Mapping[tuple[str, str], int], series: Mapping[tuple[str, str], int]) -> None:
        """Remember the numbers of new counter columns, and of new rows of metrics."""
        rows = [{"kind": kind, "key": key, "n": n} for (kind, key), n in columns.items()]
        if rows:
            self.connection.execute(sa.insert(tables.columns).prefix_with("OR IGNORE"), rows)
        rows = [{"kind": kind, "id": key, "n": n} for (kind, key), n in series.items()]
        if rows:
            self.connection.execute(sa.insert(tables.row_numbers).prefix_with("OR IGNORE"), rows)

    def _number(self, kind: str, key: str) -> int:
        c = tables.row_numbers.c
        known = self.connection.scalar(sa.select(c.n).where(c.kind == kind, c.id == key))
        if known is not None:
            return int(known)
        n = self.highest(kind) + 1
        self.connection.execute(sa.insert(tables.row_numbers).values(kind=kind, id=key, n=n))
        return n

    def _clash(self, kind: Kind, table: sa.Table, values: JsonDict, body: JsonDict) -> None:
        for name in kind.unique:
            column, value = ("hash", values.get("hash")) if name == "key" else (name, values.get(name))
            if value is not None and self._taken(table, {column: value}, values["id"]):
                # A key must not come back in an error: the client knows which one it sent.
                raise UniqueViolation({name: "<hidden>" if name == "key" else value})
        if kind.together:
            of = ("scope",) if "scope" in values else kind.together
            if self._taken(table, {c: values[c] for c in of}, values["id"]):
                raise UniqueViolation({f: body[f] for f in kind.together})

    def _taken(self, table: sa.Table, where: Mapping[str, Any], key: str) -> bool:
        same = (table.c[column] == value for column, value in where.items())
        query = sa.select(sa.literal(1)).where(*same, table.c.id != key)
        return self.connection.scalar(query) is not None

    def _retag(self, kind: str, key: str, old: list[str] | None, new: list[str] | None) -> None:
        if (old or []) == (new or []):
            return
        c = tables.tags.c
        self.connection.execute(sa.delete(tables.tags).where(c.kind == kind, c.id == key))
        if new:
            self.connection.execute(sa.insert(tables.tags), [{"kind": kind, "id": key, "tag": tag} for tag in new])


def must_be_of(file: bool, row: Row) -> None:
    """Raises ReadOnly when the Admin API would change what the file declares."""
    if row.origin is not None and not file:
        raise ReadOnly(row.body, row.origin)


def scope_of(plugin: JsonDict) -> str:
    """What no two plugins share: the kind, on the same route, service and consumer."""
    parts = [plugin[f]["id"] if plugin[f] else "-" for f in ("route", "service", "consumer")]
    return ":".join([plugin["name"], *parts])
