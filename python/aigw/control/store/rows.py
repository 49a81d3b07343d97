"""An entity as a value of the store (`Row`), its record in a table, and the changes of a write. No queries."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson

from aigw.control.store import tables
from aigw.control.store.origin import Origin
from aigw.entities import KINDS, EntityKind
from aigw.types import JsonDict


class Row(NamedTuple):
    """One entity. `body`: the entity as JSON data; a credential's body has no key. `n`: its row number, 0 for kinds without numbers."""

    id: str
    n: int
    body: JsonDict
    hash: bytes = b""
    expires_at: int = 0
    tier: str | None = None
    """The id of a consumer's tier; None for other kinds."""
    origin: Origin | None = None
    """Its position in the configuration file; None: the Admin API made it."""


DEFAULT_TIER: Final = "default_tier"
V1: Final = "v1"
LEDGER: Final = "ledger"
SECTIONS: Final = (V1, LEDGER)
"""Sections of the file that are settings of the gateway: objects without a name, stored as they are."""
Sections = Mapping[str, JsonDict | None]
"""The settings of a file by section; None or no member for a section that the file does not have."""
SEALED_KEYS: Final = "sealed_keys"
"""The key of `meta` that a store has where credentials may have a sealed key."""
NO_SECTIONS: Final[Sections] = {}
LINE_SHIFT: Final = "consumer_lines"
"""The key of `meta` with the lines that the file's consumers have moved by since their origins were written."""
FORMER: Final = "former"
"""The keys of `meta` with the former ids of entities begin so: `former/<kind>/<id>`. The value has the end of the note, in ten digits of unix
seconds, and the parents."""
SHIFTED: Final = ("consumers", "keyauth_credentials", "acls")
"""Kinds whose origins have lines that move so: a line more in the file would rewrite a million rows."""
SETTINGS: Final = "settings"
"""The kind of a change to a setting of the gateway. Such a change has no rows."""


class Change(NamedTuple):
    """The change of one entity: `before` is None for a new one, `after` is None for a deleted one."""

    kind: str
    before: Row | None
    after: Row | None


class BulkChange(NamedTuple):
    """A change of very many rows of one kind. `shown` keeps the first `MOST_SHOWN` changes; `action`: whether the rows were created in
    an empty table or updated."""

    kind: str
    total: int
    highest: int
    """The highest row number of new rows."""
    shown: tuple[Change, ...]
    action: Literal["created", "updated"]


MOST_SHOWN: Final = 50
"""Changes of a bulk change that the log and the history show."""


class UniqueViolation(Exception):
    """Another entity has this value. `fields`, as Kong shows them: the field, or a plugin's name and scope."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        super().__init__(str(fields))


class Referenced(Exception):
    """Another entity references this one, so it cannot be deleted."""

    def __init__(self, by: str) -> None:
        self.by = by
        super().__init__(by)


def row_of(kind: str, record: Any) -> Row:
    """The entity of a table's record."""
    secret = kind == "keyauth_credentials"
    return Row(
        record.id,
        record.n if KINDS[kind].numbered else 0,
        orjson.loads(record.body),
        record.hash if secret else b"",
        record.expires_at if secret else 0,
        record.tier if kind == "consumers" else None,
        Origin.parse(record.origin) if record.origin else None,
    )


def ledger_name(kind: str, row: Row) -> str:
    """The name of an entity in entries of the ledger. `read.py` has the same as SQL, for entities that are there."""
    body = row.body
    if kind == "services":  # an event shows it as the upstream
        return f"{body['host']}:{body['port']}"
    return str(body.get("username") or body.get("custom_id") or body.get("name") or row.id)


_TEXTS: Final = {
    kind: tuple(
        c for c in ("name", "username", "custom_id", "instance_name", "group", "target", "cert_digest") if c in table.c
    )
    for kind, table in tables.ENTITIES.items()
}
"""Fields of the body that have a column, by kind."""


def columns_of(kind: EntityKind, row: Row) -> JsonDict:
    """The columns of an entity's record."""
    body = row.body
    values: JsonDict = {
        "id": row.id,
        "body": orjson.dumps(body).decode(),
        "origin": row.origin.text() if row.origin else None,
    }
    if kind.numbered:
        values["n"] = row.n
    for name in _TEXTS[kind.name]:
        values[name] = kind.key_of(body[name]) if name == kind.endpoint_key and body[name] else body[name]
    for name in kind.foreign:
        values[name] = body[name]["id"] if body[name] else None
    if kind.name == "keyauth_credentials":
        values["hash"], values["expires_at"] = row.hash, row.expires_at
    elif kind.name == "consumers":
        values["tier"] = row.tier
    elif kind.name == "plugins":
        values["scope"] = scope_of(body)
    return values


def scope_of(plugin: JsonDict) -> str:
    """The unique scope of a plugin: its name with its route, service, consumer and consumer group."""
    parts = [plugin[f]["id"] if plugin[f] else "-" for f in ("route", "service", "consumer")]
    if plugin["consumer_group"]:
        parts.append(plugin["consumer_group"]["id"])
    return ":".join([plugin["name"], *parts])
