"""`GET /consumers/{c}/limits`: where a consumer stands, read from the same cells that refuse its requests.

In: a consumer, the plugins and tiers in force, the cells. Out: one row per limit that can apply to its calls. Limits
counted by IP, header or path have no row of the consumer's own and are not listed. used = taken - held by requests in
flight. A limit with a burst is a bucket: its limit is the burst, used what has not come back yet.
"""

import calendar
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from aigw.admin.context import Admin
from aigw.control.publish.compile import World, rank, winner
from aigw.control.publish.compile_tiers import column_key, in_order
from aigw.control.store.read import Reading
from aigw.control.store.rows import Row
from aigw.entities import Plugin
from aigw.entities.period import is_fixed, longest
from aigw.entities.tier import Limit
from aigw.plugins.rate_limiting.compile import Scope
from aigw.plugins.rate_limiting.schema import RateLimitingConfig
from aigw.types import JsonDict


@dataclass(frozen=True, slots=True)
class _Place:
    """One counter of one limit, and how to name it."""

    per: str
    scope: str
    limit: int
    column: int | None
    row: int
    source: str
    mode: str = "enforce"
    rate: tuple[int, int, int] | None = None
    """Of a bucket: requests, seconds, burst."""


def window_end(per: str, now: int) -> int:
    """When the current window of a period ends, unix seconds, UTC-aligned; months and years by the calendar."""
    if is_fixed(per):
        seconds = longest(per)
        return now - now % seconds + seconds
    moment = datetime.fromtimestamp(now, UTC)
    following = (moment.year + 1, 1) if per == "year" or moment.month == 12 else (moment.year, moment.month + 1)
    return calendar.timegm((*following, 1, 0, 0, 0))


def limits(admin: Admin, reading: Reading, consumer: Row, now: int) -> list[JsonDict]:
    """The rows, in the order of precedence: the consumer's own plugins first."""
    world = admin.publication.world
    own = [Plugin.model_validate(body) for body in reading.consumer_plugins(consumer.id)]
    places = [
        place
        for plugin, services in _applicable(world, [p for p in own if p.enabled and p.name == "rate-limiting"])
        for place in _places(admin, reading, consumer, plugin, services, now)
    ]
    places += _tier_places(admin, reading, consumer, now)
    return [_row(place, *state) for place, state in zip(places, _states(admin, places, now), strict=True)]


def _row(place: _Place, used: int, held: int, end: int) -> JsonDict:
    return {
        "meter": "requests",
        "per": place.per,
        "scope": place.scope,
        "mode": place.mode,
        "limit": place.limit,
        "used": used,
        "reserved": held,
        "remaining": max(0, place.limit - used - held),
        "resets_at": end,
        "source": place.source,
    }


def _states(admin: Admin, places: list[_Place], now: int) -> Iterator[tuple[int, int, int]]:
    """(used, held, end) of each; counters that nothing touched yet have no column."""
    windows = [(p.column, p.row) for p in places if p.column is not None and p.rate is None]
    buckets = [(p.column, p.row, *p.rate) for p in places if p.column is not None and p.rate is not None]
    cells = iter(admin.publisher.read_cells(windows))
    readings = iter(admin.publisher.read_buckets(buckets, int(admin.now() * 1e9)))
    for place in places:
        if place.rate is not None:
            used, full_at = next(readings) if place.column is not None else (0, 0)
            yield used, 0, max(now, -(-full_at // 10**9)) if used else now
            continue
        taken, held, end = next(cells) if place.column is not None else (0, 0, 0)
        if end <= now:
            taken, held, end = 0, 0, window_end(place.per, now)
        yield max(0, taken - held), held, end


def _tier_places(admin: Admin, reading: Reading, consumer: Row, now: int) -> list[_Place]:
    world = admin.publication.world
    tier = world.tiers.get(consumer.tier or world.default_tier or "")
    if tier is None:
        return []
    places = []
    for limit in in_order(tier.entity.spec.limits):
        for scope, row, model in _tier_rows(world, reading, consumer, limit, now):
            column = admin.publication.numbers.known.get(("dense", column_key(limit, model)))
            most, rate = limit.requests or 0, None
            if limit.burst is not None:
                most, rate = limit.burst, (most, longest(limit.per or ""), limit.burst)
            source = f"tier {tier.entity.name}"
            places.append(_Place(limit.per or "", scope, most, column, row, source, limit.mode, rate))
    return places


def _tier_rows(
    world: World, reading: Reading, consumer: Row, limit: Limit, now: int
) -> Iterable[tuple[str, int, str | None]]:
    """(scope as it is shown, row, id of the model) of each counter of a limit."""
    if limit.scope == "consumer":
        yield "consumer", consumer.n, None
    elif limit.scope == "credential":
        for credential in reading.page("keyauth_credentials", now, 1000, where={"consumer": consumer.id}):
            yield f"credential {credential.id}", credential.n, None
    elif limit.scope == "model":
        for _, model in sorted(world.models.values(), key=lambda m: m.n):
            yield f"model {model.name}", consumer.n, model.id


def _applicable(world: World, own: list[Plugin]) -> list[tuple[Plugin, list[str]]]:
    """Every instance that wins on some route for this consumer, with the services it would count there."""
    ranked = sorted(own, key=lambda p: -rank(p.route is not None, p.service is not None, consumer=True))
    found = {p.id: (p, {p.service.id} if p.service else set[str]()) for p in ranked}
    shared = list(world.plugins.values())
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


def _places(
    admin: Admin, reading: Reading, consumer: Row, plugin: Plugin, services: list[str], now: int
) -> Iterable[_Place]:
    config = RateLimitingConfig.model_validate(plugin.config)
    scope = Scope(plugin.route.id if plugin.route else None, plugin.service.id if plugin.service else None)
    source = _source(reading, plugin)
    rows: list[tuple[str, int, str | None]] = []
    if config.limit_by == "consumer":
        rows = [("consumer", consumer.n, None)]
    elif config.limit_by == "credential":
        page = reading.page("keyauth_credentials", now, 1000, where={"consumer": consumer.id})
        rows = [(f"credential {c.id}", c.n, None) for c in page]
    elif config.limit_by == "service":
        rows = [(f"service {s}", 0, s) for s in services]
    for name, row, service in rows:
        for per, limit in config.limits():
            column = admin.publication.numbers.known.get(("dense", scope.key(config.limit_by, per, service)))
            yield _Place(per, name, limit, column, row, source)


def _source(reading: Reading, plugin: Plugin) -> str:
    """`rate-limiting <id> (service ai-service, consumer bob)`: where to look when the number surprises."""
    scope = []
    for kind, collection, field, name in (
        ("route", "routes", plugin.route, "name"),
        ("service", "services", plugin.service, "name"),
        ("consumer", "consumers", plugin.consumer, "username"),
    ):
        if field is not None:
            row = reading.get(collection, "id", field.id, 0)
            scope.append(f"{kind} {(row.body[name] if row else None) or field.id}")
    return f"{plugin.name} {plugin.id} ({', '.join(scope) or 'global'})"
