"""The registry of plugin kinds, one line each. Data only: fields and checks. Each folder also has its `compile`.

    cors, key_auth, acl, rate_limiting, request_size_limiting   one folder each: `schema` (fields, checks), `compile` (-> policy)
    prometheus   `schema` only: the metrics are there without it

A kind has a config model, Kong's priority and version, checks across the whole plugin, and its allowed scopes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aigw.plugins.acl import schema as acl
from aigw.plugins.cors.schema import CorsConfig
from aigw.plugins.key_auth.schema import KeyAuthConfig
from aigw.plugins.prometheus.schema import PrometheusConfig
from aigw.plugins.rate_limiting import schema as rate_limiting
from aigw.plugins.request_size_limiting.schema import RequestSizeLimitingConfig
from aigw.schema.fields import FieldErrors, Model
from aigw.types import JsonDict

KONG_VERSION: Final = "3.10.0"
"""The version of Kong that the Admin API and the plugins follow."""


@dataclass(frozen=True, slots=True)
class PluginKind:
    """The facts that the control plane needs to check and describe a plugin."""

    name: str
    config: type[Model]
    priority: int
    consumer_scope: bool = True
    group_scope: bool = False
    """Whether it can be on a consumer group."""
    check: Callable[[Any], FieldErrors | None] = lambda _: None
    aliases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Deprecated field -> the record and its field that replace it."""

    lacks: tuple[str, ...] = ()
    """Fields of Kong's config, at any depth, that this gateway lacks: refused by name."""

    def renamed(self, config: JsonDict) -> JsonDict:
        """The config with the values of deprecated fields in the fields that replace them. Raises FieldErrors if both have a value and
        the values differ."""
        found = {name: value for name, value in config.items() if name not in self.aliases}
        for alias, (record, member) in self.aliases.items():
            inner = found.get(record)
            if alias not in config or not (inner is None or isinstance(inner, dict)):
                continue
            old, new = config[alias], (inner or {}).get(member)
            if old is not None and new is not None and old != new:
                text = (
                    f"both deprecated and new field are used but their values mismatch: {alias} and {record}.{member}"
                )
                raise FieldErrors({"config": {alias: text}})
            found[record] = {**(inner or {}), member: new if old is None else old}
        return found

    def shown(self, config: JsonDict) -> JsonDict:
        """The config as clients see it: deprecated fields repeat the values of the fields that replace them, as in Kong."""
        return {**config, **{alias: config[record][member] for alias, (record, member) in self.aliases.items()}}


PLUGINS: Final[Mapping[str, PluginKind]] = {
    kind.name: kind
    for kind in (
        PluginKind("cors", CorsConfig, 2000, consumer_scope=False),
        PluginKind("prometheus", PrometheusConfig, 13),
        PluginKind("key-auth", KeyAuthConfig, 1250, consumer_scope=False, lacks=("identity_realms",)),
        PluginKind("request-size-limiting", RequestSizeLimitingConfig, 951, group_scope=True),
        PluginKind("acl", acl.AclConfig, 950, consumer_scope=False, check=acl.check),
        PluginKind(
            "rate-limiting",
            rate_limiting.RateLimitingConfig,
            910,
            group_scope=True,
            check=rate_limiting.check,
            aliases=rate_limiting.ALIASES,
            lacks=rate_limiting.LACKING,
        ),
    )
}
