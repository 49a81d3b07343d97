"""`GET /consumers/{c}/limits`: where a consumer stands, read from the counters that refuse its requests.

In: a consumer, the plugin instances and tiers in force. Out: one row for each counter that can apply to its calls, as
`aigw._native.Publisher.standing` reads it. Here the plugin instances that apply are found and named; limits by IP, header or
path have no counter of the consumer's own and are not listed.
"""

from collections.abc import Iterable

import orjson

from aigw.admin.context import Admin
from aigw.control.publish.compile import rank, winner
from aigw.control.publish.world import World
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.entities import Plugin
from aigw.types import JsonDict

Rows = list[tuple[int, str]]
"""(row number, id of the consumer, credential or service that it counts)."""


def limits(admin: Admin, reader: StoreReader, consumer: Row, now: int) -> list[JsonDict]:
    """The rows, in the order of precedence: the consumer's own plugins first, its tier last."""
    world, profiles = admin.publication.world, admin.publication.profiles
    own = [Plugin.model_validate(body) for body in reader.consumer_plugins(consumer.id)]
    page = reader.page("keyauth_credentials", now, 1000, where={"consumer": consumer.id})
    credentials = [(credential.n, credential.id) for credential in page]
    instances = []
    for plugin, services in _applicable(world, [p for p in own if _runs(p, world.schemes)]):
        for service, rows in _counted(plugin, services, [(consumer.n, consumer.id)], credentials):
            profile = profiles.find(plugin, service)
            if profile is not None:
                instances.append((profile, _source(reader, plugin), rows))
    tier = world.tiers.get(consumer.tier or "")
    at = int(admin.now() * 1e9)
    found: list[JsonDict] = orjson.loads(
        admin.publisher.standing(instances, tier.n if tier else 0, consumer.n, credentials, at)
    )
    return found


def _runs(plugin: Plugin, schemes: frozenset[str]) -> bool:
    return plugin.enabled and plugin.name == "rate-limiting" and bool(schemes.intersection(plugin.protocols))


def _counted(
    plugin: Plugin, services: list[str], consumer: Rows, credentials: Rows
) -> Iterable[tuple[str | None, Rows]]:
    """The rows that an instance counts the consumer in; of limit_by=service those of each service."""
    limit_by = plugin.config["limit_by"]
    if limit_by == "service":
        return [(service, [(0, service)]) for service in services]
    return [(None, {"consumer": consumer, "credential": credentials}.get(limit_by, []))]


def _applicable(world: World, own: list[Plugin]) -> list[tuple[Plugin, list[str]]]:
    """Every instance that wins on some route for this consumer, with the services that it counts there."""
    ranked = sorted(own, key=lambda p: -rank(p.route is not None, p.service is not None, consumer=True))
    found = {p.id: (p, {p.service.id} if p.service else set[str]()) for p in ranked}
    shared = world.running()
    for _, route in sorted(world.routes.values(), key=lambda r: r.n):
        service = route.service.id if route.service else None
        mine = next((rank_of(p) for p in ranked if _covers(p, route.id, service)), 0)
        best = winner("rate-limiting", route, shared)
        if best is not None and best[0] > mine:
            _, services = found.setdefault(best[1].id, (best[1], set()))
            services |= {service} if service else set()
    return [(plugin, sorted(services)) for plugin, services in found.values()]


def rank_of(plugin: Plugin) -> int:
    """Precedence of an instance."""
    return rank(plugin.route is not None, plugin.service is not None, plugin.consumer is not None)


def _covers(plugin: Plugin, route: str, service: str | None) -> bool:
    on_route = plugin.route is None or plugin.route.id == route
    return on_route and (plugin.service is None or plugin.service.id == service)


def _source(reader: StoreReader, plugin: Plugin) -> str:
    """`rate-limiting <id> (service ai-service, consumer bob)`: the instance that sets the limit."""
    scope = []
    for kind, collection, field, name in (
        ("route", "routes", plugin.route, "name"),
        ("service", "services", plugin.service, "name"),
        ("consumer", "consumers", plugin.consumer, "username"),
    ):
        if field is not None:
            row = reader.get(collection, "id", field.id, 0)
            scope.append(f"{kind} {(row.body[name] if row else None) or field.id}")
    return f"{plugin.name} {plugin.id} ({', '.join(scope) or 'global'})"
