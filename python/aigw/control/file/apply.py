"""The entities of the configuration file -> the store, in one transaction, changed rows only. In: every entity of the file,
checked. Out: the numbers of added, changed and removed rows; `session.changes` has the changes for the publication.

The difference is by content hash, so a reload of an unchanged file writes nothing. A name, key or id of an entity of the Admin API
is a conflict; `Conflicts` has all of them. Entities that left the file are deleted, with the Admin API's entities below them
that cascade; another reference to them is a conflict. The caller checked that the file's own references exist.
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

from aigw.config.file import CONSUMER_KINDS
from aigw.control.file.conflicts import MOST, Conflict, ConflictBuilder, Conflicts, authorities_in_use, tiers_in_use
from aigw.control.file.consumers import ConsumerRows, Update, insert_all, update_all, updates
from aigw.control.store import tables
from aigw.control.store.origin import Origin, content, content_hash, name_of
from aigw.control.store.rows import NO_SECTIONS, SECTIONS, Change, Row, Sections, columns_of, row_of, scope_of
from aigw.control.store.write import INSERT_CACHE_KIB, WriteSession
from aigw.entities import KINDS, EntityKind
from aigw.entities.route import unreachable
from aigw.types import JsonDict

CHUNK: Final = 900
"""Values in one IN list: below every SQLite's bound."""
_KEYS: Final = "keyauth_credentials"


class Declared(NamedTuple):
    """One entity of the file. The times in `body` are used when the entity is new; `origin` needs no hash. Consumers, credentials
    and acls come as `ConsumerRows`."""

    kind: str
    body: JsonDict
    origin: Origin

    def row(self) -> Row:
        """The row of the store, without a number."""
        origin = self.origin._replace(hash=content_hash(self.body, "", 0, None))
        return Row(self.body["id"], 0, self.body, origin=origin)


@dataclass(frozen=True, slots=True)
class Applied:
    """Numbers of rows. `moved`: unchanged entities whose line changed."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    moved: int = 0


def apply(
    session: WriteSession,
    declared: Iterable[Declared],
    rows: ConsumerRows | None = None,
    default_tier: str | None = None,
    sections: Sections = NO_SECTIONS,
    *,
    keeps_consumers: bool = False,
) -> Applied:
    """Replace the file's entities in the store by these; `default_tier` is an id, `sections` the file's settings. `keeps_consumers`:
    consumers, credentials and acls stay as they are.
    Raises Conflicts; then the caller must roll back, as `GroupCommit.submit(..., alone=True)` does."""
    collecting = gc.isenabled()
    gc.disable()  # there are no cycles here, and walking all rows for them takes a quarter of the time
    try:
        for section in SECTIONS:
            session.set_section(section, sections.get(section))
        return _apply(session, declared, rows, default_tier, keeps_consumers)
    finally:
        if collecting:
            gc.enable()


def _apply(
    session: WriteSession,
    declared: Iterable[Declared],
    rows: ConsumerRows | None,
    default_tier: str | None,
    keeps_consumers: bool,
) -> Applied:
    stored = session.of_file(kind for kind in KINDS if kind not in CONSUMER_KINDS)
    plans = {kind: _Plan(KINDS[kind]) for kind in KINDS}
    build = ConflictBuilder(
        session, plans["consumers"].wanted, rows.native.name if rows is not None else lambda _: None
    )
    conflicts = _plan_others(plans, declared, stored, build)
    if not keeps_consumers:
        _plan_consumers(session, plans, rows)
    if rows is not None:
        same = rows.native.same_digests()[:MOST]
        conflicts += (
            build.declared_twice(_KEYS, rows.row(_KEYS, later), rows.row(_KEYS, earlier)) for later, earlier in same
        )
    conflicts += islice(_unreachable(session, plans["models"], stored["models"], build), MOST)
    for plan in plans.values():
        conflicts += islice(_conflicts(session, plan, build), max(0, MOST - len(conflicts)))
    if conflicts:
        raise Conflicts(conflicts)
    conflicts += _store(session, list(plans.values()), default_tier)
    if conflicts:
        raise Conflicts(conflicts)
    return Applied(
        sum(len(p.added) + p.inserted for p in plans.values()),
        sum(len(p.changed) + len(p.updates) for p in plans.values()),
        sum(len(p.removed) for p in plans.values()),
        sum(len(p.moved) for p in plans.values()),
    )


def _unreachable(
    session: WriteSession, models: "_Plan", before: Mapping[str, str], build: ConflictBuilder
) -> Iterator[Conflict]:
    """A conflict for each route of the Admin API that the first models would cut off."""
    if before or not models.wanted:
        return
    first = next(iter(models.wanted.values()))
    for route in session.everything("routes", 0):
        if route.origin is None and unreachable(route.body["paths"] or ()):
            yield build.cuts_off(first, route)


def _store(session: WriteSession, plans: list["_Plan"], default_tier: str | None) -> list[Conflict]:
    """Write the plans. Returns a conflict for each removed entity that an entity of the Admin API references."""
    if any(plan.inserted for plan in plans):
        session.expect_bulk(INSERT_CACHE_KIB)
    elif sum(plan.total for plan in plans) > CHUNK:
        session.expect_bulk()
    for plan in plans:
        plan.before = {r.id: r for r in _rows(session, plan.kind.name, [*plan.changed, *plan.removed])}
        plan.keep_equal()
        _free(session, plan)
    for plan in plans:
        _insert(session, plan)
        _update(session, plan)
    session.set_default_tier(default_tier)
    return [conflict for plan in reversed(plans) for conflict in _remove(session, plan)]


@dataclass(slots=True)
class _Plan:
    """The steps for one kind. Rows are by id."""

    kind: EntityKind
    wanted: dict[str, Row] = made(default_factory=dict)
    """Every row of the file; of consumers, credentials and acls the new and the changed ones."""
    added: dict[str, Row] = made(default_factory=dict)
    changed: dict[str, Row] = made(default_factory=dict)
    moved: list[tuple[str, str]] = made(default_factory=list)
    """(origin, id) of unchanged rows whose line changed."""
    removed: list[str] = made(default_factory=list)
    before: dict[str, Row] = made(default_factory=dict)
    """The stored rows of `changed` and `removed`."""
    rows: ConsumerRows | None = None
    inserts_all: bool = False
    """Whether all of `rows` go into an empty table."""
    updates: list[Update] = made(default_factory=list)
    """Changed rows of `rows` that `update_all` writes."""

    @property
    def table(self) -> sa.Table:
        return tables.ENTITIES[self.kind.name]

    def keep_equal(self) -> None:
        """Stop changing rows that differ only by fields which an older version did not have: a row without them means their defaults."""
        for key, row in list(self.changed.items()):
            before = self.before[key]
            if self.kind.name in CONSUMER_KINDS or row.origin is None:
                continue
            whole = self.kind.kept.model_validate(before.body).model_dump(mode="json")
            if content(whole) == content(row.body):
                self.moved.append((row.origin.text(), key))
                del self.changed[key], self.before[key]

    @property
    def inserted(self) -> int:
        return self.rows.native.count(self.kind.name) if self.rows is not None and self.inserts_all else 0

    @property
    def total(self) -> int:
        return len(self.added) + len(self.changed) + len(self.moved) + len(self.removed) + len(self.updates)


def _plan_others(
    plans: dict[str, _Plan],
    declared: Iterable[Declared],
    stored: Mapping[str, Mapping[str, str]],
    build: ConflictBuilder,
) -> list[Conflict]:
    """Plan every kind except consumers, credentials and acls. Returns a conflict for each entity that the file declares twice."""
    conflicts = []
    for entity in declared:
        plan, row = plans[entity.kind], entity.row()
        if row.id in plan.wanted:
            conflicts.append(build.declared_twice(entity.kind, row, plan.wanted[row.id]))
        plan.wanted[row.id] = row
    for kind in (kind for kind in KINDS if kind not in CONSUMER_KINDS):
        plan = plans[kind]
        plan.removed = [key for key in stored[kind] if key not in plan.wanted]
        for key, row in plan.wanted.items():
            origin, there = row.origin, stored[kind].get(key)
            assert origin is not None
            if there is None:
                plan.added[key] = row
            elif there != origin.text():
                if Origin.parse(there).hash == origin.hash:
                    plan.moved.append((origin.text(), key))
                else:
                    plan.changed[key] = row
    return conflicts


def _plan_consumers(session: WriteSession, plans: dict[str, _Plan], rows: ConsumerRows | None) -> None:
    """Plan consumers, credentials and acls. More than `CHUNK` consumers fill empty tables natively; otherwise each change is a `Row`."""
    inserts_all = (
        rows is not None
        and rows.native.count("consumers") > CHUNK
        and all(session.is_empty(tables.ENTITIES[kind]) for kind in CONSUMER_KINDS)
    )
    for kind in CONSUMER_KINDS:
        plan = plans[kind]
        plan.rows, plan.inserts_all = rows, inserts_all
        if rows is None:
            plan.removed = [key for key, _ in session.origins(kind)]
        elif not inserts_all:
            absent, changed, plan.moved, plan.removed = rows.native.compare(kind, session.origins(kind))
            plan.updates = updates(session, kind, rows, changed)
            at_once = {update.at for update in plan.updates}
            plan.added = {row.id: row for row in (rows.row(kind, index) for index in absent)}
            few = (rows.row(kind, index) for index in changed if index not in at_once)
            plan.changed = {row.id: row for row in few}
            plan.wanted.update(plan.added | plan.changed)


def _unique(kind: EntityKind) -> Iterator[tuple[str, ...]]:
    """Groups of columns; the values of a group are unique together."""
    for field in kind.unique:
        yield ("hash",) if field == "key" else (field,)
    if kind.together:
        yield ("scope",) if "scope" in tables.ENTITIES[kind.name].c else kind.together


def _conflicts(session: WriteSession, plan: _Plan, build: ConflictBuilder) -> Iterator[Conflict]:
    kind, table = plan.kind, plan.table
    fresh = [*plan.added, *plan.changed]
    if not fresh:
        return
    others = _has_others(session, table)
    if others:
        for row in _rows(session, kind.name, list(plan.added)):
            yield build.held_by_admin_api(kind.name, "id", plan.added[row.id], row)
    for columns in _unique(kind):
        values = _values(plan.wanted.values(), columns)
        holders = dict(zip(values, plan.wanted, strict=True))  # the last row of equal ones
        if len(holders) < len(values) and columns != ("hash",):  # native code compared all keys of the file
            seen: dict[Any, Row] = {}
            for value, row in zip(values, plan.wanted.values(), strict=True):
                if seen.setdefault(value, row) is not row and value is not None:
                    yield build.declared_twice(kind.name, row, seen[value])
        if not others:
            continue
        wanted = list({*_values((plan.wanted[key] for key in fresh), columns[:1])} - {None})
        for part in _chunks(wanted):
            query = sa.select(table).where(table.c[columns[0]].in_(part), table.c.origin.is_(None))
            for record in session.connection.execute(query):
                row = row_of(kind.name, record)
                mine = holders.get(_values([row], columns)[0])
                if mine is not None and mine != record.id:
                    yield build.held_by_admin_api(kind.name, columns[-1], plan.wanted[mine], row)


def _values(rows: Iterable[Row], columns: tuple[str, ...]) -> list[Any]:
    """The values of these columns in each row; tuples if there are several columns."""
    if len(columns) > 1:
        rows = list(rows)
        return list(zip(*(_values(rows, (c,)) for c in columns), strict=True))
    (column,) = columns
    if column == "hash":
        return [row.hash for row in rows]
    if column == "scope":
        return [scope_of(row.body) for row in rows]
    if column in ("consumer", "upstream"):
        return [row.body[column]["id"] for row in rows]
    return [row.body[column] for row in rows]


def _has_others(session: WriteSession, table: sa.Table) -> bool:
    """Whether the Admin API has made an entity of this kind."""
    query = sa.select(sa.literal(1)).where(table.c.origin.is_(None)).limit(1)
    return session.connection.scalar(query) is not None


def _free(session: WriteSession, plan: _Plan) -> None:
    """Overwrite unique values that are about to change: entities may swap names, and removed entities free theirs."""
    if not plan.before or not (plan.added or plan.changed):
        return
    texts = [c for columns in _unique(plan.kind) for c in columns if c not in ("consumer", "upstream", "hash")]
    values: dict[str, Any] = {c: sa.bindparam("placeholder") for c in texts}
    if "hash" in plan.table.c:
        values["hash"] = sa.bindparam("digest")
    if values:
        query = sa.update(plan.table).where(plan.table.c.id == sa.bindparam("key")).values(values)
        # No entity's name contains a control character.
        going = [k for k in plan.before if k not in plan.changed or _lets_go(plan, k)]
        rows = [{"key": k, "placeholder": f"\x01{k}", "digest": f"\x01{k}".encode()} for k in going]
        names = {"key", *(("placeholder",) if texts else ()), *(("digest",) if "hash" in values else ())}
        if rows:
            _execute_many(session, query, [{k: v for k, v in r.items() if k in names} for r in rows])


def _lets_go(plan: _Plan, key: str) -> bool:
    before, after = [plan.before[key]], [plan.changed[key]]
    return any(_values(before, columns) != _values(after, columns) for columns in _unique(plan.kind))


def _insert(session: WriteSession, plan: _Plan) -> None:
    many = len(plan.added) + plan.inserted > CHUNK and plan.table.indexes and session.is_empty(plan.table)
    with session.without_indexes(plan.table) if many else nullcontext():
        if plan.added:
            numbers = _numbers(session, plan.kind.name, plan.added) if plan.kind.numbered else {}
            rows = [row._replace(n=numbers.get(key, 0)) for key, row in plan.added.items()]
            _execute_many(session, sa.insert(plan.table), [columns_of(plan.kind, row) for row in rows])
            _tag(session, plan.kind.name, rows)
            session.changes += [Change(plan.kind.name, None, row) for row in rows]
        if plan.rows is not None and plan.inserted:
            insert_all(session, plan.kind.name, plan.rows)


def _update(session: WriteSession, plan: _Plan) -> None:
    kind, table = plan.kind, plan.table
    if plan.moved:
        session.connection.exec_driver_sql(f"UPDATE {table.name} SET origin = ? WHERE id = ?", plan.moved)  # noqa: S608
    if plan.rows is not None and plan.updates:
        update_all(session, kind.name, plan.rows, plan.updates)
    if not plan.changed:
        return
    rows = []
    for key, row in plan.changed.items():
        before = plan.before[key]
        body = {**row.body, "created_at": before.body["created_at"]}
        rows.append(row._replace(n=before.n, body=body))
    values = [{f"new_{c}": v for c, v in columns_of(kind, row).items()} for row in rows]
    columns: dict[str, Any] = {c: sa.bindparam(f"new_{c}") for c in columns_of(kind, rows[0]) if c != "id"}
    _execute_many(session, sa.update(table).where(table.c.id == sa.bindparam("new_id")).values(columns), values)
    _untag(session, kind.name, list(plan.changed))
    _tag(session, kind.name, rows)
    session.changes += [Change(kind.name, plan.before[row.id], row) for row in rows]


def _remove(session: WriteSession, plan: _Plan) -> list[Conflict]:
    """Delete the rows that left the file. The file's rows below them are deleted already, so only rows of the Admin API remain there."""
    kind, conflicts = plan.kind, list[Conflict]()
    gone = {key: plan.before[key] for key in plan.removed}
    if not gone:
        return []
    if kind.name == "tiers":
        conflicts += tiers_in_use(session, gone.values())
    if kind.name == "ca_certificates":
        conflicts += authorities_in_use(session, gone.values())
    for other in KINDS.values():
        if not _has_others(session, tables.ENTITIES[other.name]):
            continue
        for field in (f for f, target in other.foreign.items() if target == kind.name):
            for below in _rows(session, other.name, list(gone), field):
                above = gone[below.body[field]["id"]]
                if field in other.cascades:
                    session.delete(other, below, by_file=True)
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
    session.retire(kind, gone.values())
    for part in _chunks(list(gone)):
        session.connection.execute(sa.delete(plan.table).where(plan.table.c.id.in_(part)))
    _untag(session, kind.name, list(gone))
    session.changes += [Change(kind.name, row, None) for row in gone.values()]
    return []


def _numbers(session: WriteSession, kind: str, keys: Iterable[str]) -> dict[str, int]:
    """Row numbers by id: the number that an id had before, or the next one."""
    known = session.numbers(kind)
    fresh = enumerate((k for k in keys if k not in known), session.highest(kind) + 1)
    return known | {key: n for n, key in fresh}


def _execute_many(session: WriteSession, statement: sa.Insert | sa.Update, rows: list[JsonDict]) -> None:
    """Execute one statement for many rows by the driver: SQLAlchemy would inspect every value."""
    keys = list(rows[0]) if isinstance(statement, sa.Insert) else None
    compiled = statement.compile(dialect=session.connection.dialect, column_keys=keys)
    order = getattr(compiled, "positiontup", None)
    if order is None:
        session.connection.execute(statement, rows)
    else:
        pick = itemgetter(*order)
        session.connection.exec_driver_sql(str(compiled), [pick(row) for row in rows])


def _rows(session: WriteSession, kind: str, values: list[str], column: str = "id") -> list[Row]:
    table = tables.ENTITIES[kind]
    return [
        row_of(kind, record)
        for part in _chunks(values)
        for record in session.connection.execute(sa.select(table).where(table.c[column].in_(part))).all()
    ]


def _tag(session: WriteSession, kind: str, rows: Iterable[Row]) -> None:
    tags = [{"kind": kind, "id": row.id, "tag": tag} for row in rows for tag in row.body.get("tags") or ()]
    if tags:
        _execute_many(session, sa.insert(tables.tags), tags)


def _untag(session: WriteSession, kind: str, keys: list[str]) -> None:
    c = tables.tags.c
    for part in _chunks(keys):
        session.connection.execute(sa.delete(tables.tags).where(c.kind == kind, c.id.in_(part)))


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


__all__ = ["Applied", "Conflict", "Conflicts", "Declared", "apply"]
