"""A consumer: a caller of the gateway, named by `username`, by the operator's `custom_id`, or by both."""

from typing import Self

from pydantic import Field, model_validator

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.schema.fields import Text, Timestamp, entity_violation


def must_have_a_name(username: str | None, custom_id: str | None) -> None:
    """Raises a violation of the whole entity."""
    if username is None and custom_id is None:
        raise entity_violation("at least one of these fields must be non-empty: 'custom_id', 'username'")


class Consumer(Entity):
    """Upstreams get both names in headers, so they have no control characters."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    username: Text | None = Field(default=None, description="Unique name.")
    custom_id: Text | None = Field(default=None, description="Unique id in the operator's own systems.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        must_have_a_name(self.username, self.custom_id)
        return self


KIND = EntityKind(name="consumers", model=Consumer, endpoint_key="username", unique=("username", "custom_id"))
