"""The addresses of upstreams, as metrics, `/status` and the log of workers name them. In: the world. Out: `host:port` -> names."""

from urllib.parse import urlsplit

from aigw.control.publish.world import World
from aigw.entities.host import canonical_host
from aigw.entities.target import canonical


def address(url: str) -> str:
    """`host:port` of a URL; an IPv6 host in brackets. Without path, query and credentials."""
    parts = urlsplit(url)
    return f"{canonical_host(parts.hostname or '')}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def by_models(world: World) -> dict[str, list[str]]:
    """Address of an upstream -> the models that have it."""
    found: dict[str, list[str]] = {}
    for model in list(world.models.values()):
        for upstream in {address(upstream.url) for upstream in model.entity.spec.upstreams}:
            found.setdefault(upstream, []).append(model.entity.name)
    return found


def by_services(world: World) -> dict[str, list[str]]:
    """Address of a service -> the services that have it, by name or id."""
    found: dict[str, list[str]] = {}
    shared = world.shared()
    for service in list(world.services.values()):
        entity = service.entity
        _, targets = shared.get(canonical_host(entity.host), (None, None))
        own = [f"{canonical_host(entity.host)}:{entity.port}"]
        for one in own if targets is None else [canonical(target.target) for target in targets]:
            found.setdefault(one, []).append(entity.name or entity.id)
    return found
