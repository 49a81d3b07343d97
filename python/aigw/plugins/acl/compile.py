"""acl's config -> one entry of the policy's `acl` list. Pure."""

from aigw.plugins.acl.schema import AclConfig
from aigw.types import JsonDict


def entry(config: AclConfig) -> JsonDict:
    """Exactly one of the two lists is not empty."""
    return {
        "allow": sorted(set(config.allow or ())),
        "deny": sorted(set(config.deny or ())),
        "hide_groups_header": config.hide_groups_header,
    }
