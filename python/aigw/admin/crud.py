"""One engine for all entities: create, read, list, upsert, patch and delete, driven by `EntityKind` and the model's schema.

In: a kind, a decoded body, the path's key. Out: the entity as clients see it; raises `Refusal`. The writing half runs on
the writer thread, inside a transaction, so its checks (references, uniqueness, the row to merge into) stay true until the commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from aigw.admin import envelope
from aigw.admin.body import Form, typed, typed_fields
from aigw.control.publish.files import Publisher
from aigw.control.store import tables
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Referenced, Row, UniqueViolation, must_be_of
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, EntityKind, check_entity
from aigw.entities.keyauth_credential import key_hint
from aigw.entities.route import UNREACHABLE, unreachable
from aigw.plugins import PLUGINS
from aigw.schema.describe import describe
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict

CREDENTIALS: Final = "keyauth_credentials"
TIERS: Final = "tiers"


def is_uuid(text: str) -> bool:
    """Whether a key in a path is an id."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Crud:
    """The engine at one moment: `now` in unix seconds, `soon` rounded up. `publisher` makes HMACs of keys."""

    publisher: Publisher
    now: int
    soon: int

    def find(
        self, reader: StoreReader, kind: EntityKind, key: str, fixed: Mapping[str, str] | None = None
    ) -> Row | None:
        """The entity by id, or by its endpoint key. A key that is unique only under its parent needs the parent in `fixed`."""
        if is_uuid(key):
            return reader.get(kind.name, "id", key.lower(), self.now)
        if kind.endpoint_key == "key":
            return reader.get(kind.name, "hash", self.publisher.hash_key(key.encode()), self.now)
        if kind.endpoint_key in kind.together:
            own = {**(fixed or {}), kind.endpoint_key: key}
            return reader.find(kind.name, own, self.now) if own.keys() == set(kind.together) else None
        return reader.get(kind.name, kind.endpoint_key, key, self.now)

    def shown_of(self, kind: EntityKind) -> Callable[[Row], JsonDict]:
        """`shown` of one kind."""
        return lambda row: self.shown(kind, row)

    def shown(self, kind: EntityKind, row: Row, key: str | None = None) -> JsonDict:
        """The entity as clients see it. Pass `key` only for the one answer that shows it."""
        if kind.name == TIERS:  # Kong's clients see a consumer group
            return {k: v for k, v in row.body.items() if k != "spec"}
        if kind.name != CREDENTIALS:
            return row.body
        body = {**row.body, "key": key}
        del body["ttl"]
        return {**body, "ttl": max(0, row.expires_at - self.soon)} if row.expires_at else body

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
        """PUT: creates or replaces; omitted fields return to their defaults. A credential keeps its key."""
        row = self.find(session, kind, key, fixed)
        self._must_be_under(row, fixed)
        if row is not None:
            must_be_of(False, row)
        given = self._typed(kind, data, row)
        _must_be_named(given, row.id if row is not None else key.lower() if is_uuid(key) else None)
        if row is not None:
            given = {"created_at": row.body["created_at"], **given, "id": row.id}
        elif is_uuid(key):
            given = {**kind.defaults(), **{k: v for k, v in given.items() if v is not None}, "id": key.lower()}
        if not is_uuid(key) and given.get(kind.endpoint_key) is None:
            given[kind.endpoint_key] = key
        return self._write(session, kind, {"id": str(uuid4()), **given}, fixed, row)

    def patch(
        self, session: WriteSession, kind: EntityKind, key: str, data: JsonDict, fixed: Mapping[str, str]
    ) -> JsonDict:
        """PATCH: merged, also inside the config; null returns a field to its default. Raises 404."""
        row = self.find(session, kind, key, fixed)
        if row is None:
            raise envelope.not_found()
        self._must_be_under(row, fixed)
        must_be_of(False, row)
        given = self._typed(kind, data, row)
        _must_be_named(given, row.id)
        merged = {**row.body, **given, "id": row.id}
        if isinstance(given.get("config"), dict) and given.get("name", row.body.get("name")) == row.body.get("name"):
            merged["config"] = _merge(row.body["config"], given["config"])
        if kind.name == CREDENTIALS and "ttl" not in given and row.expires_at:
            merged["ttl"] = row.expires_at - self.now
        return self._write(session, kind, merged, fixed, row)

    def delete(self, session: WriteSession, kind: EntityKind, key: str, fixed: Mapping[str, str]) -> None:
        """DELETE. An absent entity is a success, except on a nested path: 404."""
        row = self.find(session, kind, key, fixed)
        self._must_be_under(row, fixed)
        if row is None:
            if fixed:
                raise envelope.not_found()
            return
        try:
            session.delete(kind, row)
        except Referenced as error:
            raise envelope.still_referenced(error, kind.name) from None

    def check(self, kind: EntityKind, data: JsonDict) -> None:
        """POST /schemas/{entity}/validate: raises the same Refusal as a write, except for references."""
        given = self._typed(kind, data, None)
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
        given = {k: v for k, v in data.items() if v is not None}
        given.setdefault("created_at", self.now)
        if kind.has_updated_at:
            given["updated_at"] = self.now
        for field, target in fixed.items():
            given[field] = {"id": target}
        self._resolve(session, kind, given)
        try:
            body = check_entity(kind, given).model_dump(mode="json")
            self._references_exist(session, kind, body)
            _must_be_reachable(session, kind, body, row)
            if kind.name == CREDENTIALS:
                return self._write_credential(session, kind, body, row)
            return self.shown(kind, session.put(kind, body, row))
        except SchemaViolation as error:
            raise envelope.schema_violation(error) from None
        except UniqueViolation as error:
            raise envelope.unique_violation(error) from None

    def _write_credential(self, session: WriteSession, kind: EntityKind, body: JsonDict, row: Row | None) -> JsonDict:
        key, ttl = body["key"], body["ttl"]
        if key is not None:
            digest, hint = self.publisher.hash_key(key.encode()), key_hint(key)
            session.purge_hash(digest, self.now)
        elif row is not None:
            digest, hint = row.hash, row.body["key_hint"]
        else:  # a new credential without a key gets the default
            key = kind.defaults()["key"]
            digest, hint = self.publisher.hash_key(key.encode()), key_hint(key)
        stored = {**body, "key": None, "key_hint": hint, "ttl": None}
        # Workers compare whole seconds: counted from the second before, a key with ttl 1 could be expired on arrival.
        return self.shown(kind, session.put(kind, stored, row, digest, self.soon + ttl if ttl else 0), key)

    def _typed(self, kind: EntityKind, data: JsonDict, row: Row | None) -> JsonDict:
        """The input without read-only fields, and with a form's text converted by the schema."""
        given = data
        if isinstance(data, Form):
            given = typed_fields(data, kind.model)
            name = given.get("name", row.body.get("name") if row else None)
            if kind.name == "plugins" and name in PLUGINS and isinstance(given.get("config"), dict):
                given["config"] = typed(given["config"], self._config_schema(str(name)))
        return {k: v for k, v in given.items() if kind.name != CREDENTIALS or k != "key_hint"}

    @staticmethod
    def _config_schema(name: str) -> JsonDict:
        plugin = PLUGINS[name]
        schema = describe(plugin.config)
        inner = {k: v for field in schema["fields"] for k, v in field.items()}
        flat = []
        for alias, (record, member) in plugin.aliases.items():
            flat += [{alias: f[member]} for f in inner[record]["fields"] if member in f]
        return {**schema, "fields": [*schema["fields"], *flat]}

    def _resolve(self, reader: StoreReader, kind: EntityKind, given: JsonDict) -> None:
        """Replace references by name (`service.name=x`) with references by id."""
        for field, collection in kind.foreign.items():
            target, value = KINDS[collection], given.get(field)
            if not isinstance(value, dict) or value.get("id") is not None:
                continue
            name = value.get(target.endpoint_key)
            if isinstance(name, str) and list(value) == [target.endpoint_key]:
                row = reader.get(collection, target.endpoint_key, name, self.now)
                if row is None:
                    raise envelope.missing_reference(field, value, collection)
                given[field] = {"id": row.id}

    def _references_exist(self, reader: StoreReader, kind: EntityKind, body: JsonDict) -> None:
        for field, collection in kind.foreign.items():
            if body[field] and reader.get(collection, "id", body[field]["id"], self.now) is None:
                raise envelope.missing_reference(field, body[field], collection)

    @staticmethod
    def _must_be_under(row: Row | None, fixed: Mapping[str, str]) -> None:
        for field, parent in fixed.items():
            if row is not None and (row.body[field] or {}).get("id") != parent:
                raise envelope.not_found()


def _must_be_reachable(reader: StoreReader, kind: EntityKind, body: JsonDict, row: Row | None) -> None:
    """Raise SchemaViolation for new paths of a route below /v1 while there are models: they precede all routes."""
    paths = body.get("paths") if kind.name == "routes" else None
    if not paths or (row is not None and row.body["paths"] == paths):
        return
    wrong = unreachable(paths)
    if wrong and not reader.is_empty(tables.models):
        found = [UNREACHABLE if index in wrong else None for index in range(max(wrong) + 1)]
        raise SchemaViolation({"paths": found})


def _must_be_named(given: JsonDict, key: str | None) -> None:
    """Raise a Refusal if the body asks for another id than the path's entity (`key`): ids never change."""
    wanted = given.get("id")
    if key is not None and wanted is not None and not (isinstance(wanted, str) and wanted.lower() == key):
        raise envelope.schema_violation(SchemaViolation({"id": "cannot be changed: the path names another entity"}))


def _merge(old: Any, new: Any) -> Any:
    """Merge records; replace every other value."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: _merge(old.get(k), v) for k, v in new.items()}}
    return new
