"""Parts of Kong's Admin API that aigw lacks: an answer that names the part, in one form, whatever the method.

In: the segments of a path. Out: a Refusal; for lists that clients read on every run, an empty list in answer to a GET. A name that Kong
does not have either is a plain 404.
"""

from typing import Final

from aigw.admin import envelope
from aigw.admin.call import Answer, Call, Methods
from aigw.admin.envelope import Refusal
from aigw.schema.unsupported import LACKING_ENTITIES, LACKING_PLUGINS

EMPTY: Final = ("vaults", "keys", "key-sets")
"""Collections that Kong's clients always list. They are always empty here."""
_COLLECTIONS: Final = """
    acme admins application_instances applications auth basic-auths cache cluster clustering consumer_group_overrides
    custom-plugins debug degraphql_routes developers document_objects entities event-hooks files filter-chains
    graphql-proxy-cache-advanced graphql-rate-limiting-advanced groups header-cert-auths hmac-auths jwt-signer jwts
    key-auths-enc keyring license licenses mtls-auths oas-config oauth2 oauth2_tokens partials portal proxy-cache
    proxy-cache-advanced rbac sessions timers userinfo vault-auth vitals workspaces
    """
COLLECTIONS: Final = frozenset(_COLLECTIONS.split())
"""The first segments of Kong's paths."""
_BELOW: Final = (("audit", "objects"), ("audit", "requests"), ("plugins", "schema"), ("status", "dns"))
"""Kong's paths below a segment that the gateway has."""
_CHILDREN: Final = """
    basic-auth basic-auths degraphql_routes document_objects filter-chains filters
    graphql-rate-limiting-advanced header-cert-auth header-cert-auths hmac-auth hmac-auths jwt jwts key-auth-enc
    key-auths-enc mtls-auth mtls-auths oauth2 oauth2_tokens overrides partials vault-auth
    """
CHILDREN: Final = frozenset(_CHILDREN.split())
"""Collections below an entity."""
_REFERENCES: Final = (("certificates", "upstreams"), ("plugins", "consumer_group"), ("upstreams", "client_certificate"))


def lacking(segments: list[str]) -> Refusal:
    """The 404 for a path that leads to nothing."""
    match segments:
        case ["schemas", *rest] if (part := lacking_schema(rest)) is not None:
            return envelope.lacking(part)
        case [name, *_] if name in COLLECTIONS or name in EMPTY:
            return envelope.lacking(f"'/{name}'")
        case [parent, name, *_] if (parent, name) in _BELOW:
            return envelope.lacking(f"'/{parent}/{name}'")
        case [parent, _, child, *_] if child in CHILDREN or (parent, child) in _REFERENCES:
            return envelope.lacking(f"'/{parent}/.../{child}'")
    return envelope.not_found()


def lacking_schema(rest: list[str]) -> str | None:
    """The entity or plugin that the gateway lacks, from the segments below /schemas."""
    match rest:
        case ["plugins", name] if name in LACKING_PLUGINS:
            return f"plugin '{name}'"
        case [name, *_] if name in LACKING_ENTITIES or name in COLLECTIONS or name in EMPTY:
            return f"entity '{name}'"
    return None


def empty(name: str) -> Methods:
    """The methods of a collection that is always empty."""

    def refuse(_: Call) -> Answer:
        raise envelope.lacking(f"'/{name}'", 400)

    return {
        "GET": lambda _: Answer(200, {"data": [], "next": None}),
        **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), refuse),
    }
