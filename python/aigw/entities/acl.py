"""An acl: a consumer belongs to a group, which the plugin `acl` allows or denies."""

from typing import Annotated

from pydantic import Field

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.schema.fields import Foreign, References, Text


class Acl(Entity):
    """Upstreams get the group in X-Consumer-Groups, so it has no control characters."""

    consumer: Annotated[Foreign, References("consumers")] = Field(description="Member of the group.")
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
