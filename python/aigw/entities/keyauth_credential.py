"""A key-auth credential: one API key of a consumer. The answer to the write that sent or made the key shows it.

The store keeps the HMAC only. Later answers have a reference to the credential in place of the key, and `key_hint`, its last four
characters. With `AIGW_ADMIN_SHOWS_KEYS=1` the store keeps the key too, sealed, and answers show it.
"""

import re
import secrets
import string
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.schema.fields import Between, Foreign, References, shown, violation
from aigw.schema.unsupported import NOT_SUPPORTED

MAX_TTL: Final = 100_000_000
_ALPHABET: Final = string.ascii_letters + string.digits
VAULT: Final = "{vault://"
_REFERENCE: Final = re.compile(r"\{vault://aigw/([0-9A-Fa-f-]{36})\}\Z")
_SENDABLE: Final = re.compile(r"[!-~]*\Z")


def new_key() -> str:
    """32 random letters and digits: 190 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(32))


def key_hint(key: str) -> str:
    """The last four characters of a key, for its owner; empty for a key so short that four characters would reveal it."""
    return f"...{key[-4:]}" if len(key) >= 16 else "..."


def reference(key_id: str) -> str:
    """The text that stands for the key of the credential `key_id`, in the form of Kong's references."""
    return f"{VAULT}aigw/{key_id}}}"


def referenced(key: str) -> str | None:
    """The credential's id in such a text, or None."""
    found = _REFERENCE.match(key)
    return found[1].lower() if found else None


def _sendable(key: str) -> str:
    if key.startswith(VAULT):
        raise violation(f"references to vaults are {NOT_SUPPORTED}: send the key itself, or in a file its key_hash")
    if not _SENDABLE.match(key):
        raise violation("must be printable ascii without spaces: no client could send it in a header")
    return key


Key = Annotated[
    str, StringConstraints(min_length=1, max_length=512), AfterValidator(_sendable), shown(pattern="^[!-~]*$")
]
Ttl = Annotated[int, AfterValidator(Between(0, MAX_TTL))]


class KeyauthCredential(Entity):
    """`ttl` counts down in answers; at 0 the credential expires."""

    consumer: Annotated[Foreign, References("consumers")] = Field(description="Owner of the key.")
    key: Key | None = Field(
        default=None, description="The key: generated when left out, shown once; later its reference."
    )
    key_hint: Annotated[str, StringConstraints(max_length=7)] | None = Field(
        default=None, description="The key's last characters (read only)."
    )
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    ttl: Ttl | None = Field(default=None, description="Seconds until it expires; left out or 0: never.")


def _generated() -> Mapping[str, str]:
    return {"key": new_key()}


KIND = EntityKind(
    name="keyauth_credentials",
    model=KeyauthCredential,
    endpoint_key="key",
    unique=("key",),
    foreign={"consumer": "consumers"},
    cascades=("consumer",),
    path="key-auths",
    has_updated_at=False,
    defaults=_generated,
)
