"""Consumers of the file, with their credentials and acls, as rows of the store.

In: a file's consumers, read natively. Out: rows, and the statements that store very many of them at once: `insert_all` fills
empty tables, `update_all` writes changed rows in the order of their numbers. Native code makes ids, hashes and JSON; the entities'
models alone define the fields of that JSON.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Final, NamedTuple, Protocol

import orjson

from aigw._native import FileConsumerRows, FileConsumers
from aigw.config import File
from aigw.config.file import CONSUMER_KINDS
from aigw.control.store import tables
from aigw.control.store.origin import Origin
from aigw.control.store.rows import MOST_SHOWN, BulkChange, Change, Row, row_of
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS
from aigw.entities.keyauth_credential import key_hint

Since = Callable[[list[str]], Mapping[str, int]]
"""Ids of credentials -> unix seconds when the store says that the file first declared them."""

UPDATE_AT_LEAST: Final = 4096
"""Up to this many changed rows are updated one by one and published as a delta; more are updated by `update_all`."""
_CHUNK: Final = 5000
"""Rows of one statement: a few megabytes of parameters."""
_INDEXED: Final = 4
"""With more than 1/4 of all consumers changed, making an index at the end is faster than updating it with each row."""
_INSERT: Final = {
    "consumers": "INSERT INTO consumers (n, id, username, custom_id, tier, body, origin) VALUES (?, ?, ?, ?, ?, ?, ?)",
    "keyauth_credentials": (
        "INSERT INTO keyauth_credentials (n, id, consumer, hash, expires_at, body, origin) VALUES (?, ?, ?, ?, ?, ?, ?)"
    ),
    "acls": 'INSERT INTO acls (id, consumer, "group", body, origin) VALUES (?, ?, ?, ?, ?)',
}
_UPDATE: Final = {
    "consumers": "UPDATE consumers SET tier = ?, body = ?, origin = ? WHERE n = ?",
    "keyauth_credentials": "UPDATE keyauth_credentials SET expires_at = ?, body = ?, origin = ? WHERE n = ?",
}
_CUSTOM_ID: Final = {"consumers": "custom_id", "keyauth_credentials": "NULL"}


class Hasher(Protocol):
    """The part of the publisher that hashes keys."""

    def hash_key(self, key: bytes) -> bytes: ...


class Update(NamedTuple):
    """A row that `update_all` writes: its number, its index in `ConsumerRows`, and the unix seconds when it was made."""

    n: int
    at: int
    created_at: int


class ConsumerRows:
    """The rows of a file, all made at one time `now` (unix seconds). `tiers` maps names to ids. Origins name lines less `shift`."""

    def __init__(
        self, file: File, tiers: Mapping[str, str], hasher: Hasher, now: int, since: Since, shift: int = 0
    ) -> None:
        shapes = [_shape(kind) for kind in CONSUMER_KINDS]
        ids = [tiers[name] for name in file.consumers.tiers]
        keys = _hashed(file.consumers, hasher.hash_key)
        self.native = FileConsumerRows(
            file.consumers, file.name, now, ids, (shapes[0], shapes[1], shapes[2]), keys, since, shift
        )
        self.file = file.name

    def row(self, kind: str, index: int) -> Row:
        """One row, as a value."""
        key, body, digest, expires_at, tier, line, content, reference = self.native.row(kind, index)
        return Row(key, 0, orjson.loads(body), digest, expires_at, tier, Origin(self.file, line, content, reference))

    def rows(self, kind: str) -> Iterator[Row]:
        """All rows of a kind, in the order of the file."""
        return (self.row(kind, index) for index in range(self.native.count(kind)))


def _hashed(consumers: FileConsumers, hash_key: Callable[[bytes], bytes]) -> Iterator[tuple[bytes, str]]:
    """HMAC and hint of each key, in the order of the file."""
    for start in range(0, consumers.count("consumers"), _CHUNK):
        for key in consumers.keys(start, start + _CHUNK):
            yield (hash_key(key.encode()), key_hint(key)) if isinstance(key, str) else (key, key_hint(""))


def _shape(kind: str) -> list[tuple[str, str]]:
    """The fields of an entity's stored JSON, each with the JSON of its default."""
    fields = KINDS[kind].model.model_fields.items()
    return [(name, orjson.dumps(None if field.is_required() else field.default).decode()) for name, field in fields]


def insert_all(session: WriteSession, kind: str, rows: ConsumerRows) -> None:
    """Fill an empty table, and add one `BulkChange` for all rows to `session.changes`. The publication then writes a new base. A row
    gets the number that its id had before, or the next one."""
    numbered = KINDS[kind].numbered
    known, highest = (session.numbers(kind), session.highest(kind)) if numbered else ({}, 0)
    count = rows.native.count(kind)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        records, highest = rows.native.records(kind, start, stop, highest, known)
        session.connection.exec_driver_sql(_INSERT[kind], records)
        if tags := rows.native.tags(kind, start, stop):
            session.connection.exec_driver_sql("INSERT INTO tags (kind, id, tag) VALUES (?, ?, ?)", tags)
    shown = tuple(Change(kind, None, rows.row(kind, index)) for index in range(min(MOST_SHOWN, count)))
    session.changes.append(BulkChange(kind, count, highest, shown, "created"))


def updates(session: WriteSession, kind: str, rows: ConsumerRows, changed: list[int]) -> list[Update]:
    """The changed rows that `update_all` may write, by number; empty if there are at most `UPDATE_AT_LEAST`. Their unique values do not
    change: a consumer with the same id has the same username, and a credential the same key. Rows with tags, and consumers
    with another custom_id, are left out."""
    if len(changed) <= UPDATE_AT_LEAST or kind not in _UPDATE:
        return []
    query = (
        f"SELECT id, n, json_extract(body, '$.created_at'), {_CUSTOM_ID[kind]} FROM {kind}"  # noqa: S608
        " WHERE origin IS NOT NULL AND json_extract(body, '$.tags') IS NULL ORDER BY n"
    )
    stored = [one for part in session.raw(query) for one in part]
    return [Update(*one) for one in rows.native.updatable(kind, changed, stored)]


def update_all(session: WriteSession, kind: str, rows: ConsumerRows, found: list[Update]) -> None:
    """Write these rows, and add one `BulkChange` for all of them to `session.changes`."""
    table = tables.ENTITIES[kind]
    shown = []
    for one in found[:MOST_SHOWN]:
        (record,) = session.connection.execute(table.select().filter_by(n=one.n)).all()
        before, after = row_of(kind, record), rows.row(kind, one.at)
        shown.append(Change(kind, before, after._replace(n=one.n, body={**after.body, "created_at": one.created_at})))
    by_tier = [index for index in table.indexes if index.name == "ix_consumers_tier"]
    again = by_tier and len(found) * _INDEXED > session.count(table)
    with session.without_indexes(table, by_tier) if again else nullcontext():
        for start in range(0, len(found), _CHUNK):
            part = [(one.at, one.n, one.created_at) for one in found[start : start + _CHUNK]]
            session.connection.exec_driver_sql(_UPDATE[kind], rows.native.updates(kind, part))
    session.changes.append(BulkChange(kind, len(found), 0, tuple(shown), "updated"))
