"""key-auth's config -> one entry of the policy's `key_auth` list. Pure."""

from collections.abc import Mapping

from aigw.plugins.key_auth.schema import KeyAuthConfig
from aigw.types import JsonDict


def entry(config: KeyAuthConfig, consumers: Mapping[str, int]) -> JsonDict:
    """`consumers` maps id or username to row number, for all consumers that a config names."""
    anonymous = consumers.get(config.anonymous) if config.anonymous is not None else None
    return {
        "key_names": config.key_names,
        "key_in_header": config.key_in_header,
        "key_in_query": config.key_in_query,
        "key_in_body": config.key_in_body,
        "hide_credentials": config.hide_credentials,
        "run_on_preflight": config.run_on_preflight,
        "realm": config.realm,
        "anonymous": anonymous,
        "anonymous_missing": config.anonymous if anonymous is None else None,
    }
