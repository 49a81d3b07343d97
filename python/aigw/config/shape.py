"""The structure of the file: sections, nesting and fields. Entities' fields come from the entities themselves.

`ConsumerInFile` checks consumers in bulk, with their credentials and groups. The other shapes describe nesting, for the JSON
Schema and for "did you mean".
"""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from aigw.entities import KongUpstream, Plugin, Route, Service, Sni, Target
from aigw.entities.base import TagsField
from aigw.entities.ca_certificate import CaCertificate
from aigw.entities.certificate import Certificate
from aigw.entities.consumer import must_have_a_name
from aigw.entities.keyauth_credential import Key, Ttl
from aigw.entities.ledger import LedgerSpec
from aigw.entities.model import ModelName, ModelSpec
from aigw.entities.tier import TierName, TierSpec
from aigw.entities.v1 import V1Spec
from aigw.plugins import PLUGINS
from aigw.schema.fields import Model, Name, Text, Uuid, shown, violation
from aigw.schema.unsupported import LACKING_ENTITIES
from aigw.types import JsonDict

FORMAT_VERSION: Final = "3.0"
_HASH: Final = re.compile(r"(hmac:[0-9a-f]{8}:)?[0-9a-fA-F]{64}\Z")
_MADE: Final = frozenset({"id", "created_at", "updated_at"})


def _hash(value: str) -> str:
    if not _HASH.match(value):
        raise violation("expected 64 hex digits: the HMAC-SHA-256 of the key under the data folder's secret")
    return value.lower()


def _any_of(*fields: str) -> JsonDict:
    return {"anyOf": [{"required": [field]} for field in fields]}


Reference = Annotated[str, Field(min_length=1, max_length=1024)]


class Named(Model):
    """A reference by name."""

    name: Reference = Field(description="Name of the referenced entity.")


class OfId(Model):
    """A reference by id."""

    id: Uuid = Field(description="Id of the referenced entity.")


class NamedConsumer(Model):
    """A reference to a consumer."""

    username: Reference = Field(description="Username of the consumer.")


class Group(Named):
    """decK's word for a consumer's tier."""

    tags: TagsField = Field(default=None, description="Kept for decK's files: no effect.")


class CredentialInFile(Model):
    """A key of a consumer: the key itself, or its HMAC."""

    model_config = ConfigDict(json_schema_extra=_any_of("key", "key_hash"))

    key: Key | None = Field(default=None, description="The key; write ${VAR} or ${file:PATH}.")
    key_hash: Annotated[str, AfterValidator(_hash), shown(pattern="^(hmac:[0-9a-f]{8}:)?[0-9a-fA-F]{64}$")] | None = (
        Field(
            default=None,
            description="Instead of the key: its HMAC-SHA-256 under the data folder's secret, 64 hex digits. aigw dump writes"
            " hmac: and 8 digits that name the secret before them.",
        )
    )
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    ttl: Ttl | None = Field(default=None, description="Seconds until the key expires; omitted or 0: never.")

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.key is None) == (self.key_hash is None):
            raise violation("expected one of: key, key_hash" if self.key is None else "key and key_hash: keep one")
        return self


class AclInFile(Model):
    """A group of a consumer, for the plugin acl."""

    group: Text = Field(description="Name of the group.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")


class ConsumerInFile(Model):
    """A consumer, its tier and its keys."""

    model_config = ConfigDict(json_schema_extra=_any_of("username", "custom_id"))

    username: Text | None = Field(default=None, description="Unique name.")
    custom_id: Text | None = Field(default=None, description="Unique id in the operator's own systems.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    tier: Reference | None = Field(default=None, description="Name of its tier; omitted: the default tier.")
    groups: list[Group] | None = Field(default=None, description="decK's word for the tier: a list of one.")
    keyauth_credentials: list[CredentialInFile] | None = Field(default=None, description="Its API keys.")
    acls: list[AclInFile] | None = Field(default=None, description="Its groups, for the plugin acl.")
    plugins: list[Any] | None = Field(default=None, description="Plugins for this consumer only.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        must_have_a_name(self.username, self.custom_id)
        if self.groups and len(self.groups) > 1:
            raise violation("groups: a consumer has one tier: keep one")
        if self.groups and self.tier is not None and self.groups[0].name != self.tier:
            raise violation("tier and groups differ: keep one")
        return self


def _model_in_file(
    entity: type[BaseModel], called: str, doc: str, /, without: frozenset[str] = _MADE, **more: Any
) -> type[Model]:
    """A model with an entity's fields, without those that the gateway sets."""
    own = {n: (info.rebuild_annotation(), info) for n, info in entity.model_fields.items() if n not in without}
    fields: dict[str, Any] = {**own, **more}
    made: type[Model] = create_model(called, __base__=Model, __doc__=doc, **fields)
    return made


ServiceRef = Annotated[Reference | Named | None, Field(default=None, description="The service, by name.")]
RouteRef = Annotated[Reference | Named | None, Field(default=None, description="The route, by name.")]
ConsumerRef = Annotated[Reference | NamedConsumer | None, Field(default=None, description="The consumer, by username.")]

GroupRef = Annotated[
    Reference | Named | None, Field(default=None, description="The consumer group, by name: the tier with its name.")
]

PluginInFile = _model_in_file(
    Plugin,
    "PluginInFile",
    "A plugin: a policy on a scope.",
    name=(Literal[tuple(PLUGINS)], Field(description="Kind of plugin.")),
    service=(ServiceRef, None),
    route=(RouteRef, None),
    consumer=(ConsumerRef, None),
    consumer_group=(GroupRef, None),
)
_Plugins = Annotated[list[PluginInFile] | None, Field(description="Plugins on it.")]  # type: ignore[valid-type]


class ConsumerGroup(Model):
    """decK's consumer group: a tier, without limits unless it is also in `tiers`."""

    name: TierName = Field(description="Unique name.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    plugins: _Plugins = Field(default=None)


TargetInFile = _model_in_file(Target, "TargetInFile", "A server of an upstream.", without=_MADE | {"upstream"})
UpstreamInFile = _model_in_file(
    KongUpstream,
    "UpstreamInFile",
    "A name in front of several targets: the host of services.",
    targets=(Annotated[list[TargetInFile] | None, Field(description="Its servers.")], None),  # type: ignore[valid-type]
)
RouteInFile = _model_in_file(
    Route,
    "RouteInFile",
    "A route: sends matching requests to a service.",
    name=(Name, Field(description="Unique name.")),
    service=(ServiceRef, None),
    plugins=(_Plugins, None),
)
ServiceInFile = _model_in_file(
    Service,
    "ServiceInFile",
    "A service: an upstream for routes.",
    name=(Name, Field(description="Unique name.")),
    host=(
        Service.model_fields["host"].rebuild_annotation() | None,
        Field(default=None, description="Host of the upstream."),
    ),
    url=(Text | None, Field(default=None, description="Shorthand for protocol, host, port and path.")),
    client_certificate=(
        Uuid | OfId | None,
        Field(default=None, description="Id of a certificate in this file: shown to an upstream that asks for one."),
    ),
    routes=(Annotated[list[RouteInFile] | None, Field(description="Routes that lead to it.")], None),  # type: ignore[valid-type]
    plugins=(_Plugins, None),
)


_Id = Annotated[
    Uuid | None, Field(default=None, description="Its id, by which services name it; omitted: made of the certificate.")
]
SniInFile = _model_in_file(Sni, "SniInFile", "A name that a certificate serves.", without=_MADE | {"certificate"})
SniAlone = _model_in_file(
    Sni,
    "SniAlone",
    "A name, and the certificate that it gets.",
    certificate=(Uuid | OfId, Field(description="Id of a certificate in this file.")),
)
CertificateInFile = _model_in_file(
    Certificate,
    "CertificateInFile",
    "A certificate and its key, for its names or for calls of upstreams.",
    id=(_Id, None),
    snis=(Annotated[list[SniInFile] | None, Field(description="The names that it serves.")], None),  # type: ignore[valid-type]
)
CaCertificateInFile = _model_in_file(
    CaCertificate, "CaCertificateInFile", "An authority that upstreams are checked by.", id=(_Id, None)
)


class Info(Model):
    """decK's description of a file."""

    select_tags: list[str] | None = Field(default=None, description="Kept for decK's files: no effect.")


LACKING: Final = LACKING_ENTITIES | {
    "_konnect", "_plugin_configs", "agents", "custom_entities", "issuers", "service_packages", "targets",
}  # fmt: skip
"""Sections of the files of decK and Kong, and of later versions of aigw, that this one lacks."""


class Configuration(Model):
    """Configuration of aigw: models, tiers, and Kong's declarative entities."""

    model_config = ConfigDict(title="aigw configuration", validate_by_name=False)

    format_version: Literal["3.0"] | None = Field(
        default=None, alias="_format_version", description='decK\'s format: "3.0".'
    )
    info: Info | None = Field(default=None, alias="_info", description="decK's head: no effect.")
    workspace: Literal["default"] | None = Field(
        default=None, alias="_workspace", description="decK's workspace: there is one."
    )
    transform: bool | None = Field(
        default=None, alias="_transform", description="Kept for decK's files: keys are always hashed."
    )
    models: dict[ModelName, ModelSpec] | None = Field(
        default=None, description="Public name of a model -> its upstreams. With models, /v1/* is OpenAI's surface."
    )
    default_tier: Reference | None = Field(
        default=None, description="Tier of consumers without one; if unset, they get 403 on /v1/*."
    )
    v1: V1Spec | None = Field(default=None, description="Settings of the surface /v1.")
    ledger: LedgerSpec | None = Field(default=None, description="Time that the ledger keeps its entries and sums.")
    tiers: dict[TierName, TierSpec] | None = Field(
        default=None, description="Name of a tier -> its limits, gates and prices."
    )
    consumer_groups: list[ConsumerGroup] | None = Field(default=None, description="decK's word for tiers.")
    certificates: list[CertificateInFile] | None = Field(  # type: ignore[valid-type]
        default=None, description="Certificates with their keys and names, for the TLS address of the proxy."
    )
    snis: list[SniAlone] | None = Field(  # type: ignore[valid-type]
        default=None, description="Names outside of a certificate."
    )
    ca_certificates: list[CaCertificateInFile] | None = Field(  # type: ignore[valid-type]
        default=None, description="Authorities that services name by id."
    )
    upstreams: list[UpstreamInFile] | None = Field(  # type: ignore[valid-type]
        default=None, description="Names in front of several servers each: hosts of services."
    )
    services: list[ServiceInFile] | None = Field(default=None, description="Upstreams.")  # type: ignore[valid-type]
    routes: list[RouteInFile] | None = Field(  # type: ignore[valid-type]
        default=None, description="Routes outside a service."
    )
    consumers: list[ConsumerInFile] | None = Field(default=None, description="The callers.")
    plugins: list[PluginInFile] | None = Field(  # type: ignore[valid-type]
        default=None, description="Plugins: on the entities that they name, or global."
    )


__all__ = [
    "CaCertificateInFile",
    "CertificateInFile",
    "Configuration",
    "ConsumerInFile",
    "PluginInFile",
    "RouteInFile",
    "ServiceInFile",
    "SniAlone",
    "SniInFile",
    "TargetInFile",
    "TierName",
    "UpstreamInFile",
]
