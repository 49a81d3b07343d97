"""Parts of Kong's Admin API that aigw lacks: an answer that names the part, in one form, whatever the method.

In: the segments of a path. Out: a Refusal; for lists that clients read on every run, an empty list in answer to a GET. A name that Kong
does not have either is a plain 404.
"""

from typing import Final

from aigw.admin import envelope
from aigw.admin.call import Answer, Call, Methods
from aigw.admin.envelope import Refusal

EMPTY: Final = ("vaults", "keys", "key-sets")
"""Collections that Kong's clients always list. They are always empty here."""
_COLLECTIONS: Final = """
    admins basic-auths cache clustering consumer_group_overrides custom-plugins debug degraphql_routes document_objects
    event-hooks filter-chains groups hmac-auths jwt-signer jwts keyring license licenses mtls-auths oauth2 oauth2_tokens
    partials rbac sessions timers workspaces
    """
COLLECTIONS: Final = frozenset(_COLLECTIONS.split())
_ENTITIES: Final = """
    acme_storage basicauth_credentials clustering_data_planes consumer_group_plugins degraphql_routes filter_chains
    hmacauth_credentials jwt_secrets key_sets keys licenses mtls_auth_credentials oauth2_authorization_codes
    oauth2_credentials oauth2_tokens parameters partials rbac_roles rbac_users sm_vaults vaults workspaces
    """
ENTITIES: Final = frozenset(_ENTITIES.split())
"""Entities by the name of their schema."""
_CHILDREN: Final = """
    basic-auth basic-auths degraphql_routes document_objects filter-chains graphql-rate-limiting-advanced hmac-auth
    hmac-auths jwt jwts mtls-auth mtls-auths oauth2 oauth2_tokens overrides partials
    """
CHILDREN: Final = frozenset(_CHILDREN.split())
"""Collections below an entity."""


def lacking(segments: list[str]) -> Refusal:
    """The 404 for a path that leads to nothing."""
    match segments:
        case [name, *_] if name in COLLECTIONS or name in EMPTY:
            return envelope.lacking(f"'/{name}'")
        case [parent, _, child, *_] if child in CHILDREN:
            return envelope.lacking(f"'/{parent}/.../{child}'")
    return envelope.not_found()


def empty(name: str) -> Methods:
    """The methods of a collection that is always empty."""

    def refuse(_: Call) -> Answer:
        raise envelope.lacking(f"'/{name}'", 400)

    return {
        "GET": lambda _: Answer(200, {"data": [], "next": None}),
        **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), refuse),
    }
