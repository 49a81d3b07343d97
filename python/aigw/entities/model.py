"""A model: a public name that clients call on /v1, and the upstreams that run it.

`ModelSpec` is the YAML object of `models.<name>` in the configuration file. Upstreams are chosen by weight; `model` is the
upstream's name of the model. Costs and the tokenizer are checked and stored, without effect in this version; `capacity` is refused.
An upstream's `api_key` is stored sealed (`Publisher.seal`), outside the spec, and never shown.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from aigw._native import check_string
from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.host import wrong_host
from aigw.entities.rates import Rates
from aigw.entities.tier import NotYet, TokenCap
from aigw.schema.fields import Between, Model, SetMarker, Timestamp, shown, unique, violation
from aigw.types import JsonDict

_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*|file:[^}]*?)(?::-([^}]*))?\}\Z", re.ASCII)
PLACEHOLDERS: Final = frozenset({"", "none", "null", "unset", "empty", "dummy", "no-key", "not-needed", "changeme"})
"""Defaults of references that may be shown, because they are not secrets."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\-]*\Z", re.ASCII)


def _name(value: str) -> str:
    if not _NAME.match(value):
        raise violation("expected letters, digits and ._:/@+-, beginning with a letter or digit")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    wrong = parts.scheme not in ("http", "https") or not parts.hostname or port == 0
    if wrong or parts.username is not None or parts.query or parts.fragment or any(c <= " " for c in value):
        raise violation("expected http(s)://host[:port]/v1")
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc.removesuffix(":")
    if (reason := wrong_host(host)) is not None:
        raise violation(reason)
    if not parts.path.rstrip("/").endswith("/v1") or "//" in parts.path or "/." in parts.path:
        raise violation("must end in /v1: the rest of a call's path is appended")
    if (reason := check_string("address path", parts.path)) is not None:
        raise violation(reason)
    return value


def _sendable(value: str) -> str:
    if not all("!" <= c <= "~" for c in value):
        raise violation("must be printable ascii without spaces")
    return value


def _no_file(value: object) -> object:
    if isinstance(value, str) and ("/" in value or value.lower().endswith((".json", ".model"))):
        raise violation(
            "a tokenizer's file is not supported in this version: write o200k_base or cl100k_base, or leave it out"
        )
    return value


_SHOWN: Final = shown(pattern="^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")
ModelName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_name), _SHOWN]
Feature = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_name), _SHOWN]
Url = Annotated[
    str,
    Field(max_length=2048),
    AfterValidator(_url),
    shown(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s?#@/]+(/[^\s?#]*)?/v1/?$"),
]
ApiKey = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_sendable), shown(pattern="^[!-~]*$")]


class Upstream(Model):
    """One server that runs a model."""

    url: Url = Field(description="Base URL in OpenAI's format; ends in /v1.")
    model: ModelName | None = Field(
        default=None, description="The upstream's name of the model; left out, the public one."
    )
    weight: Annotated[int, AfterValidator(Between(0, 1000))] = Field(
        default=1, description="Share of calls; 0: only when the others fail."
    )
    capacity: NotYet = Field(default=None, description="Calls at once: not supported in this version.")
    api_key: ApiKey | None = Field(
        default=None, description="Sent as Authorization: Bearer; write ${VAR} or ${file:...}."
    )
    tls_verify: bool = Field(default=True, description="Check the upstream's certificate.")


class ModelSpec(Model):
    """The YAML object of a model."""

    upstreams: Annotated[list[Upstream], Field(min_length=1, max_length=64)] = Field(description="Servers that run it.")
    tokenizer: Annotated[Literal["o200k_base", "cl100k_base"], BeforeValidator(_no_file)] | None = Field(
        default=None, description="The vocabulary that tokens are counted by: kept for later versions."
    )
    features: Annotated[list[Feature], SetMarker(), AfterValidator(unique)] = Field(
        default=[], description="Names that tiers allow; a model without any is open to all tiers."
    )
    cost: Rates | None = Field(default=None, description="Cost of the upstreams.")
    max_output_tokens: TokenCap | None = Field(
        default=None, description="Output tokens per choice that the model can give: asking for more is lowered to it."
    )


class SealedKey(Model):
    """An upstream's key. A changed key has another `digest`; only workers open `sealed`."""

    reference: str | None = Field(default=None, description="The variable or file that it came from.")
    sealed: str = Field(description="The key, sealed.")
    digest: str = Field(description="Its HMAC.")


class LlmModel(Entity):
    """`keys` has one item for each upstream of the spec; `api_key` in the spec is null."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    name: ModelName = Field(description="Unique name: what clients send as `model`.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    spec: ModelSpec = Field(description="Upstreams and properties of the model.")
    keys: list[SealedKey | None] = Field(default=[], description="Keys of the upstreams, sealed.")


def reference_of(text: str | None) -> str | None:
    """The reference in the file's text of a secret, or None for other text. A default is included only if it is a placeholder:
    another one may be the secret."""
    found = _REFERENCE.match(text or "")
    if found is None:
        return None
    name, default = found.groups()
    return f"${{{name}:-{default}}}" if default is not None and default.lower() in PLACEHOLDERS else f"${{{name}}}"


def with_sealed_keys(
    spec: ModelSpec, references: Sequence[str | None], seal: Callable[[bytes], str], digest: Callable[[bytes], bytes]
) -> JsonDict:
    """`spec` and `keys` of a model's body. `references`: the text of each upstream's key in the file (`${VAR}`)."""
    keys: list[JsonDict | None] = []
    for upstream, reference in zip(spec.upstreams, references, strict=True):
        if upstream.api_key is None:
            keys.append(None)
            continue
        key = upstream.api_key.encode()
        keys.append(
            {
                "reference": reference_of(reference),
                "sealed": seal(key),
                "digest": digest(b"upstream:" + key).hex(),
            }
        )
    body = spec.model_dump(mode="json")
    for item in body["upstreams"]:
        item["api_key"] = None
    return {"spec": body, "keys": keys}


KIND = EntityKind(name="models", model=LlmModel, endpoint_key="name", unique=("name",), served=False)

__all__ = ["LlmModel", "ModelName", "ModelSpec", "SealedKey", "Upstream", "reference_of", "with_sealed_keys"]
