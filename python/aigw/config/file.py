"""A checked configuration file: models, tiers, and every entity with the place that declares it.

Ids are uuid5 of kind and name below a fixed namespace: the same file makes the same ids on every machine, and neither
order nor lines change them. What has no name of its own takes its owner's: a plugin by its scope, a credential by its
key's SHA-256, an acl by its group.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from aigw._native import YamlDocument
from aigw.config.finding import Path
from aigw.control.entities.model import ModelSpec
from aigw.control.entities.tier import TierSpec
from aigw.types import JsonDict

NAMESPACE: Final = UUID("5f2b0e0c-6f0a-5d4e-9d3c-0a1e6b7c8d90")
_NAMESPACE: Final = NAMESPACE.bytes


def entity_id(kind: str, name: str) -> str:
    """uuid5(NAMESPACE, "kind:name") as text, four times as fast as the library's."""
    digest = bytearray(hashlib.sha1(_NAMESPACE + f"{kind}:{name}".encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Secret:
    """A text that no repr, log or traceback shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class FileEntity(NamedTuple):
    """One entity of the file. `body` is as the store keeps it, with `created_at` and `updated_at` 0: whoever stores it sets
    the times; keys are not in it."""

    kind: str
    """services, routes, tiers, models, consumers, keyauth_credentials, acls or plugins."""
    id: str
    name: str
    """For a person: the name, or the owner and what distinguishes it there."""
    body: JsonDict
    line: int
    path: Path
    tier: str | None = None
    """Of a consumer: the name of its tier, or None."""
    key: Secret | None = None
    """Of a credential: its key, unless the file has `key_hash`."""
    key_hash: bytes | None = None
    """Of a credential: the HMAC-SHA-256 of its key under the data folder's secret, when the file has that."""
    ttl: int | None = None
    """Of a credential: seconds."""


@dataclass(frozen=True, slots=True)
class File:
    """What a file says. `entities` come in the order in which they can be stored: what is referenced comes first."""

    name: str
    """The path as it was given."""
    hash: str
    """SHA-256 of the bytes and of all that its references stood for: it changes when anything does."""
    models: Mapping[str, ModelSpec]
    tiers: Mapping[str, TierSpec]
    """Those of consumer_groups among them, without limits."""
    default_tier: str | None
    entities: tuple[FileEntity, ...]
    sources: tuple[str, ...]
    """Every file that was read, the configuration first."""
    document: YamlDocument = field(repr=False)

    def of(self, kind: str) -> list[FileEntity]:
        """The entities of one kind."""
        return [e for e in self.entities if e.kind == kind]

    def written(self, path: Path) -> str | None:
        """The text at a path as it is written, references in it and not their values; None where there is none."""
        try:
            return self.document.text(path)
        except KeyError:
            return None

    def api_keys_written(self, model: str) -> list[str | None]:
        """What is written as `api_key` of each upstream of a model."""
        upstreams = range(len(self.models[model].upstreams))
        return [self.written(("models", model, "upstreams", i, "api_key")) for i in upstreams]
