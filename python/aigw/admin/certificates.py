"""Certificates in the Admin API, where they differ from other entities: their keys are sealed in the store, and each has names.

In: input with keys or with references to them, rows. Out: input with the keys themselves, rows of SNIs, answers. No key leaves this module
but in an answer where `AIGW_ADMIN_SHOWS_KEYS=1` allows it.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from aigw.admin import envelope
from aigw.admin.hooks import Engine, Hooks, same, wrong_reference
from aigw.control.publish.files import Publisher
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS
from aigw.entities.certificate import KEYS, reference, referenced, stored
from aigw.schema.fields import is_uuid
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict

SNIS: Final = KINDS["snis"]
SECRETS: Final = "secrets"
MOST_NAMES: Final = 1000
"""SNIs of one certificate that one request may name: each is a row, and other changes wait meanwhile."""
SHUT: Final = "the stored key cannot be opened with the secret of this data folder: send the key itself"


class Certificates(Hooks):
    """The hooks of `certificates`."""

    key_fields = KEYS

    def find(self, engine: Engine, reader: StoreReader, key: str, fixed: Mapping[str, str]) -> Row | None:
        """By the name of an SNI."""
        sni = reader.get(SNIS.name, "name", SNIS.key_of(key), engine.now)
        return None if sni is None else reader.get(self.kind.name, "id", sni.body["certificate"]["id"], engine.now)

    def typed(self, engine: Engine, given: JsonDict, row: Row | None) -> JsonDict:
        """With keys in place of references to this certificate's own. Raises a Refusal for other references."""
        found = dict(given)
        wrong: JsonDict = {}
        for field in KEYS:
            text = given.get(field)
            key = referenced(text) if isinstance(text, str) else None
            if key is None:
                continue
            if row is None or key != (row.id, field) or field not in row.body[SECRETS]:
                wrong[field] = wrong_reference(None if row is None else reference(row.id, field))
            elif (opened := _opened(row, field, engine.publisher)) is None:
                wrong[field] = SHUT
            else:
                found[field] = opened
        if wrong:
            raise envelope.schema_violation(SchemaViolation(wrong))
        return found

    def named(self, given: JsonDict, name: str | None, row: Row | None) -> JsonDict:
        """A certificate serves the name in the path, too, and no name that the input leaves out."""
        snis = given.get("snis")
        if snis is None:
            snis = []
        if name is not None and isinstance(snis, list) and SNIS.key_of(name) not in map(_folded, snis):
            snis = [*snis, name]
        return {**given, "snis": snis}

    def merged(self, engine: Engine, row: Row, given: JsonDict) -> JsonDict:
        body = {name: value for name, value in row.body.items() if name != SECRETS}
        for field in row.body[SECRETS]:
            opened = None if field in given else _opened(row, field, engine.publisher)
            if opened is None and field not in given:
                raise envelope.schema_violation(SchemaViolation({field: SHUT}))
            body[field] = opened
        return {**body, **given}

    def sample(self, reader: StoreReader, data: JsonDict) -> tuple[JsonDict, Row | None]:
        """The certificate whose key a reference in the input stands for."""
        found = (referenced(data[field]) for field in KEYS if isinstance(data.get(field), str))
        key = next((one for one in found if one is not None), None)
        return data, None if key is None else reader.get(self.kind.name, "id", key[0], 0)

    def check_input(self, reader: StoreReader, given: JsonDict) -> None:
        """No name stands twice, or is another certificate's."""
        listed = given.get("snis")
        names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        if isinstance(listed, list) and len(listed) > MOST_NAMES:
            raise SchemaViolation(
                {"snis": f"at most {MOST_NAMES} names: make another certificate with the same pair for more"}
            )
        folded = [SNIS.key_of(name) for name in names]
        owners = {
            _folded(row.body["name"]): row.body["certificate"]["id"] for row in reader.among(SNIS.name, "name", folded)
        }
        seen = set[str]()
        for name, key in zip(names, folded, strict=True):  # the schema refuses other values
            if key in seen:
                raise SchemaViolation({"snis": f"{name} is duplicated"})
            seen.add(key)
            other = owners.get(key)
            if other is not None and other != given["id"]:
                raise SchemaViolation({"snis": f"{name} already associated with existing certificate '{other}'"})

    def store(self, engine: Engine, session: WriteSession, body: JsonDict, row: Row | None) -> JsonDict:
        """The certificate, its keys sealed, and its names; a body without names leaves them as they are."""
        before = row.body[SECRETS] if row is not None else {}
        kept = stored(body, engine.publisher.seal, engine.publisher.hash_key, before, {})
        if row is None or not same(row.body, kept):
            row = session.put(self.kind, kept, row)
        if body["snis"] is not None:
            _set_names(session, row.id, body["snis"], engine.now)
        return self.shown(engine, session, row)

    def absent(self, engine: Engine, reader: StoreReader, key: str, fixed: Mapping[str, str]) -> None:
        """As in Kong: a name that is not there is a 404."""
        if fixed or not is_uuid(key):
            raise envelope.not_found()

    def shown(self, engine: Engine, reader: StoreReader, row: Row) -> JsonDict:
        """In Kong's order. A file has its keys itself: answers never show those."""
        opens, body = engine.shows_keys and row.origin is None, row.body
        keys: dict[str, str | None] = {}
        for field in KEYS:
            opened = _opened(row, field, engine.publisher) if opens else None
            keys[field] = (opened or reference(row.id, field)) if field in body[SECRETS] else None
        names = sorted(sni.body["name"] for sni in reader.those(SNIS.name, {"certificate": row.id}))
        head = {name: body[name] for name in ("id", "created_at", "updated_at", "cert")}
        return {**head, "key": keys["key"], "cert_alt": body["cert_alt"], "key_alt": keys["key_alt"],
                "tags": body["tags"], "snis": names}  # fmt: skip


class CaCertificates(Hooks):
    """The hooks of `ca_certificates`."""

    def check_delete(self, reader: StoreReader, row: Row) -> None:
        """A CA certificate that a service names stays."""
        user = reader.service_of_ca(row.id)
        if user is not None:
            message = f"ca certificate {row.id} is still referenced by services (id = {user.id})"
            raise envelope.coded(400, 19, "referenced by others", message)


class Services(Hooks):
    """The hooks of `services`."""

    def check_body(self, reader: StoreReader, body: JsonDict, row: Row | None) -> None:
        """Its CA certificates are there."""
        wanted = body["ca_certificates"] or []
        known = {one.id for one in reader.among("ca_certificates", "id", wanted)}
        if not known.issuperset(wanted):
            text = "there is no CA certificate with this id: add it to /ca_certificates first"
            raise SchemaViolation({"ca_certificates": [None if key in known else text for key in wanted]})


def _set_names(session: WriteSession, key: str, wanted: list[str], now: int) -> None:
    """Make the SNIs of a certificate these. Raises ReadOnly."""
    there = {_folded(row.body["name"]): row for row in session.those(SNIS.name, {"certificate": key})}
    names = {_folded(name): name for name in wanted}
    for folded in there.keys() - names.keys():
        session.delete(SNIS, there[folded])
    for folded, name in names.items():
        row = there.get(folded)
        if row is None:
            made: JsonDict = {"id": str(uuid4()), "created_at": now, "updated_at": now, "name": name, "tags": None}
            session.put(SNIS, {**made, "certificate": {"id": key}}, None)
        elif row.body["name"] != name:
            session.put(SNIS, {**row.body, "name": name, "updated_at": now}, row)


def _folded(name: Any) -> Any:
    return SNIS.key_of(name) if isinstance(name, str) else name


def _opened(row: Row, field: str, publisher: Publisher) -> str | None:
    secret = row.body[SECRETS].get(field)
    if secret is None:
        return None
    try:
        return publisher.unseal(secret["sealed"]).decode()
    except ValueError:  # damaged, or of another data folder
        return None
