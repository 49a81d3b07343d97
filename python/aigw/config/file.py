"""A checked configuration file: models, tiers, and all entities with their positions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aigw._native import FileConsumers, YamlDocument
from aigw.config.entity import NAMESPACE, FileEntity, entity_id
from aigw.config.finding import Finding, Path
from aigw.config.section import Section
from aigw.config.tokenizers import TokenizerContent
from aigw.config.upstreams import secret_places, source_path
from aigw.entities import KINDS
from aigw.entities.ledger import LedgerSpec
from aigw.entities.model import ModelSpec
from aigw.entities.tier import TierSpec
from aigw.entities.upstream import Place
from aigw.entities.v1 import V1Spec

__all__ = ["NAMESPACE", "File", "FileEntity", "entity_id"]

CONSUMER_KINDS: Final = ("consumers", "keyauth_credentials", "acls")
"""Kinds of which a file may hold very many: native code reads them and makes their rows."""
ORDER: Final = tuple(KINDS)
"""Entity kinds, referenced ones first."""


@dataclass(frozen=True, slots=True)
class File:
    """The content of a checked file."""

    name: str
    """The path as it was given."""
    hash: str
    """SHA-256 of the bytes and of the values of all references."""
    models: Mapping[str, ModelSpec]
    certificates: Mapping[str, Mapping[Place, bytes]] = field(repr=False)
    """Contents of the certificate files of each model's upstreams."""
    private_keys: Mapping[str, Mapping[str, str]] = field(repr=False)
    """Id of an entity of `certificates` -> `key` and `key_alt`: PEM texts, or references to keys in the store."""
    tokenizers: Mapping[str, TokenizerContent] = field(repr=False)
    """The tokenizer.json of each model that names one."""
    tiers: Mapping[str, TierSpec]
    """Tiers, including those of `consumer_groups`, which have no limits."""
    default_tier: str | None
    v1: V1Spec | None
    """Settings of /v1."""
    ledger: LedgerSpec | None
    """How long the ledger keeps its entries and sums."""
    entities: tuple[FileEntity, ...]
    """All entities except consumers, credentials and acls; an entity comes after the ones it refers to."""
    consumers: FileConsumers = field(repr=False)
    """Consumers with their credentials and acls."""
    sources: tuple[str, ...]
    """All files that were read, the configuration first."""
    document: YamlDocument = field(repr=False)
    warnings: tuple[Finding, ...] = ()
    """Parts that probably lack the effect their author wanted, in the order of the file."""
    section: Section | None = None
    """The section of consumers, if another file may be read around it."""
    keeps_consumers: bool = False
    """Whether the file was read around a known section: its consumers are those in force, and are not in `consumers`."""

    def of(self, kind: str) -> list[FileEntity]:
        """The entities of one kind."""
        return [e for e in self.entities if e.kind == kind]

    def count(self, kind: str) -> int:
        """The number of entities of a kind."""
        if kind in CONSUMER_KINDS:
            return self.consumers.count(kind)
        return sum(entity.kind == kind for entity in self.entities)

    def source_text(self, path: Path) -> str | None:
        """The text at a path with its references unresolved; None for a missing path."""
        try:
            return self.document.text(path)
        except KeyError:
            return None

    def secret_texts(self, model: str) -> dict[Place, str | None]:
        """The unresolved texts of a model's secrets."""
        found = secret_places(self.models[model], lambda path: self.source_text(("models", model, *path)))
        return {place: self.source_text(("models", model, *source_path(place))) for place in found}
