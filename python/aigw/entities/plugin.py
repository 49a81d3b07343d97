"""A plugin instance: a policy of some kind, on a scope (any of route, service, consumer; none is global).

The config is checked by the plugin kind's own schema; its findings come back under `config`.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.plugins import PLUGINS
from aigw.schema.fields import (
    STREAMS,
    FieldErrors,
    Foreign,
    Name,
    References,
    SetMarker,
    Timestamp,
    unique,
    violation,
    without,
)
from aigw.schema.unsupported import LACKING_PLUGINS, NOT_SUPPORTED, not_supported
from aigw.schema.violations import UNKNOWN, SchemaViolation, check
from aigw.types import JsonDict

_OF_GROUPS: Final = f"{NOT_SUPPORTED}: a group's limit is its tier's, with the answers of tiers"
_USUAL: Final = {
    "hide_client_headers": False,
    "error_code": 429,
    "error_message": "API rate limit exceeded",
    "require_content_length": False,
}
"""Fields of a configuration that a group's plugin must leave at their defaults."""


def _kind_name(value: str) -> str:
    if value in LACKING_PLUGINS:
        raise violation(not_supported(f"plugin '{value}'"))
    if value not in PLUGINS:
        raise violation(f"plugin '{value}' not enabled; add it to the 'plugins' configuration property")
    return value


Protocols = Annotated[
    list[Annotated[Literal["grpc", "grpcs", "http", "https"], without(*STREAMS)]], SetMarker(), AfterValidator(unique)
]


class Plugin(Entity):
    """The most specific enabled instance of a kind runs."""

    name: Annotated[str, AfterValidator(_kind_name)] = Field(description="Kind of plugin.")
    instance_name: Name | None = Field(default=None, description="Unique name of this instance.")
    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    route: Annotated[Foreign, References("routes")] | None = Field(default=None, description="Only on this route.")
    service: Annotated[Foreign, References("services")] | None = Field(
        default=None, description="Only on this service."
    )
    consumer: Annotated[Foreign, References("consumers")] | None = Field(
        default=None, description="Only for this consumer."
    )
    consumer_group: Annotated[Foreign, References("consumer_groups")] | None = Field(
        default=None, description="Only for the consumers of this group: a limit of the tier with its name."
    )
    config: dict[str, Any] = Field(default_factory=dict, description="The kind's own fields.")
    protocols: Protocols = Field(
        default=["grpc", "grpcs", "http", "https"],
        min_length=1,
        description="Protocols of the requests that it runs for: http, or https with TLS.",
    )
    enabled: bool = Field(default=True, description="Whether it runs.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")

    @model_validator(mode="after")
    def _scope_exists(self) -> Self:
        kind = PLUGINS[self.name]
        if self.consumer is not None and not kind.consumer_scope:
            raise FieldErrors({"consumer": "value must be null"})
        if self.consumer_group is not None:
            self._group_can_have_it(kind.group_scope)
        by_service = self.name == "rate-limiting" and self.config.get("limit_by") == "service"
        if by_service and self.consumer is not None and self.service is None:
            raise FieldErrors(
                {"config": {"limit_by": f"{NOT_SUPPORTED}: 'service' on a consumer needs a service, too"}}
            )
        return self

    def _group_can_have_it(self, group_scope: bool) -> None:
        if not group_scope:
            raise FieldErrors({"consumer_group": "value must be null"})
        others = [name for name in ("route", "service", "consumer") if getattr(self, name) is not None]
        if others:
            raise FieldErrors(dict.fromkeys(others, f"{NOT_SUPPORTED} together with consumer_group"))
        wrong = {name: _OF_GROUPS for name, usual in _USUAL.items() if self.config.get(name, usual) != usual}
        if self.config.get("limit_by", "consumer") not in ("consumer", "credential"):
            wrong["limit_by"] = f"{NOT_SUPPORTED}: a group's limit counts by consumer or credential"
        if wrong:
            raise FieldErrors({"config": wrong})


def _lacking_named(found: JsonDict, lacks: tuple[str, ...]) -> JsonDict:
    """The findings, in which `NOT_SUPPORTED` replaces `UNKNOWN` at the fields `lacks`, at any depth."""
    return {
        name: _lacking_named(finding, lacks)
        if isinstance(finding, dict)
        else NOT_SUPPORTED
        if finding == UNKNOWN and name in lacks
        else finding
        for name, finding in found.items()
    }


def expand_config(data: JsonDict) -> JsonDict:
    """The config with its defaults. Raises FieldErrors."""
    name, config = data.get("name"), data.get("config")
    kind = PLUGINS.get(name) if isinstance(name, str) else None
    if kind is None or not (config is None or isinstance(config, dict)):
        return data
    config = kind.renamed(config or {})
    try:
        checked = check(kind.config, config)
    except SchemaViolation as error:
        own = _lacking_named(error.fields, kind.lacks)
        # Kong reports a finding on the whole config as the text of the field `config`.
        whole = own.pop("@entity", None)
        raise FieldErrors({"config": own if own else whole[0] if whole else own}) from None
    wrong = kind.check(checked)
    if wrong is not None:
        raise wrong
    return {**data, "config": checked.model_dump(mode="json")}


KIND = EntityKind(
    name="plugins",
    model=Plugin,
    endpoint_key="instance_name",
    unique=("instance_name",),
    together=("consumer", "name", "route", "service"),
    foreign={"route": "routes", "service": "services", "consumer": "consumers", "consumer_group": "tiers"},
    cascades=("route", "service", "consumer", "consumer_group"),
    numbered=False,
    lacks=("ordering", "condition", "partials"),
    expand=expand_config,
)
