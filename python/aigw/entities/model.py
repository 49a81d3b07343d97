"""A model: a public name that clients call on /v1, and the upstreams that run it.

`ModelSpec` is the YAML object of `models.<name>` in the configuration file. Upstreams are chosen by weight; `model` is the
upstream's name of the model. `capacity` is refused in this version.
Secrets of upstreams are stored sealed, outside the spec, and never shown (`sealed`).
"""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.rates import Rates
from aigw.entities.tier import Duration, TokenCap, milliseconds_of
from aigw.entities.upstream import SealedKey, Upstream
from aigw.schema.fields import Between, FieldErrors, Model, SetMarker, Timestamp, shown, unique, violation

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\-]*\Z", re.ASCII)
FAILOVER_ON: Final[tuple[int | str, ...]] = ("connect", 401, 402, 403, 408, 429, 500, 502, 503, 504, 529)
"""Failures of an upstream after which the next one is asked, unless the model says others."""
MAX_TEMPLATE: Final = 65_536
"""Tokens. Templates with a long text of their own, such as tools' instructions, stay below it."""
MAX_PATH: Final = 4096
"""Characters. Linux allows no longer path."""
TOKENIZERS: Final = ("o200k_base", "cl100k_base", "bytes")
"""The embedded vocabularies, and bytes."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MAX_MEDIA: Final = 2**24
"""Tokens. No context window is as large."""


def _name(value: str) -> str:
    if not _NAME.match(value):
        raise violation("expected letters, digits and ._:/@+-, beginning with a letter or digit")
    return value


def _failure(value: Any) -> Any:
    """`connect`, or a status. 2xx is an answer, 1xx comes before one. 400, 404, 413 and 422 may be named: a larger or newer upstream may
    take what another refuses."""
    if value == "connect" or (type(value) is int and 300 <= value <= 599):
        return value
    if isinstance(value, str) and value.isdecimal():
        raise violation("expected an integer")
    raise violation("expected connect, or a status from 300 to 599")


def _ping(value: str) -> str:
    if milliseconds_of(value) < 1000:
        raise violation("expected at least 1s")
    return value


def _tokenizer(value: object) -> object:
    """A name, or a record with the path of a file."""
    if isinstance(value, str) and value in TOKENIZERS:
        return value
    if isinstance(value, str) and ("/" in value or value.lower().endswith((".json", ".model"))):
        raise violation("a tokenizer's file is written {file: path/to/tokenizer.json}")
    if not isinstance(value, dict):
        raise violation(f"expected one of: {', '.join(TOKENIZERS)}, or {{file: path/to/tokenizer.json}}")
    path = value.get("file")
    if set(value) != {"file"} or not isinstance(path, str) or not 1 <= len(path) <= MAX_PATH or _CONTROL.search(path):
        raise violation("expected the path of a tokenizer.json: {file: path/to/tokenizer.json}")
    return value


Tokenizer = Annotated[
    Any,
    AfterValidator(_tokenizer),
    shown(
        anyOf=[
            {"type": "string", "enum": list(TOKENIZERS)},
            {
                "type": "object",
                "properties": {"file": {"type": "string", "minLength": 1, "maxLength": MAX_PATH}},
                "required": ["file"],
                "additionalProperties": False,
            },
        ]
    ),
]
MediaTokens = Annotated[int, AfterValidator(Between(0, MAX_MEDIA))]
_SHOWN: Final = shown(pattern="^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")
ModelName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_name), _SHOWN]
Feature = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_name), _SHOWN]
Failure = Annotated[
    Any,
    AfterValidator(_failure),
    shown(anyOf=[{"type": "string", "const": "connect"}, {"type": "integer", "minimum": 300, "maximum": 599}]),
]


class ModelTimeouts(Model):
    """Deadlines of a model's calls. Where the caller's tier has one, too, the shorter counts."""

    connect: Duration | None = Field(default=None, description="To a connection with one upstream; left out, 10s.")
    first_byte: Duration | None = Field(default=None, description="Until the answer's head; left out, 10m.")
    between: Duration | None = Field(
        default=None,
        description="Between two pieces of an answer, comments of a stream included; left out, 120s, or first_byte where"
        " that is longer.",
    )
    total: Duration | None = Field(
        default=None, description="For the whole call, all upstreams together; left out, 1h."
    )


class Template(Model):
    """Tokens that the model's chat template adds to the texts of a prompt."""

    per_message: Annotated[int, AfterValidator(Between(0, MAX_TEMPLATE))] = Field(
        default=4, description="Tokens added to each message."
    )
    per_request: Annotated[int, AfterValidator(Between(0, MAX_TEMPLATE))] = Field(
        default=3, description="Tokens added to each request."
    )


class InputBounds(Model):
    """Most tokens that one part of a message costs. Their contents are never counted, so a bound that is too low lets a call
    use more than it reserved."""

    image: MediaTokens = Field(default=2048, description="Most tokens of an image.")
    audio: MediaTokens = Field(default=8192, description="Most tokens of a piece of audio.")
    file: MediaTokens = Field(default=65536, description="Most tokens of a file.")


class ModelSpec(Model):
    """The YAML object of a model."""

    upstreams: Annotated[list[Upstream], Field(min_length=1, max_length=64)] = Field(description="Servers that run it.")
    tokenizer: Tokenizer | None = Field(
        default=None,
        description="The vocabulary that tokens are counted by; left out, o200k_base. {file: PATH}: a tokenizer.json of Hugging"
        " Face, at most 64 MiB, relative to the configuration file. bytes: one token for each byte.",
    )
    template: Template = Field(default_factory=Template, description="Tokens that the chat template adds.")
    input_bounds: InputBounds = Field(
        default_factory=InputBounds, description="Most tokens that one part of a message costs, by kind of the part."
    )
    features: Annotated[list[Feature], SetMarker(), AfterValidator(unique)] = Field(
        default=[], description="Names that tiers allow; a model without any is open to all tiers."
    )
    cost: Rates | None = Field(default=None, description="Cost of the upstreams.")
    max_output_tokens: TokenCap | None = Field(
        default=None, description="Output tokens per choice that the model can give: asking for more is lowered to it."
    )
    stream_usage: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether streams are asked for their usage (stream_options). auto: an upstream that refuses it is asked"
        " once more without, and remembered.",
    )
    cap_parameter: Literal["auto", "max_tokens", "max_completion_tokens", "none"] = Field(
        default="auto",
        description="Name of the output cap in the request. auto: the caller's, else max_tokens; an upstream that refuses it"
        " is asked once more with max_completion_tokens, and remembered; on /completions always max_tokens. none: no cap is sent.",
    )
    failover_on: Annotated[list[Failure], Field(max_length=64), SetMarker(), AfterValidator(unique)] = Field(
        default=list(FAILOVER_ON),
        description="Failures after which the next upstream is asked: connect (no connection, no TLS) and statuses.",
    )
    timeouts: ModelTimeouts = Field(default_factory=ModelTimeouts, description="Deadlines.")
    stream_ping: Annotated[Duration, AfterValidator(_ping)] | None = Field(
        default=None,
        description="A stream's client gets a comment each time the upstream was silent for so long after the answer's"
        " head; left out, never. It does not lengthen timeouts.between.",
    )

    @property
    def tokenizer_path(self) -> str | None:
        """The path of its tokenizer.json, as the file has it."""
        return self.tokenizer["file"] if isinstance(self.tokenizer, dict) else None

    @model_validator(mode="after")
    def _upstreams_are_whole(self) -> Self:
        found = [upstream.wrong() or None for upstream in self.upstreams]
        if any(found):
            raise FieldErrors({"upstreams": found})
        return self


class TokenizerCopy(Model):
    """A model's tokenizer.json as it was checked. The data folder has its content."""

    sha256: str = Field(description="SHA-256 of the content, in hex digits: the name of its copy in tokenizers/.")
    per_byte: int = Field(description="Most tokens that one byte of text can become.")


class LlmModel(Entity):
    """`keys` has one item for each upstream of the spec; `api_key` in the spec is null."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    name: ModelName = Field(description="Unique name: what clients send as `model`.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    spec: ModelSpec = Field(description="Upstreams and properties of the model.")
    keys: list[SealedKey | None] = Field(default=[], description="Keys of the upstreams, sealed.")
    secrets: dict[str, SealedKey] = Field(
        default={}, description="Other secrets and certificates of the upstreams, sealed, by their place."
    )
    tokenizer_file: TokenizerCopy | None = Field(default=None, description="The content of the spec's tokenizer.json.")


KIND = EntityKind(name="models", model=LlmModel, endpoint_key="name", unique=("name",), served=False)

__all__ = ["FAILOVER_ON", "LlmModel", "ModelName", "ModelSpec", "TokenizerCopy"]
