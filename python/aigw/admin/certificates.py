"""Certificates in the Admin API, where they differ from other entities: their keys are sealed in the store, and each has names.

In: input with keys or with references to them, rows. Out: input with the keys themselves, rows of SNIs, answers. No key leaves this module
but in an answer where `AIGW_ADMIN_SHOWS_KEYS=1` allows it.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from aigw.admin import envelope
from aigw.control.publish.files import Publisher
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS
from aigw.entities.certificate import KEYS, reference, referenced
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict

CERTIFICATES, SNIS = KINDS["certificates"], KINDS["snis"]
SECRETS: Final = "secrets"
NO_KEY_BEHIND: Final = (
    "a reference stands for the key of an existing certificate, and this one is new: send the key itself"
)
OTHER_KEY: Final = "is the reference to another key: send the key itself, or this one's reference, {}"
MOST_NAMES: Final = 1000
"""SNIs of one certificate that one request may name: each is a row, and other changes wait meanwhile."""
SHUT: Final = "the stored key cannot be opened with the secret of this data folder: send the key itself"


def id_of(reader: StoreReader, name: str) -> str | None:
    """The id of the certificate that an SNI names."""
    row = reader.get(SNIS.name, "name", name, 0)
    return None if row is None else str(row.body["certificate"]["id"])


def behind(reader: StoreReader, given: JsonDict) -> Row | None:
    """The certificate whose key a reference in the input stands for."""
    found = (referenced(given[field]) for field in KEYS if isinstance(given.get(field), str))
    key = next((one for one in found if one is not None), None)
    return None if key is None else reader.get(CERTIFICATES.name, "id", key[0], 0)


def names(reader: StoreReader, key: str) -> list[str]:
    """The names of a certificate, in order."""
    return sorted(row.body["name"] for row in reader.those(SNIS.name, {"certificate": key}))


def with_name(given: JsonDict, name: str | None) -> JsonDict:
    """The input of a PUT: it serves the name in the path, too, and no name that it leaves out."""
    snis = given.get("snis")
    if snis is None:
        snis = []
    if name is not None and isinstance(snis, list) and name not in snis:
        snis = [*snis, name]
    return {**given, "snis": snis}


def with_keys(given: JsonDict, row: Row | None, publisher: Publisher) -> JsonDict:
    """The input with keys in place of references to this certificate's own. Raises a Refusal for other references."""
    found = dict(given)
    wrong: JsonDict = {}
    for field in KEYS:
        text = given.get(field)
        key = referenced(text) if isinstance(text, str) else None
        if key is None:
            continue
        if row is None:
            wrong[field] = NO_KEY_BEHIND
        elif key != (row.id, field) or field not in row.body[SECRETS]:
            wrong[field] = OTHER_KEY.format(reference(row.id, field))
        elif (opened := _opened(row, field, publisher)) is None:
            wrong[field] = SHUT
        else:
            found[field] = opened
    if wrong:
        raise envelope.schema_violation(SchemaViolation(wrong))
    return found


def whole(row: Row, given: Mapping[str, Any], publisher: Publisher) -> JsonDict:
    """The body of a stored certificate as a client would have written it, for a merge with `given`."""
    body = {name: value for name, value in row.body.items() if name != SECRETS}
    for field in row.body[SECRETS]:
        opened = None if field in given else _opened(row, field, publisher)
        if opened is None and field not in given:
            raise envelope.schema_violation(SchemaViolation({field: SHUT}))
        body[field] = opened
    return body


def shown(reader: StoreReader, row: Row, publisher: Publisher | None) -> JsonDict:
    """The certificate as clients see it, in Kong's order. `publisher`: opens keys where answers show them."""
    body = row.body
    keys: dict[str, str | None] = {}
    for field in KEYS:
        opened = _opened(row, field, publisher) if publisher is not None else None
        keys[field] = (opened or reference(row.id, field)) if field in body[SECRETS] else None
    head = {name: body[name] for name in ("id", "created_at", "updated_at", "cert")}
    return {**head, "key": keys["key"], "cert_alt": body["cert_alt"], "key_alt": keys["key_alt"],
            "tags": body["tags"], "snis": names(reader, row.id)}  # fmt: skip


def must_be_free(reader: StoreReader, given: JsonDict, key: str) -> None:
    """Raise SchemaViolation for a name that stands twice, or that another certificate serves."""
    listed = given.get("snis")
    snis = listed if isinstance(listed, list) else []
    if len(snis) > MOST_NAMES:
        raise SchemaViolation(
            {"snis": f"at most {MOST_NAMES} names: make another certificate with the same pair for more"}
        )
    seen = set[str]()
    for name in (name for name in snis if isinstance(name, str)):  # the schema refuses the others
        if name in seen:
            raise SchemaViolation({"snis": f"{name} is duplicated"})
        seen.add(name)
        other = id_of(reader, name)
        if other is not None and other != key:
            raise SchemaViolation({"snis": f"{name} already associated with existing certificate '{other}'"})


def set_names(session: WriteSession, key: str, wanted: list[str], now: int) -> bool:
    """Make the SNIs of a certificate these. Returns whether one changed. Raises ReadOnly."""
    there = {row.body["name"]: row for row in session.those(SNIS.name, {"certificate": key})}
    for name in there.keys() - set(wanted):
        session.delete(SNIS, there[name])
    fresh = [name for name in wanted if name not in there]
    for name in fresh:
        made = {"id": str(uuid4()), "created_at": now, "updated_at": now, "name": name, "tags": None}
        session.put(SNIS, {**made, "certificate": {"id": key}}, None)
    return bool(fresh) or len(there) != len(wanted)


def must_be_known(reader: StoreReader, body: JsonDict) -> None:
    """Raise SchemaViolation for CA certificates of a service that are not there."""
    wanted = body.get("ca_certificates") or []
    unknown = [reader.get("ca_certificates", "id", key, 0) is None for key in wanted]
    if any(unknown):
        text = "there is no CA certificate with this id: add it to /ca_certificates first"
        raise SchemaViolation({"ca_certificates": [text if one else None for one in unknown]})


def must_be_unused(reader: StoreReader, row: Row) -> None:
    """Raise a Refusal for a CA certificate that a service names."""
    user = reader.service_of_ca(row.id)
    if user is not None:
        message = f"ca certificate {row.id} is still referenced by services (id = {user.id})"
        raise envelope.coded(400, 19, "referenced by others", message)


def _opened(row: Row, field: str, publisher: Publisher) -> str | None:
    secret = row.body[SECRETS].get(field)
    if secret is None:
        return None
    try:
        return publisher.unseal(secret["sealed"]).decode()
    except ValueError:  # damaged, or of another data folder
        return None
