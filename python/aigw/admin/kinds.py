"""The hooks of each entity kind: `hooks_of`. The hooks of tiers, routes and plugin instances, which have few, are here."""

from collections.abc import Mapping
from typing import Any, Final

from aigw.admin import envelope
from aigw.admin.body import typed
from aigw.admin.certificates import CaCertificates, Certificates, Services
from aigw.admin.credentials import Credentials
from aigw.admin.hooks import Engine, Hooks, Targets
from aigw.control.store import tables
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.entities import KINDS, EntityKind
from aigw.entities.route import UNREACHABLE, unreachable
from aigw.plugins import PLUGINS
from aigw.schema.describe import describe
from aigw.schema.fields import FieldErrors
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict


class Tiers(Hooks):
    """The hooks of `tiers`: Kong's clients see a consumer group."""

    def shown(self, engine: Engine, reader: StoreReader, row: Row) -> JsonDict:
        return {k: v for k, v in row.body.items() if k != "spec"}


class Routes(Hooks):
    """The hooks of `routes`."""

    def check_body(self, reader: StoreReader, body: JsonDict, row: Row | None) -> None:
        """New paths below /v1 are refused while there are models: they precede all routes."""
        paths = body.get("paths")
        if not paths or (row is not None and row.body["paths"] == paths):
            return
        wrong = unreachable(paths)
        if wrong and not reader.is_empty(tables.models):
            found = [UNREACHABLE if index in wrong else None for index in range(max(wrong) + 1)]
            raise SchemaViolation({"paths": found})


class Instances(Hooks):
    """The hooks of `plugins`: the config has the schema of the plugin's kind, and is merged field by field."""

    def of_form(self, given: JsonDict, row: Row | None) -> JsonDict:
        name = given.get("name", row.body.get("name") if row else None)
        if not isinstance(name, str) or name not in PLUGINS or not isinstance(given.get("config"), dict):
            return given
        return {**given, "config": typed(given["config"], _config_schema(name))}

    def merged(self, engine: Engine, row: Row, given: JsonDict) -> JsonDict:
        merged, config = {**row.body, **given}, given.get("config")
        if isinstance(config, dict) and given.get("name", row.body["name"]) == row.body["name"]:
            merged["config"] = _merge(row.body["config"], _renamed(row.body["name"], config))
        return merged

    def shown(self, engine: Engine, reader: StoreReader, row: Row) -> JsonDict:
        return {**row.body, "config": PLUGINS[row.body["name"]].shown(row.body["config"])}


def _config_schema(name: str) -> JsonDict:
    plugin = PLUGINS[name]
    schema = describe(plugin.config)
    inner = {k: v for field in schema["fields"] for k, v in field.items()}
    flat = []
    for alias, (record, member) in plugin.aliases.items():
        flat += [{alias: f[member]} for f in inner[record]["fields"] if member in f]
    return {**schema, "fields": [*schema["fields"], *flat]}


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


_OWN: Final[Mapping[str, type[Hooks]]] = {
    "certificates": Certificates,
    "ca_certificates": CaCertificates,
    "services": Services,
    "routes": Routes,
    "targets": Targets,
    "tiers": Tiers,
    "keyauth_credentials": Credentials,
    "plugins": Instances,
}
_HOOKS: Final[Mapping[str, Hooks]] = {name: _OWN.get(name, Hooks)(kind) for name, kind in KINDS.items()}


def hooks_of(kind: EntityKind) -> Hooks:
    """The hooks of a kind."""
    return _HOOKS[kind.name]
