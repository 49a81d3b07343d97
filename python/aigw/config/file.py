"""A checked configuration file: models, tiers, and all entities with their positions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aigw._native import YamlDocument
from aigw.config.entity import NAMESPACE, FileEntity, Secret, entity_id
from aigw.config.finding import Path
from aigw.config.plain import Plain
from aigw.entities.model import ModelSpec
from aigw.entities.tier import TierSpec

__all__ = ["NAMESPACE", "File", "FileEntity", "Secret", "entity_id"]

ORDER: Final = ("services", "routes", "tiers", "models", "consumers", "keyauth_credentials", "acls", "plugins")
"""Entity kinds, referenced ones first."""


@dataclass(frozen=True, slots=True)
class File:
    """The content of a checked file."""

    name: str
    """The path as it was given."""
    hash: str
    """SHA-256 of the bytes and of the values of all references."""
    models: Mapping[str, ModelSpec]
    tiers: Mapping[str, TierSpec]
    """Tiers, including those of `consumer_groups`, which have no limits."""
    default_tier: str | None
    others: tuple[FileEntity, ...]
    """Every entity but those of plain consumers, in the order in which they can be stored."""
    plain: tuple[Plain, ...]
    """Consumers of the usual shape, each with its key: there may be very many, so they are no entities until they must."""
    sources: tuple[str, ...]
    """All files that were read, the configuration first."""
    document: YamlDocument = field(repr=False)

    @property
    def entities(self) -> tuple[FileEntity, ...]:
        """All entities in an order that the store accepts: referenced ones first. Built on each access."""
        found: dict[str, list[FileEntity]] = {kind: [] for kind in ORDER}
        for entity in self.others:
            found[entity.kind].append(entity)
        for one in self.plain:
            found["consumers"].append(one.consumer())
            found["keyauth_credentials"].append(one.credential())
        for kind in ("consumers", "keyauth_credentials"):
            found[kind].sort(key=lambda entity: [step for step in entity.path if isinstance(step, int)])
        return tuple(entity for kind in ORDER for entity in found[kind])

    def of(self, kind: str) -> list[FileEntity]:
        """The entities of one kind."""
        return [e for e in self.entities if e.kind == kind]

    def count(self, kind: str) -> int:
        """The number of entities of a kind, without building them."""
        plain = len(self.plain) if kind in ("consumers", "keyauth_credentials") else 0
        return plain + sum(entity.kind == kind for entity in self.others)

    def written(self, path: Path) -> str | None:
        """The text at a path with its references unresolved; None for a missing path."""
        try:
            return self.document.text(path)
        except KeyError:
            return None

    def api_keys_written(self, model: str) -> list[str | None]:
        """The unresolved `api_key` of each upstream of a model."""
        upstreams = range(len(self.models[model].upstreams))
        return [self.written(("models", model, "upstreams", i, "api_key")) for i in upstreams]
