"""Plugins on consumer groups become limits of the tier with the group's name.

In: a tier as it is stored, and the plugins on its group. Out: the tier that workers get, and the largest body of its consumers' requests on
routes. Of two bounds on the same counter the stricter one holds.
"""

from collections.abc import Iterable

from aigw.entities import Plugin, Tier
from aigw.entities.tier import Limit
from aigw.plugins.rate_limiting.schema import RateLimitingConfig
from aigw.plugins.request_size_limiting.compile import profile
from aigw.plugins.request_size_limiting.schema import RequestSizeLimitingConfig


def of_groups(plugins: Iterable[Plugin]) -> dict[str, list[Plugin]]:
    """Enabled plugins by the id of their group's tier."""
    found: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        if plugin.consumer_group is not None and plugin.enabled:
            found.setdefault(plugin.consumer_group.id, []).append(plugin)
    return found


def with_plugins(tier: Tier, plugins: Iterable[Plugin]) -> Tier:
    """The tier with the limits of these plugins."""
    spec = tier.spec
    limits = {limit.column(): limit for limit in spec.limits}
    prompt = spec.prompt
    for plugin in plugins:
        if plugin.name == "rate-limiting":
            config = RateLimitingConfig.model_validate(plugin.config)
            scope = "credential" if config.limit_by == "credential" else "consumer"
            for per, number in config.limits():
                amount = int(number)  # of a fraction only the whole calls pass
                one = Limit.model_validate({"requests": amount, "per": per, "scope": scope})
                known = limits.get(one.column())
                if known is None or (known.requests or 0) > amount:
                    limits[one.column()] = one
        else:
            most = size_of(plugin)
            prompt = prompt.model_copy(update={"max_bytes": min(most, prompt.max_bytes or most)})
    return tier.model_copy(update={"spec": spec.model_copy(update={"limits": list(limits.values()), "prompt": prompt})})


def size_of(plugin: Plugin) -> int:
    """Bytes of the largest body that a request-size-limiting plugin lets through."""
    return int(profile(RequestSizeLimitingConfig.model_validate(plugin.config))["bytes"])


def route_bytes(plugins: Iterable[Plugin]) -> int | None:
    """The largest body on routes; None: no bound of a group."""
    return min((size_of(plugin) for plugin in plugins if plugin.name == "request-size-limiting"), default=None)
