"""The store -> a configuration file. In: the entities of the file and of the Admin API. Out: plain data that `aigw check`
accepts, without defaults.

The document has no secrets: a key is its reference (`${VAR}`), or its HMAC (`key_hash`). An upstream's key that the file holds
in plain text becomes a reference to a variable, which a user of the document must set. Every other `${` of a text is written
`$${`: the values of entities are data, and serving the document resolves none of them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from aigw.control.store.origin import name_of
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import LEDGER, NO_SECTIONS, V1, Row, Sections
from aigw.entities import KINDS
from aigw.entities.certificate import reference
from aigw.entities.ledger import LedgerSpec
from aigw.entities.model import ModelSpec
from aigw.entities.tier import TierSpec
from aigw.entities.upstream import place_text
from aigw.entities.v1 import V1Spec
from aigw.plugins import PLUGINS
from aigw.schema.fields import Model
from aigw.types import JsonDict

UNSET: Final = "AIGW_UPSTREAM_KEY_"
"""The first part of the names of variables for keys that the file holds in plain text."""
_MADE: Final = {"id", "created_at", "updated_at"}

Rows = Mapping[str, list[Row]]


class _Reference(str):
    """A reference that the document means as one."""


def rows_of(reader: StoreReader) -> dict[str, list[Row]]:
    """All entities by kind, with expired keys, which the file still declares."""
    return {kind: sorted(reader.everything(kind, 0), key=lambda row: name_of(row.body)) for kind in KINDS}


def document(
    rows: Rows, now: int, default_tier: str | None, mark: str = "", sections: Sections = NO_SECTIONS
) -> JsonDict:
    """The configuration file. `now`: unix seconds, rounded up. `default_tier`: an id. `mark`: of the secret that made the HMACs; left
    out, they have none. `sections`: settings."""
    names = {row.id: name_of(row.body) for kind in ("services", "routes", "tiers") for row in rows[kind]}
    # The file knows a consumer by its username alone, and a custom_id may be another consumer's username.
    names |= {row.id: row.body["username"] or row.id for row in rows["consumers"]}
    plugins = _Plugins(rows["plugins"], names)
    routes: defaultdict[str | None, list[JsonDict]] = defaultdict(list)
    for row in rows["routes"]:
        service = row.body["service"]
        routes[service["id"] if service else None].append(
            {**_entity("routes", row, ("service",)), **plugins.of("route", row.id)}
        )
    services = []
    for row in rows["services"]:
        below = {"routes": routes[row.id]} if row.id in routes else {}
        services.append(
            {
                **_entity("services", row, ("client_certificate",)),
                **_shown_there(row),
                **below,
                **plugins.of("service", row.id),
            }
        )
    made = {
        "_format_version": "3.0",
        **{name: _short(_SPECS[name], spec) for name, spec in sections.items() if spec is not None},
        "default_tier": names[default_tier] if default_tier is not None else None,
        "models": _models(rows["models"]),
        "tiers": {row.body["name"]: _short(TierSpec, row.body["spec"]) for row in rows["tiers"]},
        "consumer_groups": list(_groups(rows["tiers"], plugins)),
        "certificates": list(_certificates(rows)),
        "ca_certificates": [
            {"id": row.id, **_entity("ca_certificates", row, ("cert_digest",))} for row in rows["ca_certificates"]
        ],
        "upstreams": list(_upstreams(rows)),
        "services": services,
        "routes": routes.get(None),
        "consumers": list(_consumers(rows, names, plugins, partial(_key, mark, now))),
        "plugins": plugins.elsewhere,
    }
    return {name: _plain(part) for name, part in made.items() if part}


def _plain(value: Any) -> Any:
    """The value with its texts as the file's reader takes them for plain ones. It leaves keys as they are: they have no references."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, _Reference):
        return str(value)
    return value.replace("${", "$${") if isinstance(value, str) else value


_SPECS: Final[Mapping[str, type[Model]]] = {V1: V1Spec, LEDGER: LedgerSpec}


def _short(model: type[Model], body: JsonDict, without: Iterable[str] = ()) -> JsonDict:
    """The body without defaults, nulls, and fields that the gateway sets."""
    found = model.model_validate(body).model_dump(mode="json", exclude_defaults=True)
    return {k: v for k, v in found.items() if k not in _MADE and k not in without and v is not None}


def _entity(kind: str, row: Row, without: Iterable[str] = ()) -> JsonDict:
    short = _short(KINDS[kind].kept, row.body, without)
    # The Admin API allows entities without a name, the file does not.
    return {"name": name_of(row.body), **short} if kind in ("services", "routes") else short


def _models(rows: Iterable[Row]) -> JsonDict:
    found: JsonDict = {}
    taken: set[str] = set()
    for row in rows:
        spec = found[row.body["name"]] = _short(ModelSpec, row.body["spec"])
        secrets = row.body.get("secrets") or {}
        for index, (upstream, key) in enumerate(zip(spec["upstreams"], row.body["keys"], strict=False)):
            if key is not None:
                upstream["api_key"] = _Reference(key["reference"] or _variable((row.body["name"], index), taken))
            for field in ("headers", "query"):
                for name in upstream.get(field, ()):
                    if (secret := secrets.get(place_text((index, field, name)))) is not None:
                        variable = secret["reference"] or _variable((row.body["name"], index, field, name), taken)
                        upstream[field][name] = _Reference(variable)
    return found


def _variable(place: Iterable[str | int], taken: set[str]) -> str:
    """A reference to the variable of an upstream's secret. The models `a.b` and `a-b` get different ones."""
    name = UNSET + re.sub(r"[^A-Z0-9]+", "_", "_".join(map(str, place)).upper())
    while name in taken:
        name += "_"
    taken.add(name)
    return f"${{{name}}}"


class _Plugins:
    """Plugins for the file: those on one entity stand inside it, all others in a list of their own."""

    def __init__(self, rows: Iterable[Row], names: Mapping[str, str]) -> None:
        self._in: defaultdict[tuple[str, str], list[JsonDict]] = defaultdict(list)
        self.elsewhere: list[JsonDict] = []
        fields = KINDS["plugins"].foreign
        for row in rows:
            body, scope = row.body, {field: row.body[field]["id"] for field in fields if row.body[field]}
            short = _entity("plugins", row, (*fields, "config"))
            config = _short(PLUGINS[body["name"]].config, body["config"])
            plugin = {"name": body["name"], **short, **({"config": config} if config else {})}
            if len(scope) == 1:
                self._in[next(iter(scope.items()))].append(plugin)
            else:
                self.elsewhere.append({**plugin, **{field: names[key] for field, key in scope.items()}})

    def of(self, field: str, key: str) -> JsonDict:
        """The field `plugins` of one entity, if it has plugins."""
        found = self._in.get((field, key))
        return {"plugins": found} if found else {}


def _groups(tiers: Iterable[Row], plugins: _Plugins) -> Iterable[JsonDict]:
    """The tiers with parts that only a consumer group has."""
    for row in tiers:
        below = plugins.of("consumer_group", row.id)
        if row.body["tags"] or below:
            yield _tagged({"name": row.body["name"], **below}, row)


def _shown_there(service: Row) -> JsonDict:
    """The certificate that a service shows, by its id as in decK's files."""
    own = service.body["client_certificate"]
    return {"client_certificate": own["id"]} if own else {}


def _certificates(rows: Rows) -> Iterable[JsonDict]:
    """Certificates with their names. A key that the file holds in plain text, or the Admin API set, becomes the reference that the same
    gateway takes back."""
    names: defaultdict[str, list[JsonDict]] = defaultdict(list)
    for row in rows["snis"]:
        names[row.body["certificate"]["id"]].append(_entity("snis", row, ("certificate",)))
    for row in rows["certificates"]:
        short, keys = _entity("certificates", row, ("secrets", "tags")), {}
        for field, secret in row.body["secrets"].items():
            keys[field] = _Reference(secret["reference"] or reference(row.id, field))
        snis = {"snis": names[row.id]} if row.id in names else {}
        yield _tagged({"id": row.id, "cert": short.pop("cert"), "key": keys.pop("key"), **short, **keys, **snis}, row)


def _upstreams(rows: Rows) -> Iterable[JsonDict]:
    targets: defaultdict[str, list[JsonDict]] = defaultdict(list)
    for row in rows["targets"]:
        targets[row.body["upstream"]["id"]].append(_entity("targets", row, ("upstream",)))
    for row in rows["upstreams"]:
        yield {**_entity("upstreams", row), **({"targets": targets[row.id]} if row.id in targets else {})}


def _consumers(
    rows: Rows, names: Mapping[str, str], plugins: _Plugins, key_of: Callable[[Row], JsonDict | None]
) -> Iterable[JsonDict]:
    below: dict[str, defaultdict[str, list[JsonDict]]] = {}
    for kind, write in (("keyauth_credentials", key_of), ("acls", _acl)):
        found = below[kind] = defaultdict(list)
        for row in rows[kind]:
            if (written := write(row)) is not None:
                found[row.body["consumer"]["id"]].append(written)
    for row in rows["consumers"]:
        body = row.body
        consumer: JsonDict = {f: body[f] for f in ("username", "custom_id", "tags") if body[f]}
        if row.tier is not None:
            consumer["tier"] = names[row.tier]
        for kind, found in below.items():
            if row.id in found:
                consumer[kind] = found[row.id]
        yield {**consumer, **plugins.of("consumer", row.id)}


def _key(mark: str, now: int, row: Row) -> JsonDict | None:
    """A key with the time to live that the file declares. A key of the Admin API has the seconds that are left, and none when they are
    over: serving the document makes no key live longer."""
    left = row.expires_at - (row.body["created_at"] if row.origin is not None else now)
    if row.expires_at and left <= 0:
        return None
    written = row.origin.reference if row.origin is not None else None
    if written is None:
        written = f"hmac:{mark}:" if mark else ""
    # The file's own mark stays: an HMAC that another secret made stays recognisable as such.
    is_hash = written == "" or written.startswith("hmac:")
    key: JsonDict = {"key_hash": written + row.hash.hex()} if is_hash else {"key": _Reference(written)}
    if row.expires_at:
        key["ttl"] = left
    return _tagged(key, row)


def _acl(row: Row) -> JsonDict:
    return _tagged({"group": row.body["group"]}, row)


def _tagged(made: JsonDict, row: Row) -> JsonDict:
    tags: Any = row.body["tags"]
    return {**made, "tags": tags} if tags else made
