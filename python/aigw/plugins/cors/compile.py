"""cors's config -> one entry of the policy's `cors` list. Pure. `v1.cors` of the file becomes the same form."""

from urllib.parse import urlsplit

from aigw.plugins.cors.schema import METHODS, PLAIN, CorsConfig, expression
from aigw.types import JsonDict

_PORTS = {"http": 80, "https": 443}


def entry(config: CorsConfig) -> JsonDict:
    """The entry. One plain origin stands in every answer, as in Kong; of several the one that asks."""
    given = config.origins or []
    every = not given or "*" in given
    plain = not every and len(given) == 1 and not set(given[0]) - PLAIN
    return {
        "origins": None if every or plain else [_rule(origin) for origin in given],
        "always": given[0] if plain else None,
        "methods": ",".join(config.methods if config.methods is not None else METHODS),
        "headers": ",".join(config.headers) if config.headers else None,
        "exposed": ",".join(config.exposed_headers or ()),
        "max_age": None if config.max_age is None else int(config.max_age),
        "credentials": config.credentials,
        "preflight_continue": config.preflight_continue,
        "private_network": config.private_network,
        "origin_absent": config.allow_origin_absent,
    }


def _rule(origin: str) -> JsonDict:
    if set(origin) - PLAIN:
        return {"matches" if ":" in origin else "host_matches": expression(origin)}
    return {"is": without_default_port(origin)}


def without_default_port(origin: str) -> str:
    """The origin as browsers write it."""
    try:
        parts = urlsplit(origin)
        usual = parts.port is not None and _PORTS.get(parts.scheme) == parts.port
    except ValueError:
        return origin
    return origin.rpartition(":")[0] if usual else origin
