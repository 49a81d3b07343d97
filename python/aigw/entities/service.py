"""A service: an upstream that routes lead to. `url` is a shorthand for protocol, host, port and path."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from aigw._native import check_string
from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.host import wrong_host
from aigw.schema.fields import (
    Between,
    FieldErrors,
    Foreign,
    HttpProtocol,
    Milliseconds,
    Name,
    PlainPath,
    References,
    SetMarker,
    Timestamp,
    Uuid,
    refuse,
    unique,
    violation,
)
from aigw.types import JsonDict


def _host(value: str) -> str:
    wrong = wrong_host(value)
    if wrong is not None:
        raise violation(wrong)
    return value


def _path(value: str) -> str:
    if (wrong := check_string("address path", value)) is not None:
        raise violation(wrong)
    return value


Host = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_host)]


class Service(Entity):
    """The upstream of one or more routes."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    name: Name | None = Field(default=None, description="Unique name.")
    retries: Annotated[int, AfterValidator(Between(0, 32767))] = Field(
        default=5, description="Further attempts after a failure to connect."
    )
    protocol: HttpProtocol = Field(default="http", description="Protocol of the upstream.")
    host: Host = Field(description="Host name or IP address of the upstream.")
    port: Annotated[int, AfterValidator(Between(1, 65535))] = Field(default=80, description="Port of the upstream.")
    path: Annotated[PlainPath, AfterValidator(_path)] | None = Field(
        default=None, description="Prefix for the path of forwarded requests."
    )
    connect_timeout: Milliseconds = Field(default=60000, description="Milliseconds to connect.")
    write_timeout: Milliseconds = Field(default=60000, description="Milliseconds between two writes.")
    read_timeout: Milliseconds = Field(default=60000, description="Milliseconds between two reads.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    client_certificate: Annotated[Foreign, References("certificates")] | None = Field(
        default=None, description="Certificate shown to an upstream that asks for one."
    )
    tls_verify: bool | None = Field(
        default=None, description="Check the upstream's certificate; null: the gateway's default."
    )
    tls_verify_depth: Annotated[int | None, BeforeValidator(refuse)] = Field(
        default=None, description="Longest certificate chain: not supported in this version."
    )
    ca_certificates: Annotated[list[Uuid], SetMarker(), AfterValidator(unique)] | None = Field(
        default=None,
        description="Ids of the CA certificates that the upstream's certificate is checked by; null: the system's.",
    )
    enabled: bool = Field(default=True, description="Whether its routes match requests.")

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> Self:
        own = ("client_certificate", "ca_certificates")
        if self.protocol != "https" and (wrong := [name for name in own if getattr(self, name)]):
            raise FieldErrors(
                {
                    **dict.fromkeys(wrong, "value must be null"),
                    "@entity": ["failed conditional validation given value of field 'protocol'"],
                }
            )
        return self


def expand_url(data: JsonDict) -> JsonDict:
    """Expand `url` into protocol, host, port and path; missing parts get their defaults. Raises FieldErrors."""
    if "url" not in data:
        return data
    url = data["url"]
    if not isinstance(url, str):
        raise FieldErrors({"url": "expected a string"})
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FieldErrors({"url": f"invalid value: {url}: expected http(s)://host:port/path"}) from None
    if parts.username is not None or parts.query or parts.fragment:
        raise FieldErrors({"url": "must not contain user info, a query or a fragment"})
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.removesuffix(":")
    rest = {k: v for k, v in data.items() if k != "url"}
    default_port = 443 if parts.scheme == "https" else 80
    from_url = {
        "protocol": parts.scheme,
        "host": host,
        "port": port if port is not None else default_port,
        "path": parts.path,
    }
    kept = {k: v for k, v in rest.items() if k not in from_url}
    return {**kept, **{k: v for k, v in from_url.items() if v != ""}}


KIND = EntityKind(
    name="services",
    model=Service,
    endpoint_key="name",
    unique=("name",),
    foreign={"client_certificate": "certificates"},
    lacks=("tls_sans",),
    expand=expand_url,
)
