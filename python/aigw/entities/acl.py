"""An acl: a consumer belongs to a group, which the plugin `acl` allows or denies."""

from typing import Annotated

from pydantic import Field

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.schema.fields import Foreign, References, Text


class Acl(Entity):
    """The group travels to the upstream in X-Consumer-Groups, so it holds no control character."""

    consumer: Annotated[Foreign, References("consumers")] = Field(description="Who belongs to the group.")
    group: Text = Field(description="Name of the group.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")


KIND = EntityKind(
    name="acls",
    model=Acl,
    endpoint_key="group",
    foreign={"consumer": "consumers"},
    cascades=("consumer",),
    together=("consumer", "group"),
    numbered=False,
    has_updated_at=False,
)
