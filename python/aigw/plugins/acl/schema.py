"""Kong's fields of acl's config. Options about groups of tokens and consumer groups are refused in this version."""

from typing import Annotated

from pydantic import AfterValidator, Field

from aigw.schema.fields import FieldErrors, Model, Only, Text


class AclConfig(Model):
    """Exactly one of the two lists has entries."""

    allow: list[Text] | None = Field(
        default=None, max_length=1024, description="Groups that may pass; all other consumers are refused."
    )
    deny: list[Text] | None = Field(default=None, max_length=1024, description="Groups that may not pass.")
    hide_groups_header: bool = Field(default=False, description="Do not send the consumer's groups to the upstream.")
    include_consumer_groups: Annotated[bool, AfterValidator(Only((False,)))] = Field(
        default=False, description="Count consumer groups as groups: not supported in this version."
    )
    always_use_authenticated_groups: Annotated[bool, AfterValidator(Only((False,)))] = Field(
        default=False, description="Prefer groups that a token names: not supported in this version."
    )


def check(config: AclConfig) -> FieldErrors | None:
    """Kong's checks across the two lists. An empty list counts as absent."""
    names = "'config.allow', 'config.deny'"
    entity = []
    if bool(config.allow) == bool(config.deny):
        entity.append(f"exactly one of these fields must be non-empty: {names}")
    if not config.allow and not config.deny:
        entity.append(f"at least one of these fields must be non-empty: {names}")
    return FieldErrors({"@entity": entity}) if entity else None
