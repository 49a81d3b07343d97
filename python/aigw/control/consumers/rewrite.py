"""A large change of plain consumers: as when all of a file move to another tier. Their records are written again in the order
in which they lie, and one `Many` stands for all changes: whoever publishes begins anew.

In: which of `Leans` differ from what the store holds. Out: records. Nothing that must be unique changes: a consumer of the same id
has the same name, and a credential the same key. Who had more than a plain one has (tags, a time to live) takes the general way.
"""

from contextlib import nullcontext
from typing import Final, NamedTuple

from aigw.control.consumers.lean import Leans
from aigw.control.store import tables
from aigw.control.store.rows import MOST_TOLD, Change, Many, row_of
from aigw.control.store.write import Writing

AT_LEAST: Final = 4096
"""As many, or fewer, are told one by one, and published as additions."""
_PART: Final = 5000
_INDEXED: Final = 4
"""One part in so many of all consumers that change: an index made anew is then faster than one kept up."""
_PLAIN: Final = {
    "consumers": "custom_id IS NULL AND json_extract(body, '$.tags') IS NULL",
    "keyauth_credentials": "expires_at = 0 AND json_extract(body, '$.tags') IS NULL",
}
_UPDATE: Final = {
    "consumers": "UPDATE consumers SET tier = ?, body = ?, origin = ? WHERE n = ?",
    "keyauth_credentials": "UPDATE keyauth_credentials SET body = ?, origin = ? WHERE n = ?",
}


class Again(NamedTuple):
    """One that is written again: its place in `Leans`, its number, and when it was made."""

    place: int
    n: int
    made: int


def rewritable(writing: Writing, kind: str, changed: dict[str, int]) -> list[Again]:
    """Those of `changed` (id -> index) that this may write, by number; nobody where there are few."""
    if len(changed) <= AT_LEAST:
        return []
    query = f"SELECT id, n, json_extract(body, '$.created_at') FROM {kind} WHERE origin IS NOT NULL AND {_PLAIN[kind]} ORDER BY n"  # noqa: S608
    return [Again(changed[key], n, made) for key, n, made in writing.raw(query) if key in changed]


def rewrite(writing: Writing, kind: str, leans: Leans, again: list[Again]) -> None:
    """Write them, with what is to be said of it in `writing.changes`."""
    told = []
    for one in sorted(again)[:MOST_TOLD]:
        (record,) = writing.connection.execute(tables.ENTITIES[kind].select().filter_by(n=one.n)).all()
        before, after = row_of(kind, record), leans.row(kind, one.place)
        told.append(Change(kind, before, after._replace(n=one.n, body={**after.body, "created_at": one.made})))
    table = tables.ENTITIES[kind]
    by_tier = [index for index in table.indexes if index.name == "ix_consumers_tier"]
    anew = by_tier and len(again) * _INDEXED > writing.count(table)
    with writing.without_indexes(table, by_tier) if anew else nullcontext():
        for start in range(0, len(again), _PART):
            records = leans.all.rewritten(kind, again[start : start + _PART])
            writing.connection.exec_driver_sql(_UPDATE[kind], records)
    writing.changes.append(Many(kind, len(again), 0, tuple(told), "updated"))
