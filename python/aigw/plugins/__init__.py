"""The plugin kinds this gateway has, one registry line each. Data only: fields and checks; compiling is beside them.

    key_auth, acl, rate_limiting, request_size_limiting   one folder each: `schema` (fields, checks), `compile` (-> policy)

A kind is a config model, Kong's priority and version, the checks that span the plugin, and the scopes that it allows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aigw.plugins.acl import schema as acl
from aigw.plugins.key_auth.schema import KeyAuthConfig
from aigw.plugins.rate_limiting import schema as rate_limiting
from aigw.plugins.request_size_limiting.schema import RequestSizeLimitingConfig
from aigw.schema.fields import FieldErrors, Model

KONG_VERSION: Final = "3.10.0"
"""The version of Kong whose Admin API and plugins these are."""


@dataclass(frozen=True, slots=True)
class PluginKind:
    """What the control plane must know of a plugin to check and describe it."""

    name: str
    config: type[Model]
    priority: int
    consumer_scope: bool = True
    check: Callable[[Any], FieldErrors | None] = lambda _: None
    aliases: Mapping[str, tuple[str, str]] = field(default_factory=dict)


PLUGINS: Final[Mapping[str, PluginKind]] = {
    kind.name: kind
    for kind in (
        PluginKind("key-auth", KeyAuthConfig, 1250, consumer_scope=False),
        PluginKind("request-size-limiting", RequestSizeLimitingConfig, 951),
        PluginKind("acl", acl.AclConfig, 950, consumer_scope=False, check=acl.check),
        PluginKind(
            "rate-limiting",
            rate_limiting.RateLimitingConfig,
            910,
            check=rate_limiting.check,
            aliases=rate_limiting.ALIASES,
        ),
    )
}
