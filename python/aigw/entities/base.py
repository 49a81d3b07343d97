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
    """Identity and times. `id` and the times are made by the gateway when the client sends none."""

    id: Uuid = Field(description="UUID of the entity.")
    created_at: Timestamp = Field(description="When it was made, unix seconds.")


TagsField = Annotated[Tags | None, AfterValidator(lambda tags: tags)]
"""Labels for filtering; null when there are none."""


@dataclass(frozen=True, slots=True)
class EntityKind:
    """The description of one kind of entity."""

    name: str
    """Collection and table: `services`."""
    model: type[Entity]
    endpoint_key: str
    """The field that a path may have in place of the id."""
    unique: tuple[str, ...] = ()
    """Fields whose value no two entities share."""
    together: tuple[str, ...] = ()
    """Fields whose values together no two entities share. Kong's answer to a clash names them all."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Foreign field -> the collection that it references."""
    cascades: tuple[str, ...] = ()
    """Foreign fields whose target is deleted with this entity below it; a target of the other fields cannot be deleted."""
    path: str = ""
    """Its name in the Admin API's paths, if that is not `name`."""
    served: bool = True
    """Whether the generic engine serves it at its own path."""
    numbered: bool = True
    """Whether it has a row number."""
    has_updated_at: bool = True
    expand: Callable[[JsonDict], JsonDict] = lambda data: data
    """Expands shorthands of the input. Raises FieldErrors."""
    defaults: Callable[[], Mapping[str, Any]] = dict
    """Generated values for missing fields of a new entity."""
    check: Callable[[JsonDict], FieldErrors | None] = lambda _: None
    """Findings on the input that the model cannot make."""

    @property
    def url(self) -> str:
        """The collection's segment in paths."""
        return self.path or self.name
