"""Entities -> the policy, consumer records with their own plugins, and the counter columns that both need.

In: the `World` (all entities except consumers and credentials) and the numbers assigned so far. Out: JSON data of the boundary
(docs/reference/boundary.md). Pure: no store, no clock, no files; the same input gives the same bytes.
A profile keeps its index as long as a base refers to it, so a changed plugin does not rewrite all consumers.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple, cast

import orjson

from aigw.control.publish import certificates
from aigw.control.publish.compile_tiers import WORDS, Rows, model_entry, tier_entry, v1_cors
from aigw.control.publish.group_plugins import of_groups, route_bytes, with_plugins
from aigw.control.publish.numbers import CALLS, LIMIT_SETS, Numbers, RowNumbers
from aigw.control.publish.provider import upstream_labels
from aigw.control.publish.records import ConsumerRecord, Ref
from aigw.control.publish.world import Numbered, World
from aigw.entities import (
    KongUpstream,
    LlmModel,
    Plugin,
    Route,
    Service,
    Target,
    Tier,
)
from aigw.entities.host import canonical_host
from aigw.entities.target import Place, address, canonical, place_of
from aigw.entities.upstream import Upstream
from aigw.plugins.acl import compile as acl
from aigw.plugins.acl.schema import AclConfig
from aigw.plugins.cors import compile as cors
from aigw.plugins.cors.schema import CorsConfig
from aigw.plugins.key_auth import compile as key_auth
from aigw.plugins.key_auth.schema import KeyAuthConfig
from aigw.plugins.rate_limiting import compile as rate_limiting
from aigw.plugins.rate_limiting.compile import Scope
from aigw.plugins.rate_limiting.schema import RateLimitingConfig
from aigw.plugins.request_size_limiting import compile as size_limiting
from aigw.plugins.request_size_limiting.schema import RequestSizeLimitingConfig
from aigw.types import JsonDict

ROWS_OF: Final[Mapping[str, Rows]] = {"consumer": "consumers", "credential": "credentials", "service": "one"}
REFS: Final[Mapping[str, int]] = {"rate-limiting": 0, "request-size-limiting": 1}
"""Plugins that can be on a consumer -> the kind of their refs in its record."""
ONLY: Final[Mapping[str, int]] = {"http": 1 << 8, "https": 1 << 9}
"""Protocol of a plugin that runs for one of two -> the bit in the kind of its refs."""
ANY_TIER: Final = "*"


class Profiles:
    """The policy's `rate_limiting` and `size_limiting` lists. Equal profiles share an index; an index never changes its meaning."""

    def __init__(self) -> None:
        self.rate_limiting: list[JsonDict] = []
        self.size_limiting: list[JsonDict] = []
        self._index: dict[tuple[str, bytes], int] = {}
        self._by_config: dict[tuple[str | None, str | None, bytes], int] = {}

    def __len__(self) -> int:
        return len(self.rate_limiting) + len(self.size_limiting)

    def find(self, plugin: Plugin, service: str | None) -> int | None:
        """Index of the profile of this rate-limiting instance, as `of` gave it; None before that."""
        scope = Scope(plugin.route.id if plugin.route else None, plugin.service.id if plugin.service else None)
        return self._by_config.get(_known(scope, plugin.model_dump(mode="json")["config"], service))

    def of(self, plugin: Plugin | JsonDict, service: str | None, numbers: Numbers) -> int:
        """Index of the profile of this instance in its kind's list; `service` is what limit_by=service counts."""
        body = plugin if isinstance(plugin, dict) else plugin.model_dump(mode="json")
        config = body["config"]
        if body["name"] == "request-size-limiting":
            size = size_limiting.profile(RequestSizeLimitingConfig.model_validate(config))
            return self._intern("size", self.size_limiting, size)
        scope = Scope(*(body[f]["id"] if body[f] else None for f in ("route", "service")))
        counted = service if config["limit_by"] == "service" else None
        known = _known(scope, config, service)
        index = self._by_config.get(known)
        if index is None:
            rate = rate_limiting.profile(RateLimitingConfig.model_validate(config), scope, counted, numbers.of)
            index = self._by_config[known] = self._intern("rate", self.rate_limiting, rate)
        return index

    def cut(self, rate: int, size: int) -> None:
        """Remove the profiles beyond these lengths: their change was not stored."""
        for kind, items, kept in (("rate", self.rate_limiting, rate), ("size", self.size_limiting, size)):
            del items[kept:]
            self._index = {text: n for text, n in self._index.items() if text[0] != kind or n < kept}
        self._by_config = {known: n for known, n in self._by_config.items() if n < rate}

    def _intern(self, kind: str, items: list[JsonDict], profile: JsonDict) -> int:
        text = (kind, orjson.dumps(profile))
        if text not in self._index:
            self._index[text] = len(items)
            items.append(profile)
        return self._index[text]


def _known(scope: Scope, config: JsonDict, service: str | None) -> tuple[str | None, str | None, bytes]:
    """The identity of a rate-limiting instance's profile; `service` is what limit_by=service counts."""
    counted = service if config["limit_by"] == "service" else None
    return scope.route, f"{scope.service}/{counted}", orjson.dumps(config, option=orjson.OPT_SORT_KEYS)


class Column(NamedTuple):
    """A counter column in use. `rows`: the entities that have a row, of `words` words; None for a column in the open area."""

    n: int
    kind: str
    key: str
    rows: Rows | None
    words: int


def rank(route: bool, service: bool, consumer: bool) -> int:
    """Kong's precedence among instances of one plugin, 1 (global) to 8."""
    if consumer:
        return {(True, True): 8, (True, False): 7, (False, True): 6, (False, False): 4}[route, service]
    return {(True, True): 5, (True, False): 3, (False, True): 2, (False, False): 1}[route, service]


def winner(name: str, route: Route, plugins: Iterable[Plugin]) -> tuple[int, Plugin] | None:
    """Rank and plugin that run on this route for callers without a plugin of their own."""
    service = route.service.id if route.service else None
    best: tuple[int, Plugin] | None = None
    for plugin in plugins:
        if plugin.name != name or not plugin.enabled or plugin.consumer or plugin.consumer_group:
            continue
        if plugin.route is not None and plugin.route.id != route.id:
            continue
        if plugin.service is not None and plugin.service.id != service:
            continue
        own = rank(plugin.route is not None, plugin.service is not None, consumer=False)
        if best is None or own > best[0]:
            best = (own, plugin)
    return best


class Compiled(NamedTuple):
    """The policy, and the counter columns in use."""

    policy: JsonDict
    columns: list[Column]


class _RoutePlugins:
    """The plugins of routes, and the configurations of key-auth, acl and cors that routes share."""

    def __init__(self, world: World, profiles: Profiles, numbers: Numbers) -> None:
        self.key_auth: list[JsonDict] = []
        self.acl: list[JsonDict] = []
        self.cors: list[JsonDict] = []
        self._named = world.named
        self._profiles = profiles
        self._numbers = numbers

    def of(self, route: Route, candidates: list[Plugin]) -> JsonDict:
        """The choice among these plugins for callers without a plugin of their own."""
        service = route.service.id if route.service else None
        auth, groups, callers = (winner(name, route, candidates) for name in ("key-auth", "acl", "cors"))
        rate, size = (winner(name, route, candidates) for name in ("rate-limiting", "request-size-limiting"))
        return {
            "key_auth": auth
            and _shared(self.key_auth, key_auth.entry(KeyAuthConfig.model_validate(auth[1].config), self._named)),
            "rate_limiting": _chosen(rate, service, self._profiles, self._numbers),
            "size_limiting": _chosen(size, service, self._profiles, self._numbers),
            "acl": groups and _shared(self.acl, acl.entry(AclConfig.model_validate(groups[1].config))),
            "cors": callers and _shared(self.cors, cors.entry(CorsConfig.model_validate(callers[1].config))),
        }


def _routes(world: World, live: Mapping[str, int], plugins: _RoutePlugins) -> list[JsonDict]:
    """`live`: numbers of the services in use, by id."""
    by_scheme = [_Candidates(running) for running in world.running_by_scheme()]
    routes = []
    for n, route in sorted(world.routes.values(), key=lambda r: r.n):
        if route.service is not None and route.service.id not in live:
            continue
        own, *others = (plugins.of(route, candidates.of(route)) for candidates in by_scheme)
        over_tls = {"over_tls": others[0]} if others and others[0] != own else {}
        routes.append({**_route(n, route, live.get(route.service.id if route.service else "")), **own, **over_tls})
    return routes


def compile_policy(world: World, profiles: Profiles, numbers: Numbers, row_numbers: RowNumbers) -> Compiled:
    """The whole policy, without routes of disabled services."""
    calls, sets = row_numbers
    services = [s for s in world.services.values() if s.entity.enabled]
    live = {s.entity.id: s.n for s in services}
    plugins = _RoutePlugins(world, profiles, numbers)
    routes = _routes(world, live, plugins)
    on_groups = of_groups(world.running())
    tiers = [
        Numbered(n, with_plugins(tier, on_groups.get(tier.id, ())))
        for n, tier in sorted(world.tiers.values(), key=lambda t: t.n)
    ]
    models = sorted(world.models.values(), key=lambda m: m.n)
    default = world.tiers.get(world.default_tier or "")
    columns, shared = _Columns(numbers), world.shared()
    own = {key: one.entity for key, one in world.certificates.items()}
    authorities = {key: one.entity for key, one in world.ca_certificates.items()}
    policy = {
        "services": [
            {**_service(n, s, shared, world.marked), **certificates.of_service(s, own, authorities)}
            for n, s in sorted(services, key=lambda s: s.n)
        ],
        "routes": routes,
        "key_auth": plugins.key_auth,
        "rate_limiting": profiles.rate_limiting,
        "size_limiting": profiles.size_limiting,
        "acl": plugins.acl,
        "cors": plugins.cors,
        "v1_cors": v1_cors(world.v1),
        "default_tier": default and default.n,
        "tiers": [
            {
                **tier_entry(n, tier, models, columns.of, lambda key: sets.of(key, LIMIT_SETS)),
                **_on_routes(on_groups, tier),
            }
            for n, tier in tiers
        ],
        "models": [model_entry(n, model, _numbers_of(model, calls)) for n, model in models],
    }
    if served := certificates.served(own, (sni for _, sni in world.snis.values())):
        policy["certificates"] = served
    columns.add_profiles(profiles)
    found = [columns.found[n] for n in sorted(columns.found)]
    policy["columns"] = [
        {"n": c.n, "kind": c.kind, "words": c.words if c.kind == "dense" else 0, "key": c.key} for c in found
    ]
    return Compiled(policy, found)


def _on_routes(on_groups: Mapping[str, list[Plugin]], tier: Tier) -> JsonDict:
    """The bound of a tier's bodies on routes, if a plugin on its group sets one."""
    most = route_bytes(on_groups.get(tier.id, ()))
    return {} if most is None else {"route_max_bytes": most}


def calls_key(model: LlmModel, upstream: Upstream) -> str:
    """The key of a model's upstream: upstreams with equal labels share a number. An earlier version had a number for each tier, whose id
    was the first part."""
    return "/".join([ANY_TIER, model.id, *upstream_labels(model, upstream)])


def _numbers_of(model: LlmModel, calls: Numbers) -> list[int]:
    """The numbers of a model's upstreams."""
    return [calls.of(calls_key(model, upstream), CALLS) for upstream in model.spec.upstreams]


class _Columns:
    """The columns in use, by number."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self.found: dict[int, Column] = {}

    def of(self, key: str, rows: Rows | None, words: int) -> int:
        kind: rate_limiting.ColumnKind = "open" if rows is None else "dense"
        n = self._numbers.of(key, kind)
        self.found[n] = Column(n, kind, key, rows, words)
        return n

    def add_profiles(self, profiles: Profiles) -> None:
        texts = {n: (kind, key) for (kind, key), n in self._numbers.known.items()}
        for profile in profiles.rate_limiting:
            for limit in profile["limits"]:
                for n in (limit["dense"], limit["open"]):
                    if n is not None:
                        kind, key = texts[n]
                        rows = ROWS_OF[profile["limit_by"]] if kind == "dense" else None
                        self.found[n] = Column(n, kind, key, rows, WORDS[limit["kind"]])


def consumer_record(
    row: tuple[int, str, str | None, str | None, str | None],
    groups: list[str],
    plugins: Iterable[JsonDict],
    world: World,
    profiles: Profiles,
    numbers: Numbers,
) -> ConsumerRecord:
    """`row`: (n, id, username, custom_id, tier's id); `plugins`: bodies of the plugins on the consumer."""
    n, key, username, custom_id, tier = row
    refs = []
    for body in plugins:
        if body["name"] not in REFS or not body["enabled"] or world.schemes.isdisjoint(body["protocols"]):
            continue
        route = world.routes[body["route"]["id"]].n if body["route"] else 0
        service = body["service"]["id"] if body["service"] else None
        kind, index = REFS[body["name"]], profiles.of(body, service, numbers)
        on = world.schemes.intersection(body["protocols"])
        only = ONLY[min(on)] if on != world.schemes else 0
        refs.append(Ref(route, world.services[service].n if service else 0, kind | only, index))
    return ConsumerRecord(n, key, username, custom_id, sorted(refs), world.tiers[tier].n if tier else 0, groups)


def _shared(entries: list[JsonDict], entry: JsonDict) -> int:
    """The index of this entry in the list, which has equal entries once."""
    if entry not in entries:
        entries.append(entry)
    return entries.index(entry)


def _chosen(
    won: tuple[int, Plugin] | None, service: str | None, profiles: Profiles, numbers: Numbers
) -> JsonDict | None:
    return won and {"rank": won[0], "profile": profiles.of(won[1], service, numbers)}


class _Candidates:
    """Plugins by scope, so a route is compared only with plugins that can apply to it."""

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


def _upstream(upstream: KongUpstream, targets: list[Target], marked: Collection[Place]) -> JsonDict:
    bounds = upstream.healthchecks.passive.unhealthy
    live = [target for target in targets if target.weight and place_of(target) not in marked]
    places = [(*address(canonical(target.target)), target.weight) for target in live]
    return {
        "host_header": upstream.host_header,
        "hash": [{"by": by, "name": name} for by, name in upstream.parts()],
        "least_connections": upstream.algorithm == "least-connections",
        "passive": {
            "http_failures": bounds.http_failures,
            "http_statuses": bounds.http_statuses,
            "tcp_failures": bounds.tcp_failures,
            "timeouts": bounds.timeouts,
        },
        "targets": [{"host": host, "port": port, "weight": weight} for host, port, weight in places],
    }


def _service(
    n: int, service: Service, shared: Mapping[str, tuple[KongUpstream, list[Target]]], marked: Collection[Place]
) -> JsonDict:
    behind = shared.get(canonical_host(service.host))
    return {
        **({} if behind is None else {"upstream": _upstream(*behind, marked)}),
        "n": n,
        "id": service.id,
        "name": service.name,
        "protocol": service.protocol,
        "host": canonical_host(service.host),
        "port": service.port,
        "path": service.path,
        "retries": service.retries,
        "connect_timeout_ms": service.connect_timeout,
        "write_timeout_ms": service.write_timeout,
        "read_timeout_ms": service.read_timeout,
        "tls_verify": service.tls_verify,
    }


def _route(n: int, route: Route, service: int | None) -> JsonDict:
    return {
        "n": n,
        "id": route.id,
        "name": route.name,
        "service": service,
        "protocols": cast("list[str]", route.protocols),
        "https_redirect_status_code": route.https_redirect_status_code,
        "hosts": list(dict.fromkeys(host.lower() for host in route.hosts or [])),
        "methods": route.methods or [],
        "paths": route.paths or [],
        "headers": sorted([name.lower(), values] for name, values in (route.headers or {}).items()),
        "regex_priority": route.regex_priority,
        "created_at": route.created_at,
        "strip_path": route.strip_path,
        "preserve_host": route.preserve_host,
    }
