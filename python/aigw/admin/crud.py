"""One engine for all entities: create, read, list, upsert, patch and delete, driven by `EntityKind`, its hooks and the model's schema.

In: a kind, a decoded body, the path's key. Out: the entity as clients see it; raises `Refusal`. The writing half runs on
the writer thread, inside a transaction, so its checks (references, uniqueness, the row to merge into) stay true until the commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from aigw.admin import envelope
from aigw.admin.body import Form, typed_fields
from aigw.admin.hooks import Engine
from aigw.admin.kinds import hooks_of
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Referenced, Row, UniqueViolation
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, EntityKind, check_entity
from aigw.schema.fields import is_uuid
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict


@dataclass(frozen=True, slots=True)
class Crud(Engine):
    """The engine at one moment."""

    def find(
        self, reader: StoreReader, kind: EntityKind, key: str, fixed: Mapping[str, str] | None = None
    ) -> Row | None:
        """The entity by id, or by its endpoint key. A key that is unique only under its parent needs the parent in `fixed`."""
        if is_uuid(key):
            return reader.get(kind.name, "id", key.lower(), self.now)
        return hooks_of(kind).find(self, reader, key, fixed or {})

    def shown_of(self, reader: StoreReader, kind: EntityKind) -> Callable[[Row], JsonDict]:
        """`shown` of one kind."""
        return lambda row: self.shown(reader, kind, row)

    def shown(self, reader: StoreReader, kind: EntityKind, row: Row) -> JsonDict:
        """The entity as clients see it."""
        return hooks_of(kind).shown(self, reader, row)

    def create(self, session: WriteSession, kind: EntityKind, data: JsonDict, fixed: Mapping[str, str]) -> JsonDict:
        """POST: 201. `fixed` holds the references that the path sets."""
        given = {**kind.defaults(), **{k: v for k, v in self._typed(kind, data, None).items() if v is not None}}
        key = given.get("id") or str(uuid4())
        if isinstance(key, str) and session.get(kind.name, "id", key.lower(), self.now) is not None:
            raise envelope.primary_key_violation(key)
        return self._write(session, kind, {**given, "id": key}, fixed, None)

    def upsert(
        self, session: WriteSession, kind: EntityKind, key: str, data: JsonDict, fixed: Mapping[str, str]
    ) -> JsonDict:
        """PUT: creates or replaces; omitted fields return to their defaults. A credential keeps its key. An entity of another parent
        moves to the path's, as in Kong."""
        hooks, parents = hooks_of(kind), {**self._parents(session, kind, data), **fixed}
        row = self.find(session, kind, key, parents)
        if row is None and is_uuid(key):
            row = hooks.taken_over(self, session, key.lower(), data, parents)
        if row is not None:
            session.must_be_of(kind.name, row)
        given = hooks.named(self._typed(kind, data, row), None if is_uuid(key) else key, row)
        _must_be_named(given, row.id if row is not None else key.lower() if is_uuid(key) else None)
        if row is not None:
            given = {"created_at": row.body["created_at"], **given, "id": row.id}
        elif is_uuid(key):
            given = {**kind.defaults(), **{k: v for k, v in given.items() if v is not None}, "id": key.lower()}
        return self._write(session, kind, {"id": str(uuid4()), **given}, fixed, row)

    def patch(
        self, session: WriteSession, kind: EntityKind, key: str, data: JsonDict, fixed: Mapping[str, str]
    ) -> JsonDict:
        """PATCH: merged, also inside the config; null returns a field to its default. The body may name another parent than the path.
        Raises 404."""
        row = self.find(session, kind, key, fixed)
        if row is None:
            raise envelope.not_found()
        self.must_be_under(row, fixed)
        session.must_be_of(kind.name, row)
        given = self._typed(kind, data, row)
        _must_be_named(given, row.id)
        merged = hooks_of(kind).merged(self, row, given)
        return self._write(session, kind, {**merged, "id": row.id}, {}, row)

    def delete(self, session: WriteSession, kind: EntityKind, key: str, fixed: Mapping[str, str]) -> None:
        """DELETE. An absent entity is a success, except on a nested path: 404."""
        row = self.find(session, kind, key, fixed)
        self.must_be_under(row, fixed)
        if row is None:
            hooks_of(kind).absent(self, session, key, fixed)
            return
        hooks_of(kind).check_delete(session, row)
        try:
            session.delete(kind, row)
        except Referenced as error:
            raise envelope.still_referenced(error, kind.name) from None

    def check(self, reader: StoreReader, kind: EntityKind, data: JsonDict) -> None:
        """POST /schemas/{entity}/validate: raises the same Refusal as a write, except for references: to entities, and in place of a
        consumer's key."""
        given = self._typed(kind, *hooks_of(kind).sample(reader, data))
        stamp = {
            "id": str(uuid4()),
            "created_at": self.now,
            **({"updated_at": self.now} if kind.has_updated_at else {}),
        }
        try:
            check_entity(kind, {**stamp, **{k: v for k, v in given.items() if v is not None}})
        except SchemaViolation as error:
            raise envelope.schema_violation(error) from None

    def _write(
        self, session: WriteSession, kind: EntityKind, data: JsonDict, fixed: Mapping[str, str], row: Row | None
    ) -> JsonDict:
        hooks, given = hooks_of(kind), {k: v for k, v in data.items() if v is not None}
        given.setdefault("created_at", self.now)
        if kind.has_updated_at:
            given["updated_at"] = self.now
        for field, target in fixed.items():
            given[field] = {"id": target}
        self._resolve(session, kind, given)
        try:
            hooks.check_input(session, given)
            body = check_entity(kind, given).model_dump(mode="json")
            self._references_exist(session, kind, body)
            hooks.check_body(session, body, row)
            return hooks.store(self, session, body, row)
        except SchemaViolation as error:
            raise envelope.schema_violation(error) from None
        except UniqueViolation as error:
            raise envelope.unique_violation(error) from None

    def _typed(self, kind: EntityKind, data: JsonDict, row: Row | None) -> JsonDict:
        """The input without read-only fields, and with a form's text converted by the schema."""
        hooks, given = hooks_of(kind), data
        if isinstance(data, Form):
            given = hooks.of_form(typed_fields(data, kind.model), row)
        return hooks.typed(self, given, row)

    def _resolve(self, reader: StoreReader, kind: EntityKind, given: JsonDict) -> None:
        """Replace references by name (`service.name=x`) with references by id."""
        for field, collection in kind.foreign.items():
            target, value = KINDS[collection], given.get(field)
            if not isinstance(value, dict) or value.get("id") is not None:
                continue
            name = value.get(target.endpoint_key)
            if isinstance(name, str):
                row = reader.get(collection, target.endpoint_key, name, self.now)
                if row is None:
                    raise envelope.unresolved_reference(field, target.endpoint_key, name, collection)
                given[field] = {"id": row.id}

    def _parents(self, reader: StoreReader, kind: EntityKind, data: JsonDict) -> dict[str, str]:
        """Ids of the entities in the body under which the endpoint key is unique: a path like /acls/{group} names none."""
        if kind.endpoint_key not in kind.together:
            return {}
        given = {field: data[field] for field in kind.foreign if field in data}
        self._resolve(reader, kind, given)
        found = {field: value.get("id") for field, value in given.items() if isinstance(value, dict)}
        return {field: value.lower() for field, value in found.items() if isinstance(value, str)}

    def _references_exist(self, reader: StoreReader, kind: EntityKind, body: JsonDict) -> None:
        for field, collection in kind.foreign.items():
            if body[field] and reader.get(collection, "id", body[field]["id"], self.now) is None:
                raise envelope.missing_reference(field, body[field], collection)

    @staticmethod
    def must_be_under(row: Row | None, fixed: Mapping[str, str]) -> None:
        """Raise a 404 for an entity that is not below the parents in `fixed`: an id alone names it, whatever the path's parent."""
        for field, parent in fixed.items():
            if row is not None and (row.body[field] or {}).get("id") != parent:
                raise envelope.not_found()


def _must_be_named(given: JsonDict, key: str | None) -> None:
    """Raise a Refusal if the body asks for another id than the path's entity (`key`): ids never change."""
    wanted = given.get("id")
    if key is not None and wanted is not None and not (isinstance(wanted, str) and wanted.lower() == key):
        raise envelope.schema_violation(SchemaViolation({"id": "cannot be changed: the path names another entity"}))
