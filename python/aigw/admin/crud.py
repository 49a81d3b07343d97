"""One engine for all entities: create, read, list, upsert, patch and delete, driven by `EntityKind` and the model's schema.

In: a kind, a decoded body, the path's key. Out: the entity as clients see it; raises `Refusal`. The writing half runs on
the writer thread, inside a transaction, so its checks (references, uniqueness, the row to merge into) stay true until the commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from aigw.admin import certificates, envelope
from aigw.admin.body import Form, typed, typed_fields
from aigw.control.publish.files import Publisher
from aigw.control.store import tables
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Referenced, Row, UniqueViolation
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, EntityKind, check_entity
from aigw.entities.certificate import stored
from aigw.entities.keyauth_credential import key_hint, reference, referenced
from aigw.entities.route import UNREACHABLE, unreachable
from aigw.plugins import PLUGINS
from aigw.schema.describe import describe
from aigw.schema.fields import FieldErrors, is_uuid
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict

CREDENTIALS: Final = "keyauth_credentials"
CERTIFICATES: Final = "certificates"
TIERS: Final = "tiers"
PLUGIN_INSTANCES: Final = "plugins"
SEALED: Final = "sealed"
MOVED: Final = "moved"
_HIDDEN: Final = (SEALED, MOVED, "ttl")
"""Members of a stored credential that no answer has: its key, sealed; the id that it had before, and until when; `ttl`, which is computed."""
MOVED_SECONDS: Final = 600
"""Seconds for which deleting a credential's former id is a success: a client that moved it deletes the id within seconds."""
MOST_KEYS: Final = 1000
"""Credentials of one consumer among which a former id is sought."""
NO_KEY_BEHIND: Final = "a reference stands for the key of an existing credential, and this one is new: send the key itself, or leave it out"
OTHER_KEY: Final = "is the reference to another credential: send the key itself, or this one's reference, {}"


@dataclass(frozen=True, slots=True)
class Crud:
    """The engine at one moment: `now` in unix seconds, `soon` rounded up. `publisher` makes HMACs of keys, and seals them where
    `shows_keys`."""

    publisher: Publisher
    now: int
    soon: int
    shows_keys: bool = False

    def find(
        self, reader: StoreReader, kind: EntityKind, key: str, fixed: Mapping[str, str] | None = None
    ) -> Row | None:
        """The entity by id, or by its endpoint key. A key that is unique only under its parent needs the parent in `fixed`."""
        if is_uuid(key):
            return reader.get(kind.name, "id", key.lower(), self.now)
        if kind.name == CERTIFICATES:
            return reader.get(kind.name, "id", certificates.id_of(reader, key), self.now)
        if kind.endpoint_key == "key" and (key_id := referenced(key)) is not None:
            return reader.get(kind.name, "id", key_id, self.now)
        key = kind.key_of(key)
        if kind.endpoint_key == "key":
            return reader.get(kind.name, "hash", self.publisher.hash_key(key.encode()), self.now)
        if kind.endpoint_key in kind.together:
            own = {**(fixed or {}), kind.endpoint_key: key}
            return reader.find(kind.name, own, self.now) if own.keys() == set(kind.together) else None
        return reader.get(kind.name, kind.endpoint_key, key, self.now)

    def shown_of(self, reader: StoreReader, kind: EntityKind) -> Callable[[Row], JsonDict]:
        """`shown` of one kind."""
        return lambda row: self.shown(reader, kind, row)

    def shown(self, reader: StoreReader, kind: EntityKind, row: Row, key: str | None = None) -> JsonDict:
        """The entity as clients see it. Pass `key` only for the answer to the write that sent or made it."""
        if kind.name == TIERS:  # Kong's clients see a consumer group
            return {k: v for k, v in row.body.items() if k != "spec"}
        if kind.name == PLUGIN_INSTANCES:
            return {**row.body, "config": PLUGINS[row.body["name"]].shown(row.body["config"])}
        if kind.name == CERTIFICATES:
            opens = self.shows_keys and row.origin is None  # a file has its keys itself
            return certificates.shown(reader, row, self.publisher if opens else None)
        if kind.name != CREDENTIALS:
            return row.body
        body = {k: v for k, v in row.body.items() if k not in _HIDDEN}
        body["key"] = key or self.key_of(row) or reference(row.id)
        # Rounded down, as in Kong. A client may send this number back, and 0 would mean for ever.
        return {**body, "ttl": max(1, row.expires_at - self.soon - 1)} if row.expires_at else body

    def key_of(self, row: Row) -> str | None:
        """The key of a credential, if it is sealed in the store and answers may show it."""
        sealed = row.body.get(SEALED) if self.shows_keys else None
        if sealed is None:
            return None
        try:
            owner, _, key = self.publisher.unseal(sealed).decode().partition(" ")
        except ValueError:  # damaged, or of another data folder
            return None
        return key if owner == str(row.n) else None

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
        parents = {**self._parents(session, kind, data), **fixed}
        row = self.find(session, kind, key, parents)
        if row is None and kind.name == CREDENTIALS and is_uuid(key):
            row = self._moved(session, kind, key.lower(), data, parents)
        self.must_be_under(row, fixed)
        if row is not None:
            session.must_be_of(kind.name, row)
        given = self._typed(kind, data, row)
        if kind.name == CERTIFICATES:
            given = certificates.with_name(given, None if is_uuid(key) else key)
        _must_be_named(given, row.id if row is not None else key.lower() if is_uuid(key) else None)
        if row is not None:
            given = {"created_at": row.body["created_at"], **given, "id": row.id}
        elif is_uuid(key):
            given = {**kind.defaults(), **{k: v for k, v in given.items() if v is not None}, "id": key.lower()}
        if not is_uuid(key) and given.get(kind.endpoint_key) is None and kind.name != CERTIFICATES:
            given[kind.endpoint_key] = key
        return self._write(session, kind, {"id": str(uuid4()), **given}, fixed, row)

    def patch(
        self, session: WriteSession, kind: EntityKind, key: str, data: JsonDict, fixed: Mapping[str, str]
    ) -> JsonDict:
        """PATCH: merged, also inside the config; null returns a field to its default. Raises 404."""
        row = self.find(session, kind, key, fixed)
        if row is None:
            raise envelope.not_found()
        self.must_be_under(row, fixed)
        session.must_be_of(kind.name, row)
        given = self._typed(kind, data, row)
        _must_be_named(given, row.id)
        kept = {k: v for k, v in row.body.items() if k not in (SEALED, MOVED)}
        if kind.name == CERTIFICATES:
            kept = certificates.whole(row, given, self.publisher)
        merged = {**kept, **given, "id": row.id}
        if isinstance(given.get("config"), dict) and given.get("name", row.body.get("name")) == row.body.get("name"):
            merged["config"] = _merge(row.body["config"], _renamed(row.body["name"], given["config"]))
        if kind.name == CREDENTIALS and "ttl" not in given and row.expires_at:
            merged["ttl"] = max(1, row.expires_at - self.soon)  # counted from `soon` again, and 0 would mean for ever
        return self._write(session, kind, merged, fixed, row)

    def delete(self, session: WriteSession, kind: EntityKind, key: str, fixed: Mapping[str, str]) -> None:
        """DELETE. An absent entity is a success, except on a nested path: 404."""
        row = self.find(session, kind, key, fixed)
        self.must_be_under(row, fixed)
        if row is None:
            if kind.name == CERTIFICATES and not is_uuid(key):  # as in Kong: there is no such name
                raise envelope.not_found()
            if fixed and not (kind.name == CREDENTIALS and self._has_left(session, key, fixed)):
                raise envelope.not_found()
            return
        if kind.name == "ca_certificates":
            certificates.must_be_unused(session, row)
        try:
            session.delete(kind, row)
        except Referenced as error:
            raise envelope.still_referenced(error, kind.name) from None

    def check(self, reader: StoreReader, kind: EntityKind, data: JsonDict) -> None:
        """POST /schemas/{entity}/validate: raises the same Refusal as a write, except for references: to entities, and in place of a
        consumer's key."""
        key = data.get("key")
        if kind.name == CREDENTIALS and isinstance(key, str) and referenced(key):
            data = type(data)({k: v for k, v in data.items() if k != "key"})
        row = certificates.behind(reader, data) if kind.name == CERTIFICATES else None
        given = self._typed(kind, data, row)
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
            if kind.name == CERTIFICATES:
                certificates.must_be_free(session, given, given["id"])
            body = check_entity(kind, given).model_dump(mode="json")
            self._references_exist(session, kind, body)
            _must_be_reachable(session, kind, body, row)
            certificates.must_be_known(session, body)
            if kind.name == CREDENTIALS:
                return self._write_credential(session, kind, body, row)
            if kind.name == CERTIFICATES:
                return self._write_certificate(session, kind, body, row)
            if row is not None and _same(row.body, body):
                return self.shown(session, kind, row)
            return self.shown(session, kind, session.put(kind, body, row))
        except SchemaViolation as error:
            raise envelope.schema_violation(error) from None
        except UniqueViolation as error:
            raise envelope.unique_violation(error) from None

    def _moved(
        self, session: WriteSession, kind: EntityKind, new: str, data: JsonDict, parents: Mapping[str, str]
    ) -> Row | None:
        """The consumer's credential with the key in the body, under its new id. decK knows a credential by its key; where it sees
        a reference only, it sends the key with a new id, and then deletes the old one. The key never stops working."""
        sent = data.get("key")
        if not isinstance(sent, str) or sent.startswith("{"):
            return None
        row = session.get(kind.name, "hash", self.publisher.hash_key(sent.encode()), self.now)
        if row is None or row.body["consumer"]["id"] != parents.get("consumer"):
            return None
        session.must_be_of(kind.name, row)
        return session.rename(kind, row, {**row.body, "id": new, MOVED: {"from": row.id, "at": self.now}})

    def _has_left(self, reader: StoreReader, key: str, fixed: Mapping[str, str]) -> bool:
        """Whether a credential of the consumer had this id until a moment ago: to delete the id is done already."""
        found = (r.body.get(MOVED) for r in reader.page(CREDENTIALS, self.now, MOST_KEYS, "", fixed))
        return any(m and m["from"] == key.lower() and m["at"] > self.now - MOVED_SECONDS for m in found)

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
        kept = {**body, "key": None, "key_hint": hint, "ttl": None}
        if row is not None and MOVED in row.body:
            kept[MOVED] = row.body[MOVED]
        # Workers compare whole seconds: counted from the second before, a key with ttl 1 could be expired on arrival.
        end = self.soon + ttl if ttl else 0
        known = row if row is not None and row.hash == digest else None
        if self.shows_keys and known is not None and self.key_of(known):
            kept[SEALED] = known.body[SEALED]
        elif self.shows_keys and key is not None:
            n = row.n if row is not None else session.number(kind.name, body["id"])
            kept[SEALED] = self.publisher.seal(f"{n} {key}".encode())
        if known is not None and known.expires_at == end and known.body == kept:
            return self.shown(session, kind, known, key)
        return self.shown(session, kind, session.put(kind, kept, row, digest, end), key)

    def _write_certificate(self, session: WriteSession, kind: EntityKind, body: JsonDict, row: Row | None) -> JsonDict:
        """Write the certificate, its keys sealed, and its names; a body without names leaves them as they are."""
        before = row.body[certificates.SECRETS] if row is not None else {}
        kept = stored(body, self.publisher.seal, self.publisher.hash_key, before, {})
        snis = body["snis"]
        if row is None or not _same(row.body, kept):
            row = session.put(kind, kept, row)
        if snis is not None:
            certificates.set_names(session, row.id, snis, self.now)
        return self.shown(session, kind, row)

    def _without_reference(self, given: JsonDict, row: Row | None) -> JsonDict:
        """The input without a reference in place of the credential's own key: the key stays. Raises a Refusal for another one's."""
        key = given.get("key")
        key_id = referenced(key) if isinstance(key, str) else None
        if key_id is None:
            return given
        if row is None:
            raise envelope.schema_violation(SchemaViolation({"key": NO_KEY_BEHIND}))
        if key_id != row.id:
            raise envelope.schema_violation(SchemaViolation({"key": OTHER_KEY.format(reference(row.id))}))
        return {k: v for k, v in given.items() if k != "key"}

    def _typed(self, kind: EntityKind, data: JsonDict, row: Row | None) -> JsonDict:
        """The input without read-only fields, and with a form's text converted by the schema."""
        given = data
        if isinstance(data, Form):
            given = typed_fields(data, kind.model)
            name = given.get("name", row.body.get("name") if row else None)
            known = kind.name == PLUGIN_INSTANCES and isinstance(name, str) and name in PLUGINS
            if known and isinstance(given.get("config"), dict):
                given["config"] = typed(given["config"], self._config_schema(str(name)))
        if kind.name == CERTIFICATES:
            return certificates.with_keys(given, row, self.publisher)
        if kind.name != CREDENTIALS:
            return given
        return self._without_reference({k: v for k, v in given.items() if k != "key_hint"}, row)

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


def _must_be_reachable(reader: StoreReader, kind: EntityKind, body: JsonDict, row: Row | None) -> None:
    """Raise SchemaViolation for new paths of a route below /v1 while there are models: they precede all routes."""
    paths = body.get("paths") if kind.name == "routes" else None
    if not paths or (row is not None and row.body["paths"] == paths):
        return
    wrong = unreachable(paths)
    if wrong and not reader.is_empty(tables.models):
        found = [UNREACHABLE if index in wrong else None for index in range(max(wrong) + 1)]
        raise SchemaViolation({"paths": found})


def _same(before: JsonDict, after: JsonDict) -> bool:
    """Whether a write changes nothing: then nothing is stored and published, and `updated_at` stays."""
    return before == {**after, **({"updated_at": before["updated_at"]} if "updated_at" in before else {})}


def _must_be_named(given: JsonDict, key: str | None) -> None:
    """Raise a Refusal if the body asks for another id than the path's entity (`key`): ids never change."""
    wanted = given.get("id")
    if key is not None and wanted is not None and not (isinstance(wanted, str) and wanted.lower() == key):
        raise envelope.schema_violation(SchemaViolation({"id": "cannot be changed: the path names another entity"}))


def _renamed(name: str, config: JsonDict) -> JsonDict:
    """`PluginKind.renamed`, before a merge: a deprecated field overrules the stored value of the one that replaces it."""
    try:
        return PLUGINS[name].renamed(config)
    except FieldErrors as error:
        raise envelope.schema_violation(SchemaViolation(dict(error.fields))) from None


def _merge(old: Any, new: Any) -> Any:
    """Merge records; replace every other value."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: _merge(old.get(k), v) for k, v in new.items()}}
    return new
