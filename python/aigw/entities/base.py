"""The common parts of all entities: `Entity`, the base model, and `EntityKind`, the description by which one engine serves every
kind: its names, references, unique fields and checks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from aigw.schema.fields import FieldErrors, Model, Tags, Timestamp, Unsupported, UnsupportedList, Uuid
from aigw.types import JsonDict

__all__ = ["Entity", "EntityKind", "TagsField", "Unsupported", "UnsupportedList"]


class Entity(Model):
    """Identity and times. The gateway makes those that the client does not send."""

    id: Uuid = Field(description="UUID of the entity.")
    created_at: Timestamp = Field(description="When it was made, unix seconds.")


TagsField = Annotated[Tags | None, AfterValidator(lambda tags: tags)]
"""Labels for filtering; null when there are none."""


def _as_written(key: str) -> str:
    return key


@dataclass(frozen=True, slots=True)
class EntityKind:
    """The description of one kind of entity."""

    name: str
    """Collection and table: `services`."""
    model: type[Entity]
    """Its form for clients."""
    endpoint_key: str
    """The field that a path may have in place of the id."""
    stored: type[Entity] | None = None
    """Its form in the store, if that differs."""
    unique: tuple[str, ...] = ()
    """Fields with a unique value."""
    together: tuple[str, ...] = ()
    """Fields whose values are unique together. Kong's answer to a clash names all of them."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Foreign field -> the collection that it references."""
    cascades: tuple[str, ...] = ()
    """Foreign fields whose target takes this entity along when it is deleted. The target of another field cannot be deleted."""
    path: str = ""
    """Its name in the Admin API's paths, if it differs from `name`."""
    lacks: tuple[str, ...] = ()
    """Fields that Kong has and this gateway lacks: refused by name."""
    served: bool = True
    """Whether the generic engine serves it at its own path."""
    numbered: bool = True
    """Whether it has a row number."""
    has_updated_at: bool = True
    key_of: Callable[[str], str] = _as_written
    """The form of the endpoint key by which entities are found and unique, from its text."""
    expand: Callable[[JsonDict], JsonDict] = lambda data: data
    """Expands shorthands of the input. Raises FieldErrors."""
    defaults: Callable[[], Mapping[str, Any]] = dict
    """Generated values for missing fields of a new entity."""
    check: Callable[[JsonDict], FieldErrors | None] = lambda _: None
    """Findings on the input that the model cannot make."""

    @property
    def folds(self) -> bool:
        """Whether two texts of the endpoint key may mean the same entity."""
        return self.key_of is not _as_written

    @property
    def kept(self) -> type[Entity]:
        """The model of stored bodies."""
        return self.stored or self.model

    @property
    def url(self) -> str:
        """The collection's segment in paths."""
        return self.path or self.name
