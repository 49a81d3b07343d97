"""Entities -> what workers read: the policy, consumer records with their own plugins, and the counter columns both need.

In: the `World` (everything but consumers and credentials) and the numbers given so far. Out: plain data of the boundary
(docs/reference/boundary.md). Pure: no store, no clock, no files; the same input gives the same bytes.
Profiles keep their index while a base of records lives, so that one changed plugin never rewrites all consumers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, NamedTuple, TypeVar, cast

import orjson

from aigw.control.entities import Plugin, Route, Service
from aigw.plugins.key_auth import compile as key_auth
from aigw.plugins.key_auth.schema import KeyAuthConfig
from aigw.plugins.rate_limiting import compile as rate_limiting
from aigw.plugins.rate_limiting.compile import Scope
from aigw.plugins.rate_limiting.schema import RateLimitingConfig
from aigw.types import JsonDict

Rows = Literal["consumers", "credentials", "one"]
"""What a dense column has a row for."""

ROWS_OF: Final[Mapping[str, Rows]] = {"consumer": "consumers", "credential": "credentials", "service": "one"}

E = TypeVar("E")

Ref = tuple[int, int, int]
ConsumerRecord = tuple[int, str, str | None, str | None, list[Ref]]


class Numbered(NamedTuple, Generic[E]):
    """An entity with its row number."""

    n: int
    entity: E


@dataclass(slots=True)
class World:
    """What the policy is made of, by id. `named`: consumers that some `anonymous` names, by that text."""

    services: dict[str, Numbered[Service]] = field(default_factory=dict)
    routes: dict[str, Numbered[Route]] = field(default_factory=dict)
    plugins: dict[str, Plugin] = field(default_factory=dict)
    named: dict[str, int] = field(default_factory=dict)

    def anonymous_texts(self) -> set[str]:
        """Every consumer that a key-auth config names, as it is written there."""
        configs = (p.config for p in self.plugins.values() if p.name == "key-auth" and p.enabled)
        return {c["anonymous"] for c in configs if c["anonymous"] is not None}


@dataclass(slots=True)
class Numbers:
    """Counter columns by (kind, key). A key that has no number yet gets the next one, listed in `fresh`."""

    known: dict[tuple[str, str], int]
    fresh: dict[tuple[str, str], int] = field(default_factory=dict)

    def of(self, key: str, kind: rate_limiting.Kind) -> int:
        """The column's number."""
        n = self.known.get((kind, key))
        if n is None:
            n = max(self.known.values(), default=0) + 1
            self.known[kind, key] = self.fresh[kind, key] = n
        return n


class Profiles:
    """The policy's `rate_limiting` list: equal profiles share an index, and an index never changes its meaning."""

    def __init__(self) -> None:
        self.items: list[JsonDict] = []
        self._index: dict[bytes, int] = {}
        self._by_config: dict[tuple[str | None, str | None, bytes], int] = {}

    def of(self, plugin: Plugin | JsonDict, service: str | None, numbers: Numbers) -> int:
        """Index of the profile of this instance; `service` is what limit_by=service counts."""
        body = plugin if isinstance(plugin, dict) else plugin.model_dump(mode="json")
        config = body["config"]
        scope = Scope(*(body[f]["id"] if body[f] else None for f in ("route", "service")))
        counted = service if config["limit_by"] == "service" else None
        known = (scope.route, f"{scope.service}/{counted}", orjson.dumps(config, option=orjson.OPT_SORT_KEYS))
        index = self._by_config.get(known)
        if index is None:
            index = self._intern(
                rate_limiting.profile(RateLimitingConfig.model_validate(config), scope, counted, numbers.of)
            )
            self._by_config[known] = index
        return index

    def _intern(self, profile: JsonDict) -> int:
        text = orjson.dumps(profile)
        if text not in self._index:
            self._index[text] = len(self.items)
            self.items.append(profile)
        return self._index[text]


class Column(NamedTuple):
    """A counter column in use. `rows` says what its rows are; open columns have none."""

    n: int
    kind: str
    key: str
    rows: Rows | None


def rank(route: bool, service: bool, consumer: bool) -> int:
    """Kong's precedence among instances of one plugin, 1 (global) to 8."""
    if consumer:
        return {(True, True): 8, (True, False): 7, (False, True): 6, (False, False): 4}[route, service]
    return {(True, True): 5, (True, False): 3, (False, True): 2, (False, False): 1}[route, service]


def winner(name: str, route: Route, plugins: Iterable[Plugin]) -> tuple[int, Plugin] | None:
    """The instance that runs on this route for callers without one of their own, with its rank."""
    service = route.service.id if route.service else None
    best: tuple[int, Plugin] | None = None
    for plugin in plugins:
        if plugin.name != name or not plugin.enabled or plugin.consumer is not None:
            continue
        if plugin.route is not None and plugin.route.id != route.id:
            continue
        if plugin.service is not None and plugin.service.id != service:
            continue
        own = rank(plugin.route is not None, plugin.service is not None, consumer=False)
        if best is None or own > best[0]:
            best = (own, plugin)
    return best


def compile_policy(world: World, profiles: Profiles, numbers: Numbers) -> JsonDict:
    """The whole policy. Routes of a disabled service are left out, as if they were not there."""
    services = [s for s in world.services.values() if s.entity.enabled]
    live = {s.entity.id: s.n for s in services}
    entries: list[JsonDict] = []
    by_scope = _Candidates(world.plugins.values())
    routes = []
    for n, route in sorted(world.routes.values(), key=lambda r: r.n):
        if route.service is not None and route.service.id not in live:
            continue
        candidates = by_scope.of(route)
        auth = winner("key-auth", route, candidates)
        limits = winner("rate-limiting", route, candidates)
        entry = None
        if auth is not None:
            data = key_auth.entry(KeyAuthConfig.model_validate(auth[1].config), world.named)
            if data not in entries:
                entries.append(data)
            entry = entries.index(data)
        service = route.service.id if route.service else None
        chosen = None
        if limits is not None:
            chosen = {"rank": limits[0], "profile": profiles.of(limits[1], service, numbers)}
        routes.append(_route(n, route, live.get(service or ""), entry, chosen))
    return {
        "services": [_service(n, s) for n, s in sorted(services, key=lambda s: s.n)],
        "routes": routes,
        "key_auth": entries,
        "rate_limiting": profiles.items,
        "columns": [
            {"n": c.n, "kind": c.kind, "words": 1 if c.kind == "dense" else 0, "key": c.key}
            for c in columns_of(profiles, numbers)
        ],
    }


def columns_of(profiles: Profiles, numbers: Numbers) -> list[Column]:
    """Every column that a profile counts in, by number."""
    texts = {n: (kind, key) for (kind, key), n in numbers.known.items()}
    found = {
        n: Column(n, *texts[n], ROWS_OF[profile["limit_by"]] if texts[n][0] == "dense" else None)
        for profile in profiles.items
        for limit in profile["limits"]
        for n in (limit["dense"], limit["open"])
        if n is not None
    }
    return [found[n] for n in sorted(found)]


def consumer_record(
    row: tuple[int, str, str | None, str | None],
    plugins: Iterable[JsonDict],
    world: World,
    profiles: Profiles,
    numbers: Numbers,
) -> ConsumerRecord:
    """`row` is (n, id, username, custom_id), `plugins` the bodies of the instances on that consumer."""
    refs = []
    for body in plugins:
        if body["name"] != "rate-limiting" or not body["enabled"]:
            continue
        route = world.routes[body["route"]["id"]].n if body["route"] else 0
        service = body["service"]["id"] if body["service"] else None
        refs.append((route, world.services[service].n if service else 0, profiles.of(body, service, numbers)))
    return (*row, sorted(refs))


class _Candidates:
    """Plugins by scope, so that a route meets only those that could be its own."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._by_route: dict[str | None, list[Plugin]] = {}
        self._by_service: dict[str | None, list[Plugin]] = {}
        for plugin in plugins:
            if plugin.route is not None:
                self._by_route.setdefault(plugin.route.id, []).append(plugin)
            else:
                self._by_service.setdefault(plugin.service.id if plugin.service else None, []).append(plugin)

    def of(self, route: Route) -> list[Plugin]:
        service = self._by_service.get(route.service.id, []) if route.service else []
        return [*self._by_route.get(route.id, []), *service, *self._by_service.get(None, [])]


def _service(n: int, service: Service) -> JsonDict:
    return {
        "n": n,
        "id": service.id,
        "name": service.name,
        "protocol": service.protocol,
        "host": service.host,
        "port": service.port,
        "path": service.path,
        "retries": service.retries,
        "connect_timeout_ms": service.connect_timeout,
        "write_timeout_ms": service.write_timeout,
        "read_timeout_ms": service.read_timeout,
        "tls_verify": service.tls_verify,
    }


def _route(n: int, route: Route, service: int | None, key_auth_index: int | None, rate: JsonDict | None) -> JsonDict:
    return {
        "n": n,
        "id": route.id,
        "name": route.name,
        "service": service,
        "protocols": cast("list[str]", route.protocols),
        "https_redirect_status_code": route.https_redirect_status_code,
        "hosts": route.hosts or [],
        "methods": route.methods or [],
        "paths": route.paths or [],
        "headers": [[name, values] for name, values in sorted((route.headers or {}).items())],
        "regex_priority": route.regex_priority,
        "created_at": route.created_at,
        "strip_path": route.strip_path,
        "preserve_host": route.preserve_host,
        "key_auth": key_auth_index,
        "rate_limiting": rate,
    }
