"""A document -> entities and findings: sections, names, references, and the entities' own checks.

The first pass collects names, so a reference to an entity with errors does not count as dangling. The second pass checks each entity
with `check_entity`, like the Admin API. `consumers` checks consumers in bulk.
"""

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from aigw.config import shape
from aigw.config.budgets import check_budgets
from aigw.config.certificates import SECTIONS, CertificatesCheck
from aigw.config.consumers import ConsumersCheck
from aigw.config.entity import FileEntity, entity_id
from aigw.config.file import CONSUMER_KINDS, ORDER
from aigw.config.finding import Path
from aigw.config.report import checked, convert, report, report_unknown
from aigw.config.source import Source
from aigw.config.suggest import fields_at, nearest
from aigw.config.tokenizers import Copies, TokenizerContent, check_file
from aigw.config.upstreams import check_upstreams, secret_places
from aigw.entities import KINDS, check_entity
from aigw.entities.ledger import LedgerSpec
from aigw.entities.model import ModelName, ModelSpec
from aigw.entities.route import UNREACHABLE, unreachable
from aigw.entities.sealed import without_secrets
from aigw.entities.target import canonical
from aigw.entities.tier import TierSpec
from aigw.entities.upstream import Place
from aigw.entities.v1 import V1Spec
from aigw.schema.fields import Model
from aigw.schema.unsupported import NOT_SUPPORTED, named, not_supported
from aigw.schema.violations import check, message_of
from aigw.types import JsonDict

M = TypeVar("M", bound=Model)
_TIMES: Final = {"created_at": 0, "updated_at": 0}
_SINGULAR: Final = {"services": "service", "routes": "route", "consumers": "consumer", "tiers": "tier"}
_KINDS: Final = tuple(kind for kind in ORDER if kind not in CONSUMER_KINDS)
_SCOPES: Final = KINDS["plugins"].foreign
"""Fields of a plugin that limit it to an entity -> its kind."""
_NAME_OF: Final = {"upstreams": "name", "services": "name", "routes": "name", "consumers": "username"}


class Check:
    """The check of one file. Findings go to `source`; this object collects the parts."""

    def __init__(
        self,
        source: Source,
        progress: Callable[[str, int, int], None],
        copies: Copies,
        usernames: Collection[str] | None = None,
    ) -> None:
        """`usernames`: of all consumers, where the file was read around them."""
        self.source = source
        self._known_usernames = usernames
        self.models: dict[str, ModelSpec] = {}
        self.certificates: dict[str, dict[Place, bytes]] = {}
        self.tokenizers: dict[str, TokenizerContent] = {}
        self.tiers: dict[str, TierSpec] = {}
        self.default_tier: str | None = None
        self.v1: V1Spec | None = None
        self.ledger: LedgerSpec | None = None
        self._progress = progress
        self._copies = copies
        self._names: dict[str, dict[str, Path]] = {"upstreams": {}, "services": {}, "routes": {}, "tiers": {}}
        self._instances: dict[str, Path] = {}
        self._scopes: dict[str, Path] = {}
        self._found: dict[str, list[FileEntity]] = {kind: [] for kind in _KINDS}
        self._consumers = ConsumersCheck(source, progress, self._refer)
        self._pairs = CertificatesCheck(source, self._entity)
        self.private_keys = self._pairs.private_keys

    def entities(self) -> Iterator[FileEntity]:
        """All entities except consumers and their credentials and acls; an entity comes after the ones it refers to."""
        for kind in _KINDS:
            yield from self._found[kind]

    def let_go(self) -> None:
        """Break the reference cycle with the consumers, so reference counting frees a large file's tree at once."""
        del self._consumers, self._pairs

    def run(self) -> None:
        """Check everything."""
        root = self.source.root
        if not isinstance(root, dict):
            empty = root is None
            self.source.add((), "the file is empty" if empty else "expected a mapping, as in 'services: [...]'")
            return
        known = fields_at(shape.Configuration, ())
        for key in (key for key in root if key not in known):
            if key in shape.LACKING:
                self.source.add((key,), NOT_SUPPORTED, at_key=True)
            elif key == "select_tags":
                self.source.add((key,), "stands below _info in decK's files: there it has no effect", at_key=True)
            elif key in ("keyauth_credentials", "acls"):
                self.source.add((key,), f"{NOT_SUPPORTED} at the top: write them in their consumer", at_key=True)
            else:
                report_unknown(self.source, (key,), known)
        self._head(root)
        items = {
            name: self._items((name,))
            for name in (*SECTIONS, "upstreams", "services", "routes", "consumer_groups", "plugins", "consumers")
        }
        self._collect(items)
        self._pairs.collect(items)
        self._specs("tiers", shape.TierName, TierSpec, self.tiers)
        self._specs("models", ModelName, ModelSpec, self.models)
        check_budgets(self.source, self.models, self.tiers)
        for path, item in items["consumer_groups"]:
            self._group(path, item)
        if root.get("default_tier") is not None:
            self.default_tier = self._refer(("default_tier",), "tiers", root["default_tier"])
        self.v1 = self._section("v1", V1Spec)
        self.ledger = self._section("ledger", LedgerSpec)
        self._pairs.run(items, self._items)
        for path, item in items["upstreams"]:
            self._upstream(path, item)
        for path, item in items["services"]:
            self._service(path, item)
        for path, item in items["routes"]:
            self._route(path, item, None)
        for path, item, consumer in self._consumers.run(items["consumers"]):
            self._plugin(path, item, {"consumer": consumer})
        for path, item in items["plugins"]:
            self._plugin(path, item, {})

    def _section(self, name: str, spec: type[M]) -> M | None:
        """A record of settings at the top of the file."""
        given = self.source.root.get(name)
        if given is None:
            return None
        if not isinstance(given, dict):
            self.source.add((name,), "expected a record")
            return None
        return checked(self.source, (name,), spec, given, lambda value: check(spec, value))

    def _head(self, root: JsonDict) -> None:
        version, transform, info = (root.get(key) for key in ("_format_version", "_transform", "_info"))
        if version is not None and version != shape.FORMAT_VERSION:
            quoted = isinstance(version, float) and version == float(shape.FORMAT_VERSION)
            older = isinstance(version, str | float) and str(version) in ("1.1", "2.1")
            hint = (
                " in quotes" if quoted else ": decK's older form, which 'deck file convert' brings up" if older else ""
            )
            self.source.add(("_format_version",), f'expected "{shape.FORMAT_VERSION}"{hint}')
        if transform is not None and not isinstance(transform, bool):
            self.source.add(("_transform",), "expected a boolean")
        if root.get("_workspace") not in (None, "default"):
            self.source.add(("_workspace",), not_supported(named(root["_workspace"])))
        if info is not None and not isinstance(info, dict):
            self.source.add(("_info",), "expected a record")
        for key in info if isinstance(info, dict) else ():
            if key != "select_tags":  # decK's defaults would change entities
                self.source.add(("_info", key), NOT_SUPPORTED, at_key=True)

    def _items(self, path: Path) -> list[tuple[Path, JsonDict]]:
        """The records of a list, with their paths."""
        value = self.source.get(path)
        if value is None:
            return []
        if not isinstance(value, list):
            self.source.add(path, "expected an array")
            return []
        items, is_read = [], path == ("consumers",)
        for index, item in enumerate(value):
            if isinstance(item, dict):
                items.append(((*path, index), item))
            elif not (is_read and self.source.consumers.name(index) is not None) and not self.source.full:
                self.source.add((*path, index), "expected a record")
        return items

    def _collect(self, items: dict[str, list[tuple[Path, JsonDict]]]) -> None:
        for path, upstream in items["upstreams"]:
            self._name("upstreams", path, upstream)
        for path, service in items["services"]:
            self._name("services", path, service)
            nested = service.get("routes")
            for index, route in enumerate(nested if isinstance(nested, list) else ()):
                if isinstance(route, dict):
                    self._name("routes", (*path, "routes", index), route)
        for path, route in items["routes"]:
            self._name("routes", path, route)
        seen: dict[str, Path] = {}
        for path, group in items["consumer_groups"]:
            name = group.get("name")
            if isinstance(name, str) and not self._twice(seen, name, (*path, "name"), "name"):
                self._names["tiers"].setdefault(name, path)
        tiers = self.source.root.get("tiers")
        for name in tiers if isinstance(tiers, dict) else ():
            self._names["tiers"][name] = ("tiers", name)

    def _name(self, kind: str, path: Path, item: JsonDict) -> None:
        field = _NAME_OF[kind]
        name = item.get(field)
        if isinstance(name, str):
            self._twice(self._names[kind], name, (*path, field), field)

    def _twice(self, seen: dict[str, Path], name: str, path: Path, field: str) -> bool:
        earlier = seen.setdefault(name, path)
        if earlier is not path:
            self._stands_twice(name, earlier, path, field)
        return earlier is not path

    def _stands_twice(self, name: str, earlier: Path, path: Path, field: str) -> None:
        if not self.source.full:
            line = self.source.line(earlier)
            self.source.add(path, f"the {field} '{name}' stands twice: first in line {line}")

    def _specs(self, kind: str, name_type: Any, model: type[Any], into: dict[str, Any]) -> None:
        section = self.source.root.get(kind)
        if section is None:
            return
        if not isinstance(section, dict):
            self.source.add((kind,), "expected a map")
            return
        names = TypeAdapter(name_type)
        for name, given in section.items():
            if self.source.full:
                return
            path: Path = (kind, name)
            wrong = _wrong(names, name)
            if wrong is not None:
                self.source.add(path, wrong, at_key=True)
            if given is None:
                section[name] = given = {}
            if not isinstance(given, dict):
                self.source.add(path, "expected a record")
                continue
            spec = checked(self.source, path, model, given, lambda value: check(model, value))
            if spec is not None and wrong is None:
                into[name] = spec
                body = self._model(name, spec) if isinstance(spec, ModelSpec) else spec.model_dump(mode="json")
                self._spec(kind, name, body, path, None)

    def _model(self, name: str, spec: ModelSpec) -> JsonDict:
        """The checked spec as it is stored, without secrets."""
        if files := check_upstreams(self.source, name, spec):
            self.certificates[name] = files
        if (tokenizer := check_file(self.source, name, spec, self._copies)) is not None:
            self.tokenizers[name] = tokenizer
        return without_secrets(spec, secret_places(spec, lambda path: self.source.text_at(("models", name, *path))))

    def _spec(self, kind: str, name: str, spec: JsonDict, path: Path, tags: list[str] | None) -> None:
        key = entity_id(kind, name)
        body: JsonDict = {"id": key, **_TIMES, "name": name, "tags": tags, "spec": spec}
        self._found[kind].append(FileEntity(kind, key, name, body, self.source.line(path), path))

    def _group(self, path: Path, item: JsonDict) -> None:
        own = {k: v for k, v in item.items() if k != "plugins"}
        for below, plugin in self._items((*path, "plugins")):
            self._plugin(below, plugin, {"consumer_group": item.get("name")})
        group = checked(self.source, path, shape.ConsumerGroup, own, lambda value: check(shape.ConsumerGroup, value))
        if group is None:
            return
        tiers = self.source.root.get("tiers")
        if isinstance(tiers, dict) and group.name in tiers:
            for index, entity in enumerate(self._found["tiers"]):
                if entity.name == group.name:
                    self._found["tiers"][index] = entity._replace(body={**entity.body, "tags": group.tags})
        elif group.name not in self.tiers:
            self.tiers[group.name] = TierSpec()
            self._spec("tiers", group.name, TierSpec().model_dump(mode="json"), path, group.tags)

    def _upstream(self, path: Path, item: JsonDict) -> None:
        own = {k: v for k, v in item.items() if k != "targets"}
        name = item.get("name")
        self._entity("upstreams", path, own, shape.UpstreamInFile, name, {})
        seen: dict[str, Path] = {}
        for below, target in self._items((*path, "targets")):
            given = target.get("target")
            place = canonical(given) if isinstance(given, str) else ""
            if not self._twice(seen, place, (*below, "target"), "target"):
                links = {"upstream": {"id": entity_id("upstreams", name if isinstance(name, str) else "")}}
                key = entity_id("targets", f"{name}\n{place}")
                self._entity("targets", below, dict(target), shape.TargetInFile, f"{place} of {name}", links, key)

    def _service(self, path: Path, item: JsonDict) -> None:
        own = {k: v for k, v in item.items() if k not in ("routes", "plugins")}
        name = item.get("name")
        if item.get("url") is not None:
            for field in ("protocol", "host", "port", "path"):
                if own.get(field) is not None:
                    self.source.add((*path, field), "the url says it: keep one of the two", at_key=True)
        links = self._pairs.of_service(path, own)
        self._entity("services", path, own, shape.ServiceInFile, name, links)
        for below, route in self._items((*path, "routes")):
            self._route(below, route, name if isinstance(name, str) else "")
        for below, plugin in self._items((*path, "plugins")):
            self._plugin(below, plugin, {"service": name})

    def _route(self, path: Path, item: JsonDict, service: str | None) -> None:
        own = {k: v for k, v in item.items() if k != "plugins"}
        name = item.get("name")
        if service is not None and item.get("service") is not None:
            self.source.add((*path, "service"), "the route stands in its service: leave this out", at_key=True)
        elif service is None and own.get("service") is not None:
            service = self._refer((*path, "service"), "services", own["service"])
        own.pop("service", None)
        self._under_v1(path, own.get("paths"))
        links = {"service": {"id": entity_id("services", service)}} if service else {}
        self._entity("routes", path, own, shape.RouteInFile, name, links)
        for below, plugin in self._items((*path, "plugins")):
            self._plugin(below, plugin, {"route": name})

    def _under_v1(self, path: Path, given: Any) -> None:
        """Add findings for paths under /v1 if there are models: such a route is unreachable."""
        if not self.source.root.get("models"):
            return
        for index in unreachable(given if isinstance(given, list) else ()):
            self.source.add((*path, "paths", index), UNREACHABLE)

    def _plugin(self, path: Path, item: JsonDict, owner: dict[str, Any]) -> None:
        """`owner` is the entity that contains the plugin: a scope and its name."""
        scope: dict[str, str] = {}
        own = dict(item)
        for field, kind in _SCOPES.items():
            given = own.pop(field, None)
            if field in owner:
                if given is not None:
                    self.source.add((*path, field), f"the plugin stands in its {field}: leave this out", at_key=True)
                scope[field] = owner[field] if isinstance(owner[field], str) else ""
            elif given is not None:
                scope[field] = self._refer((*path, field), kind, given) or ""
        name, instance = item.get("name"), item.get("instance_name")
        scopes = ", ".join(f"{field} {scope[field]}" for field in sorted(scope))
        # No name holds a line break.
        identity = "\n".join([f"{name}@", *(f"{field}={scope[field]}" for field in sorted(scope))])
        if isinstance(instance, str):
            self._twice(self._instances, instance, (*path, "instance_name"), "instance name")
        if isinstance(name, str) and "" not in scope.values():
            earlier = self._scopes.setdefault(identity, path)
            if earlier is not path:
                text = f"the plugin '{name}' on {scopes or 'everything'} stands twice"
                self.source.add(path, f"{text}: first in line {self.source.line(earlier)}", at_key=True)
        links: JsonDict = {field: {"id": entity_id(_SCOPES[field], of)} for field, of in scope.items()}
        called = name if isinstance(name, str) else ""
        named = instance if isinstance(instance, str) else f"{called} on {scopes}" if scopes else called
        key = entity_id("plugins", instance if isinstance(instance, str) else identity)
        self._entity("plugins", path, own, shape.PluginInFile, named, links, key)

    def _entity(
        self, kind: str, path: Path, own: JsonDict, written: Any, name: Any, links: JsonDict, key: str | None = None
    ) -> None:
        """Check one entity by its own model, and keep it. `key` is its id where that is not made of its name."""
        for field in ("id", *_TIMES):
            if field in own:
                report_unknown(self.source, (*path, field), ())
                del own[field]
        if name is None and kind != "plugins":
            self.source.add((*path, "name"), "required field missing: it is known by its name")
        key = key or entity_id(kind, name if isinstance(name, str) else "")
        made = {"id": key, **_TIMES, **links}
        # Conversions of references happen in `own`; the made fields come on top of it.
        entity = checked(self.source, path, written, own, lambda value: check_entity(KINDS[kind], {**value, **made}))
        if entity is not None and isinstance(name, str):
            body = self._pairs.strip(key, entity) if kind == "certificates" else entity.model_dump(mode="json")
            self._found[kind].append(FileEntity(kind, key, name, body, self.source.line(path), path))

    @cached_property
    def _usernames(self) -> Collection[str]:
        """Usernames of all consumers. A plugin seldom refers to one, and there may be very many."""
        known = self._known_usernames
        return known if known is not None else dict.fromkeys(self.source.consumers.usernames)

    def _refer(self, path: Path, kind: str, given: Any) -> str | None:
        """The name in a reference, when something has it: `x`, `{name: x}`, or `{username: x}`."""
        field = _NAME_OF.get(kind, "name")
        if isinstance(given, dict):
            for key in given.keys() - {field}:
                self.source.add((*path, key), f"refer by {field}" if key == "id" else "unknown field", at_key=True)
            if field not in given:
                return None
            path, given = (*path, field), given[field]
        if not isinstance(given, str):
            report(self.source, path, None, [((), "expected a string")])
            return None
        names = self._names[kind] if kind != "consumers" else self._usernames
        if given in names:
            return given
        if not self.source.full:
            self.source.add(path, f"there is no {_SINGULAR[kind]} '{given}'", suggestion=nearest(given, names))
        return None


def _wrong(names: "TypeAdapter[Any]", name: str) -> str | None:
    try:
        names.validate_python(name, strict=True)
    except ValidationError as error:
        return message_of(error.errors(include_url=False, include_input=False)[0])
    return None


__all__ = ["Check", "convert"]
