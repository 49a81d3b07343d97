"""What the configuration file declares -> the store, in one transaction: changed rows only. In: every declared entity,
checked. Out: how many were added, changed, removed; the changes are in `writing.changes`, for the publication.

The difference is by content hash, so a reload of an unchanged file writes nothing. A name, key or id that the Admin API
holds is a conflict, and all conflicts are told at once (`Conflicts`). Entities that left the file are deleted, with what
the Admin API hung below them, unless more than that hangs on them. The caller checked the file itself: its references lead somewhere.
"""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field as made
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from aigw.control.consumers.first import fill
from aigw.control.consumers.lean import KINDS_OF as LEAN
from aigw.control.consumers.lean import NONE, Leans
from aigw.control.consumers.rewrite import Again, rewrite
from aigw.control.consumers.sift import Sifted, sift
from aigw.control.file.conflicts import MOST, Conflict, Conflicts, Names, still_in
from aigw.control.store import tables
from aigw.control.store.origin import Origin, content_hash, name_of
from aigw.control.store.rows import Change, Row, columns_of, row_of, scope_of
from aigw.control.store.write import FIRST_CACHE_KIB, Writing
from aigw.entities import KINDS, Kind
from aigw.types import JsonDict

CHUNK: Final = 900
"""Values in one IN list: below every SQLite's bound."""
_KEYS: Final = "keyauth_credentials"


class Declared(NamedTuple):
    """One entity as the file declares it. `body` is what `check_entity` made (a credential's without its key); its times
    are used when it is new. `origin` needs no hash."""

    kind: str
    body: JsonDict
    origin: Origin
    tier: str | None = None
    """Of a consumer: the id of its tier."""
    digest: bytes = b""
    """Of a credential: the HMAC of its key."""
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """What it took. `moved`: entities that only stand in another line now."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    moved: int = 0


def apply(
    writing: Writing, declared: Iterable[Declared], default_tier: str | None = None, leans: Leans = NONE
) -> Applied:
    """Make the store hold exactly these and the plain consumers as the file's; `default_tier` is an id. Raises Conflicts; then
    the caller must roll back, as `Writer.submit(..., alone=True)` does."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here makes a cycle, and walking all rows again and again costs a quarter of the time
    try:
        return _apply(writing, declared, default_tier, leans)
    finally:
        if collecting:
            gc.enable()


def _apply(writing: Writing, declared: Iterable[Declared], default_tier: str | None, leans: Leans) -> Applied:
    wanted: dict[str, dict[str, Row]] = {kind: {} for kind in KINDS}
    conflicts: list[Conflict] = []
    names = Names(writing, wanted["consumers"], leans.all.username)
    for entity in declared:
        row, same = _wanted(entity), wanted[entity.kind]
        if row.id in same:
            conflicts.append(names.twice(entity.kind, row, same[row.id]))
        same[row.id] = row
    stored = writing.of_file()
    first = len(leans) > CHUNK and all(writing.is_empty(tables.ENTITIES[kind]) for kind in LEAN)
    sifted = Sifted() if first else sift(writing, leans, stored)
    conflicts += islice(_same_keys(names, wanted[_KEYS], leans, sifted), MOST)
    for kind in LEAN:
        wanted[kind] |= {row.id: row for row in sifted.rows[kind].values()}
    plans = [_plan(KINDS[kind], rows, stored[kind]) for kind, rows in wanted.items()]
    for plan in plans:
        if plan.kind.name in LEAN:
            plan.leans, plan.again = leans, sifted.again[plan.kind.name]
            plan.first, plan.replaced = first, sifted.moved[plan.kind.name]
        conflicts += islice(_conflicts(writing, plan, names), max(0, MOST - len(conflicts)))
    if conflicts:
        raise Conflicts(conflicts)
    if first:
        writing.expect_much(FIRST_CACHE_KIB)
    elif sum(len(p.added) + len(p.changed) + len(p.removed) + len(p.replaced) + len(p.again) for p in plans) > CHUNK:
        writing.expect_much()
    for plan in plans:
        plan.before = {r.id: r for r in _rows(writing, plan.kind.name, [*plan.changed, *plan.removed])}
        _free(writing, plan)
    for plan in plans:
        _insert(writing, plan)
        _update(writing, plan)
    writing.set_default_tier(default_tier)
    for plan in reversed(plans):
        conflicts += _remove(writing, plan)
    if conflicts:
        raise Conflicts(conflicts)
    return Applied(
        sum(len(p.added) + p.filling for p in plans),
        sum(len(p.changed) + len(p.again) for p in plans),
        sum(len(p.removed) for p in plans),
        sum(len(p.moved) + len(p.replaced) for p in plans),
    )


@dataclass(slots=True)
class _Plan:
    """What becomes of one kind."""

    kind: Kind
    wanted: dict[str, Row]
    added: dict[str, Row]
    changed: dict[str, Row]
    moved: dict[str, Row]
    removed: list[str]
    before: dict[str, Row]
    """The rows that `changed` and `removed` find."""
    leans: Leans = NONE
    """Plain consumers."""
    first: bool = False
    """Whether all of these come beside `added`, into an empty table."""
    again: list[Again] = made(default_factory=list)
    """Those of them that come beside `changed`."""
    replaced: list[tuple[str, str]] = made(default_factory=list)
    """(origin, id) of those of them that only moved."""

    @property
    def table(self) -> sa.Table:
        return tables.ENTITIES[self.kind.name]

    @property
    def filling(self) -> int:
        return len(self.leans) if self.first else 0


def _wanted(entity: Declared) -> Row:
    digest = content_hash(entity.body, entity.digest.hex(), entity.expires_at, entity.tier)
    origin = Origin(entity.origin.file, entity.origin.line, digest, entity.origin.written)
    return Row(entity.body["id"], 0, entity.body, entity.digest, entity.expires_at, entity.tier, origin)


def _same_keys(names: Names, wanted: Mapping[str, Row], leans: Leans, sifted: Sifted) -> Iterator[Conflict]:
    """Plain consumers' keys that others have, or two of them: of one key and its HMAC only this shows it. Of rows `_conflicts` tells."""
    rows, told = list(wanted.values()), sifted.rows[_KEYS]
    for at, index in leans.all.holding([row.hash for row in rows]) if rows else ():
        if index not in told:
            yield names.twice(_KEYS, rows[at], leans.row(_KEYS, index))
    for later, before in leans.all.twins():
        if later not in told or before not in told:
            yield names.twice(_KEYS, leans.row(_KEYS, later), leans.row(_KEYS, before))


def _plan(kind: Kind, wanted: dict[str, Row], stored: Mapping[str, str]) -> _Plan:
    plan = _Plan(kind, wanted, {}, {}, {}, [key for key in stored if key not in wanted], {})
    for key, row in wanted.items():
        origin = row.origin
        assert origin is not None
        there = stored.get(key)
        if there is None:
            plan.added[key] = row
        elif there == origin.text():
            continue
        elif Origin.parse(there).hash != origin.hash:
            plan.changed[key] = row
        else:
            plan.moved[key] = row
    return plan


def _unique(kind: Kind) -> Iterator[tuple[str, ...]]:
    """Columns whose values together no two rows share."""
    for field in kind.unique:
        yield ("hash",) if field == "key" else (field,)
    if kind.together:
        yield ("scope",) if "scope" in tables.ENTITIES[kind.name].c else kind.together


def _conflicts(writing: Writing, plan: _Plan, names: Names) -> Iterator[Conflict]:
    kind, table = plan.kind, plan.table
    fresh = [*plan.added, *plan.changed]
    if not fresh:
        return
    others = _has_others(writing, table)
    if others:
        for row in _rows(writing, kind.name, list(plan.added)):
            yield names.held(kind.name, "id", plan.added[row.id], row)
    for columns in _unique(kind):
        values = _values(plan.wanted.values(), columns)
        holders = dict(zip(values, plan.wanted, strict=True))  # of equal ones the last
        if len(holders) < len(values):
            firsts: dict[Any, Row] = {}
            for value, row in zip(values, plan.wanted.values(), strict=True):
                if firsts.setdefault(value, row) is not row and value is not None:
                    yield names.twice(kind.name, row, firsts[value])
        if not others:
            continue
        wanted = list({*_values((plan.wanted[key] for key in fresh), columns[:1])} - {None})
        for part in _chunks(wanted):
            query = sa.select(table).where(table.c[columns[0]].in_(part), table.c.origin.is_(None))
            for record in writing.connection.execute(query):
                row = row_of(kind.name, record)
                mine = holders.get(_values([row], columns)[0])
                if mine is not None and mine != record.id:
                    yield names.held(kind.name, columns[-1], plan.wanted[mine], row)


def _values(rows: Iterable[Row], columns: tuple[str, ...]) -> list[Any]:
    """What each row has there."""
    if len(columns) > 1:
        rows = list(rows)
        return list(zip(*(_values(rows, (c,)) for c in columns), strict=True))
    (column,) = columns
    if column == "hash":
        return [row.hash for row in rows]
    if column == "scope":
        return [scope_of(row.body) for row in rows]
    if column == "consumer":
        return [row.body[column]["id"] for row in rows]
    return [row.body[column] for row in rows]


def _has_others(writing: Writing, table: sa.Table) -> bool:
    """Whether the Admin API has any entity of this kind."""
    query = sa.select(sa.literal(1)).where(table.c.origin.is_(None)).limit(1)
    return writing.connection.scalar(query) is not None


def _free(writing: Writing, plan: _Plan) -> None:
    """Let go of unique values that change hands: entities may swap names, and what leaves makes room."""
    if not plan.before or not (plan.added or plan.changed):
        return
    texts = [c for columns in _unique(plan.kind) for c in columns if c not in ("consumer", "hash")]
    values: dict[str, Any] = {c: sa.bindparam("placeholder") for c in texts}
    if "hash" in plan.table.c:
        values["hash"] = sa.bindparam("digest")
    if values:
        query = sa.update(plan.table).where(plan.table.c.id == sa.bindparam("key")).values(values)
        # A control character: no name of an entity can hold it.
        going = [k for k in plan.before if k not in plan.changed or _lets_go(plan, k)]
        rows = [{"key": k, "placeholder": f"\x01{k}", "digest": f"\x01{k}".encode()} for k in going]
        names = {"key", *(("placeholder",) if texts else ()), *(("digest",) if "hash" in values else ())}
        if rows:
            _many(writing, query, [{k: v for k, v in r.items() if k in names} for r in rows])


def _lets_go(plan: _Plan, key: str) -> bool:
    before, after = [plan.before[key]], [plan.changed[key]]
    return any(_values(before, columns) != _values(after, columns) for columns in _unique(plan.kind))


def _insert(writing: Writing, plan: _Plan) -> None:
    many = len(plan.added) + plan.filling > CHUNK and plan.table.indexes and writing.is_empty(plan.table)
    with writing.without_indexes(plan.table) if many else nullcontext():
        if plan.added:
            numbers = _numbers(writing, plan.kind.name, plan.added) if plan.kind.numbered else {}
            rows = [row._replace(n=numbers.get(key, 0)) for key, row in plan.added.items()]
            _many(writing, sa.insert(plan.table), [columns_of(plan.kind, row) for row in rows])
            _tag(writing, plan.kind.name, rows)
            writing.changes += [Change(plan.kind.name, None, row) for row in rows]
        if plan.filling:
            fill(writing, plan.kind.name, plan.leans)


def _update(writing: Writing, plan: _Plan) -> None:
    kind, table = plan.kind, plan.table
    if plan.moved:
        query = sa.update(table).where(table.c.id == sa.bindparam("key")).values(origin=sa.bindparam("place"))
        _many(writing, query, [{"key": k, "place": r.origin and r.origin.text()} for k, r in plan.moved.items()])
    if plan.replaced:
        writing.connection.exec_driver_sql(f"UPDATE {table.name} SET origin = ? WHERE id = ?", plan.replaced)  # noqa: S608
    if plan.again:
        rewrite(writing, kind.name, plan.leans, plan.again)
    if not plan.changed:
        return
    rows = []
    for key, row in plan.changed.items():
        before = plan.before[key]
        body = {**row.body, "created_at": before.body["created_at"]}
        rows.append(row._replace(n=before.n, body=body))
    values = [{f"new_{c}": v for c, v in columns_of(kind, row).items()} for row in rows]
    columns: dict[str, Any] = {c: sa.bindparam(f"new_{c}") for c in columns_of(kind, rows[0]) if c != "id"}
    _many(writing, sa.update(table).where(table.c.id == sa.bindparam("new_id")).values(columns), values)
    _untag(writing, kind.name, list(plan.changed))
    _tag(writing, kind.name, rows)
    writing.changes += [Change(kind.name, plan.before[row.id], row) for row in rows]


def _remove(writing: Writing, plan: _Plan) -> list[Conflict]:
    """Delete what left the file. What the file had below is gone already; what is left there is the Admin API's."""
    kind, conflicts = plan.kind, list[Conflict]()
    gone = {key: plan.before[key] for key in plan.removed}
    if not gone:
        return []
    if kind.name == "tiers":
        conflicts += still_in(writing, gone.values())
    for other in KINDS.values():
        if not _has_others(writing, tables.ENTITIES[other.name]):
            continue
        for field in (f for f, target in other.foreign.items() if target == kind.name):
            for below in _rows(writing, other.name, list(gone), field):
                above = gone[below.body[field]["id"]]
                if field in other.cascades:
                    writing.delete(other, below, by_file=True)
                else:
                    name = name_of(below.body)
                    conflicts.append(
                        Conflict(
                            kind.name,
                            None,
                            f"{kind.name} '{name_of(above.body)}' ({above.origin}) left the file, but {other.name} "
                            f"'{name}' of the Admin API (id {below.id}) references it: remove that first",
                        )
                    )
    if conflicts:
        return conflicts
    writing.retire(kind, gone.values())
    for part in _chunks(list(gone)):
        writing.connection.execute(sa.delete(plan.table).where(plan.table.c.id.in_(part)))
    _untag(writing, kind.name, list(gone))
    writing.changes += [Change(kind.name, row, None) for row in gone.values()]
    return []


def _numbers(writing: Writing, kind: str, keys: Iterable[str]) -> dict[str, int]:
    """Row numbers, in one go: the one that an id had before, or the next ones."""
    known = writing.numbers(kind)
    fresh = enumerate((k for k in keys if k not in known), writing.highest(kind) + 1)
    return known | {key: n for n, key in fresh}


def _many(writing: Writing, statement: sa.Insert | sa.Update, rows: list[JsonDict]) -> None:
    """One statement for many rows of plain values: the driver's own, without a look at each of them."""
    keys = list(rows[0]) if isinstance(statement, sa.Insert) else None
    compiled = statement.compile(dialect=writing.connection.dialect, column_keys=keys)
    order = getattr(compiled, "positiontup", None)
    if order is None:
        writing.connection.execute(statement, rows)
    else:
        pick = itemgetter(*order)
        writing.connection.exec_driver_sql(str(compiled), [pick(row) for row in rows])


def _rows(writing: Writing, kind: str, values: list[str], column: str = "id") -> list[Row]:
    table = tables.ENTITIES[kind]
    return [
        row_of(kind, record)
        for part in _chunks(values)
        for record in writing.connection.execute(sa.select(table).where(table.c[column].in_(part))).all()
    ]


def _tag(writing: Writing, kind: str, rows: Iterable[Row]) -> None:
    tags = [{"kind": kind, "id": row.id, "tag": tag} for row in rows for tag in row.body.get("tags") or ()]
    if tags:
        _many(writing, sa.insert(tables.tags), tags)


def _untag(writing: Writing, kind: str, keys: list[str]) -> None:
    c = tables.tags.c
    for part in _chunks(keys):
        writing.connection.execute(sa.delete(tables.tags).where(c.kind == kind, c.id.in_(part)))


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


__all__ = ["Applied", "Conflict", "Conflicts", "Declared", "apply"]
