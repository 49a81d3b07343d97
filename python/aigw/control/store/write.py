"""The write transaction of the store. The writer thread alone holds it; each change of a group has a savepoint.

`changes` collects a `Change` for every row written, or a `BulkChange`. Only the file changes its own entities.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import orjson
import sqlalchemy as sa

from aigw.control.store import tables
from aigw.control.store.origin import Origin, content_hash
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import (
    DEFAULT_TIER,
    FORMER,
    LINE_SHIFT,
    SEALED_KEYS,
    SETTINGS,
    BulkChange,
    Change,
    Referenced,
    Row,
    UniqueViolation,
    columns_of,
    ledger_name,
    row_of,
)
from aigw.entities import KINDS, EntityKind
from aigw.types import JsonDict

CACHE_KIB: Final = 2000
LARGE_CACHE_KIB: Final = 256 * 1024
"""KiB of pages that a large transaction may hold in memory."""
INSERT_CACHE_KIB: Final = 128 * 1024
"""KiB for a large transaction that adds rows in order."""
LOG_PAGES: Final = 1000
"""Pages of the log at which a commit copies them into the store: SQLite's default."""


class WriteSession(StoreReader):
    """The transaction. `changes` includes the rows that a deletion removed with their entity."""

    def __init__(self, connection: sa.Connection, before_commit: Callable[[], None] = lambda: None) -> None:
        """`before_commit` raises StoreError where a commit would be lost."""
        super().__init__(connection)
        self._before_commit = before_commit
        self.changes: list[Change | BulkChange] = []
        self.is_bulk = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A savepoint for one write of the group: an exception rolls back this write only."""
        kept = len(self.changes)
        try:
            with self.connection.begin_nested():
                yield
        except BaseException:
            del self.changes[kept:]
            raise

    def put(
        self,
        kind: EntityKind,
        body: JsonDict,
        before: Row | None,
        digest: bytes = b"",
        expires_at: int = 0,
        origin: Origin | None = None,
    ) -> Row:
        """Insert, or replace `before`; a consumer keeps its tier. The caller has checked the references. `origin`: set if the
        file writes. Raises UniqueViolation, ReadOnly."""
        table, key = tables.ENTITIES[kind.name], body["id"]
        if before is not None:
            self.must_be_of(kind.name, before, file=origin is not None)
        n = (before.n if before else self.number(kind.name, key)) if kind.numbered else 0
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

    def rename(self, kind: EntityKind, row: Row, body: JsonDict) -> Row:
        """Give a numbered entity the id in `body`; its number and what counts by it stay. The caller has checked that no other entity
        has the id."""
        table, after = tables.ENTITIES[kind.name], row._replace(id=body["id"], body=body)
        self._free_id(kind, row.n, after.id)
        self.connection.execute(sa.update(table).where(table.c.n == row.n).values(**columns_of(kind, after)))
        self._retag(kind.name, row.id, row.body.get("tags"), None)
        self._retag(kind.name, after.id, None, body.get("tags"))
        self.changes.append(Change(kind.name, row, after))
        return after

    def _free_id(self, kind: EntityKind, n: int, key: str) -> None:
        """Let the number `n` have this id from now on: a deleted entity with the id keeps its own number, under another text, so that
        nobody else gets it; and the id that `n` had before is one of a new entity."""
        c, known = tables.row_numbers.c, tables.row_numbers
        self.connection.execute(sa.delete(known).where(c.kind == kind.name, c.n == n))
        other = {"id": c.id + " " + sa.cast(c.n, sa.Text), "name": sa.func.coalesce(c.name, c.id)}
        self.connection.execute(sa.update(known).where(c.kind == kind.name, c.id == key).values(other))

    def note_former(self, kind: EntityKind, row: Row, until: int) -> None:
        """Remember until then (unix seconds) that the entity had this id below its parents (`StoreReader.was_below`)."""
        parents = {field: row.body[field]["id"] for field in kind.foreign if row.body[field]}
        value = f"{until:010d} {orjson.dumps(parents).decode()}"
        note = sa.insert(tables.meta).prefix_with("OR REPLACE")
        self.connection.execute(note.values(key=f"{FORMER}/{kind.name}/{row.id}", value=value))

    def join(self, consumer: Row, tier: str | None) -> Row:
        """Replace the tier of a consumer. Raises ReadOnly."""
        if consumer.tier == tier:
            return consumer
        self.must_be_of("consumers", consumer)
        after = consumer._replace(tier=tier)
        c = tables.consumers
        self.connection.execute(sa.update(c).where(c.c.id == consumer.id).values(tier=tier))
        self.changes.append(Change(c.name, consumer, after))
        return after

    def leave(self, tier: str) -> None:
        """Remove all consumers from a tier. Raises ReadOnly for a consumer of the file."""
        c = tables.consumers
        members = [row_of(c.name, r) for r in self.connection.execute(sa.select(c).where(c.c.tier == tier)).all()]
        for row in members:
            self.must_be_of("consumers", row)
        self.connection.execute(sa.update(c).where(c.c.tier == tier).values(tier=None))
        self.changes += [Change(c.name, row, row._replace(tier=None)) for row in members]

    def set_default_tier(self, tier: str | None) -> None:
        """Set the tier of consumers without a tier."""
        if self.default_tier() == tier:
            return
        c = tables.meta.c
        self.connection.execute(sa.delete(tables.meta).where(c.key == DEFAULT_TIER))
        if tier is not None:
            self.connection.execute(sa.insert(tables.meta).values(key=DEFAULT_TIER, value=tier))
        self.changes.append(Change(SETTINGS, None, None))

    def set_section(self, name: str, spec: JsonDict | None) -> None:
        """Set a section of the file that is a setting of the gateway (`SECTIONS`)."""
        if self.section(name) == spec:
            return
        c = tables.meta.c
        self.connection.execute(sa.delete(tables.meta).where(c.key == name))
        if spec is not None:
            self.connection.execute(sa.insert(tables.meta).values(key=name, value=orjson.dumps(spec).decode()))
        self.changes.append(Change(SETTINGS, None, None))

    def set_line_shift(self, lines: int) -> None:
        """Set the lines that the file's consumers stand further down than their origins say."""
        c = tables.meta.c
        self.connection.execute(sa.delete(tables.meta).where(c.key == LINE_SHIFT))
        self.connection.execute(sa.insert(tables.meta).values(key=LINE_SHIFT, value=str(lines)))

    def delete(self, kind: EntityKind, row: Row, *, by_file: bool = False) -> None:
        """Delete an entity and the entities below it. Raises Referenced, ReadOnly."""
        self.must_be_of(kind.name, row, file=by_file)
        for other in KINDS.values():
            for field, target in other.foreign.items():
                if target != kind.name:
                    continue
                table = tables.ENTITIES[other.name]
                below = self.connection.execute(sa.select(table).where(table.c[field] == row.id))
                for record in below.all():
                    if field not in other.cascades:
                        raise Referenced(other.name)
                    child = row_of(other.name, record)
                    # A deletion by the file also deletes entities of the Admin API below it. The Admin API deletes none of the file.
                    self.delete(other, child, by_file=by_file and child.origin is not None)
        if kind.name == "tiers":
            self.leave(row.id)
            if self.default_tier() == row.id:
                self.set_default_tier(None)
        table = tables.ENTITIES[kind.name]
        self.retire(kind, [row])
        self.connection.execute(sa.delete(table).where(table.c.id == row.id))
        self._retag(kind.name, row.id, row.body.get("tags"), None)
        self.changes.append(Change(kind.name, row, None))

    def retire(self, kind: EntityKind, rows: Iterable[Row]) -> None:
        """Keep the numbers and names of deleted entities: an entity that returns with the same id gets the same number, and the ledger may
        meet the number only now."""
        if kind.numbered:
            gone = [{"kind": kind.name, "id": row.id, "n": row.n, "name": ledger_name(kind.name, row)} for row in rows]
            self.connection.execute(sa.insert(tables.row_numbers).prefix_with("OR REPLACE"), gone)

    @contextmanager
    def without_indexes(self, table: sa.Table, some: Iterable[sa.Index] | None = None) -> Iterator[None]:
        """Write most of a table without its indexes, or without some of them. They are made at the end: one sort is several
        times faster than one insertion for each row."""
        indexes = sorted(table.indexes if some is None else some, key=lambda index: str(index.name))
        for index in indexes:
            self.connection.execute(sa.schema.DropIndex(index))
        yield
        for index in indexes:
            self.connection.execute(sa.schema.CreateIndex(index))

    def expect_bulk(self, kib: int = LARGE_CACHE_KIB) -> None:
        """Let this transaction hold its pages in memory: ids are random, so a page outside the cache is written and read again
        for each row. Commits leave the pages in the log until `Store.checkpoint`."""
        self.connection.exec_driver_sql(f"PRAGMA cache_size = -{kib}")
        self.connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 0")
        self.is_bulk = True

    def release_cache(self) -> None:
        """Free the memory of `expect_bulk` after the transaction."""
        if self.is_bulk:
            self.connection.rollback()
            self.connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIB}")
            self.connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")

    def commit(self) -> None:
        """Commit now, so that the caller can undo its own state if the commit fails."""
        self._before_commit()
        self.connection.commit()

    def purge(self, now: int, most: int = 1000) -> int:
        """Delete up to `most` expired credentials of the Admin API, and old notes of former ids. Returns the number of credentials."""
        c = tables.meta.c
        ended = (c.key.startswith(f"{FORMER}/"), c.value < f"{now:010d}")
        self.connection.execute(sa.delete(tables.meta).where(*ended))
        k = tables.keyauth_credentials
        query = sa.select(k).where(k.c.expires_at > 0, k.c.expires_at <= now, k.c.origin.is_(None)).limit(most)
        rows = [row_of(k.name, r) for r in self.connection.execute(query)]
        for row in rows:
            self.delete(KINDS[k.name], row)
        return len(rows)

    def purge_hash(self, digest: bytes, now: int) -> None:
        """Delete an expired credential with this key, so that the key can be used again."""
        k = tables.keyauth_credentials
        query = sa.select(k).where(k.c.hash == digest, k.c.expires_at > 0, k.c.expires_at <= now, k.c.origin.is_(None))
        for record in self.connection.execute(query).all():
            self.delete(KINDS[k.name], row_of(k.name, record))

    def forget_keys(self) -> int:
        """Delete the sealed keys of all credentials. Returns their number."""
        k, m = tables.keyauth_credentials, tables.meta.c
        if self.connection.execute(sa.delete(tables.meta).where(m.key == SEALED_KEYS)).rowcount == 0:
            return 0
        sealed = sa.func.json_type(k.c.body, "$.sealed").is_not(None)
        done = self.connection.execute(
            sa.update(k).where(sealed).values(body=sa.func.json_remove(k.c.body, "$.sealed"))
        )
        return done.rowcount

    def keep_numbers(self, columns: Mapping[tuple[str, str], int], rows: Mapping[tuple[str, str], int]) -> None:
        """Store the numbers of new counter columns, and those that entries of the ledger name."""
        for table, name, fresh in ((tables.columns, "key", columns), (tables.row_numbers, "id", rows)):
            if found := [{"kind": kind, name: key, "n": n} for (kind, key), n in fresh.items()]:
                self.connection.execute(sa.insert(table).prefix_with("OR IGNORE"), found)

    def number(self, kind: str, key: str) -> int:
        """The number of a new entity: the one that its id had before, or a new one."""
        c = tables.row_numbers.c
        known = self.connection.scalar(sa.select(c.n).where(c.kind == kind, c.id == key))
        if known is not None:
            return int(known)
        return self.highest(kind) + 1

    def _clash(self, kind: EntityKind, table: sa.Table, values: JsonDict, body: JsonDict) -> None:
        for name in kind.unique:
            column, value = ("hash", values.get("hash")) if name == "key" else (name, values.get(name))
            if value is not None and self._taken(table, {column: value}, values["id"]):
                # An error never shows a key: the client knows the key that it sent.
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
