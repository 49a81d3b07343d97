"""What the store keeps of an entity, as a value: `Row`, its record in a table and back, and what a write changed.

No connection and no query: `reading` and `writing` have these.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson

from aigw.control.store import tables
from aigw.control.store.origin import Origin, ReadOnly
from aigw.entities import KINDS, Kind
from aigw.types import JsonDict


class Row(NamedTuple):
    """One entity as it is kept. `body` is the entity's JSON (a credential's has no key); `n` is 0 for kinds without one."""

    id: str
    n: int
    body: JsonDict
    hash: bytes = b""
    expires_at: int = 0
    tier: str | None = None
    """Of a consumer: the id of its tier."""
    origin: Origin | None = None
    """Where the configuration file declares it; None for what the Admin API made."""


DEFAULT_TIER: Final = "default_tier"
SETTINGS: Final = "settings"
"""The kind of a change to a setting of the whole gateway: it has no rows."""


class Change(NamedTuple):
    """What one write did to one entity: None before it existed, None after it is gone."""

    kind: str
    before: Row | None
    after: Row | None


class Many(NamedTuple):
    """So many entities of one kind that no change is kept for each, but for the first ones: new, where there was none of it,
    or changed."""

    kind: str
    total: int
    highest: int
    """Row number of the new."""
    first: tuple[Change, ...]
    action: Literal["created", "updated"]


MOST_TOLD: Final = 50
"""Changes that are kept of many."""


class UniqueViolation(Exception):
    """Another entity has this value. `fields` are Kong's: the field, or a plugin's name and scope."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        super().__init__(str(fields))


class Referenced(Exception):
    """Another entity holds this one in place."""

    def __init__(self, by: str) -> None:
        self.by = by
        super().__init__(by)


def row_of(kind: str, record: Any) -> Row:
    """An entity from its table's record."""
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


_TEXTS: Final = {
    kind: tuple(c for c in ("name", "username", "custom_id", "instance_name", "group") if c in table.c)
    for kind, table in tables.ENTITIES.items()
}
"""Fields of the body that have a column of their own."""


def columns_of(kind: Kind, row: Row) -> JsonDict:
    """What an entity's record holds."""
    body = row.body
    values: JsonDict = {
        "id": row.id,
        "body": orjson.dumps(body).decode(),
        "origin": row.origin.text() if row.origin else None,
    }
    if kind.numbered:
        values["n"] = row.n
    for name in _TEXTS[kind.name]:
        values[name] = body[name]
    for name in kind.foreign:
        values[name] = body[name]["id"] if body[name] else None
    if kind.name == "keyauth_credentials":
        values["hash"], values["expires_at"] = row.hash, row.expires_at
    elif kind.name == "consumers":
        values["tier"] = row.tier
    elif kind.name == "plugins":
        values["scope"] = scope_of(body)
    return values


def must_be_of(file: bool, row: Row) -> None:
    """Raises ReadOnly when the Admin API would change what the file declares."""
    if row.origin is not None and not file:
        raise ReadOnly(row.body, row.origin)


def scope_of(plugin: JsonDict) -> str:
    """What no two plugins share: the kind, on the same route, service and consumer."""
    parts = [plugin[f]["id"] if plugin[f] else "-" for f in ("route", "service", "consumer")]
    return ":".join([plugin["name"], *parts])
