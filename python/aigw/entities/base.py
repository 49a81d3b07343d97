"""What all entities have in common: identity, times, tags, and the descriptor by which one engine serves them all.

In: nothing. Out: `Entity` (the base model) and `Kind` (how an entity is named, found, referenced and kept unique).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from aigw.schema.fields import FieldErrors, Model, Tags, Timestamp, Unsupported, UnsupportedList, Uuid
from aigw.types import JsonDict

__all__ = ["Entity", "Kind", "TagsField", "Unsupported", "UnsupportedList"]


class Entity(Model):
    """Identity and times. `id` and the times are made by the gateway when the client sends none."""

    id: Uuid = Field(description="UUID of the entity.")
    created_at: Timestamp = Field(description="When it was made, unix seconds.")


TagsField = Annotated[Tags | None, AfterValidator(lambda tags: tags)]
"""Labels for filtering; null when there are none."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How the generic engine treats one kind of entity."""

    name: str
    """Collection and table: `services`."""
    model: type[Entity]
    endpoint_key: str
    """The field that may stand for the id in a path."""
    unique: tuple[str, ...] = ()
    """Fields whose value no two entities share."""
    together: tuple[str, ...] = ()
    """Fields whose values together no two entities share: Kong names them all when they clash."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Foreign field -> the collection that it points into."""
    cascades: tuple[str, ...] = ()
    """Foreign fields whose target takes this entity along when it goes; the others hold their target in place."""
    path: str = ""
    """Its name in the Admin API's paths, where that differs from `name`."""
    served: bool = True
    """Whether the generic engine serves it at its own path."""
    numbered: bool = True
    """Whether it has a row number."""
    has_updated_at: bool = True
    expand: Callable[[JsonDict], JsonDict] = lambda data: data
    """Shorthands of the input, written out. Raises FieldErrors."""
    defaults: Callable[[], Mapping[str, Any]] = dict
    """Generated values for fields that a new entity leaves out."""
    check: Callable[[JsonDict], FieldErrors | None] = lambda _: None
    """Findings that the model cannot make: on the input, beside the model's own."""

    @property
    def url(self) -> str:
        """The collection's segment in paths."""
        return self.path or self.name
