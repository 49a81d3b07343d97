"""A certificate with its private key, for the names of its SNIs, or to show to upstreams. A second pair of another kind may stand beside it.

The store keeps keys sealed (`StoredCertificate`). Answers have a reference to the certificate in place of each key, which writes take back:
the key stays. `snis` is a list of names in answers; in writes it makes the SNIs.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from aigw import pem
from aigw._native import private_key_kind
from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.sni import SniName
from aigw.entities.upstream import SealedKey
from aigw.schema.fields import SetMarker, Timestamp, entity_violation, unique, violation
from aigw.types import JsonDict

KEYS: Final = ("key", "key_alt")
"""Fields with a private key."""
MOST_TEXT: Final = 65536
"""Characters of a certificate with its chain, or of a key: a chain of four RSA certificates has 10,000."""
DIFFERENT: Final = (
    "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided certificates were both of the"
    " same type"
)
_REFERENCE: Final = re.compile(r"\{vault://aigw/([0-9A-Fa-f-]{36})(?:/(key_alt))?\}\Z")


def reference(key_id: str, field: str) -> str:
    """The text that stands for a key of the certificate `key_id`, in the form of Kong's references."""
    return f"{{vault://aigw/{key_id}{'' if field == KEYS[0] else '/' + field}}}"


def referenced(text: str) -> tuple[str, str] | None:
    """(id of the certificate, field) of such a text, or None."""
    found = _REFERENCE.match(text)
    return (found[1].lower(), found[2] or KEYS[0]) if found else None


def certificates_only(text: str, wrong_in: Callable[[bytes], str | None]) -> str:
    """A text of certificates. `wrong_in`: the reason why they cannot be used. Raises a violation with it, and for a text with a key,
    which would be shown."""
    if "PRIVATE KEY-----" in text:
        raise violation(
            "must hold certificates only: the private key belongs into the field 'key', which is stored sealed"
        )
    if (wrong := wrong_in(text.encode())) is not None:
        raise violation(f"invalid certificate: {wrong}")
    return text


def _chain(text: str) -> str:
    return certificates_only(text, pem.wrong_chain)


def _key(text: str) -> str:
    if referenced(text) is not None:  # of a file; the Admin API puts the key in its place before the check
        return text
    try:
        private_key_kind(text)
    except ValueError as error:
        raise violation(f"invalid key: {error}") from None
    return text


Chain = Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT), AfterValidator(_chain)]
"""One certificate or more in PEM form, the owner's first."""
PrivateKey = Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT), AfterValidator(_key)]


class Certificate(Entity):
    """A certificate as clients write it."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    cert: Chain = Field(description="The certificate in PEM form, followed by its chain.")
    key: PrivateKey = Field(description="Its private key in PEM form: stored sealed; answers show a reference.")
    cert_alt: Chain | None = Field(default=None, description="A second certificate, of another kind: RSA and ECDSA.")
    key_alt: PrivateKey | None = Field(default=None, description="The private key of `cert_alt`.")
    tags: TagsField = Field(default=None, description="Labels to filter by.")
    snis: Annotated[list[SniName], SetMarker(), AfterValidator(unique)] | None = Field(
        default=None, description="Names that it serves: each makes an SNI."
    )

    @model_validator(mode="after")
    def _pairs_match(self) -> Self:
        if (self.cert_alt is None) != (self.key_alt is None):
            raise entity_violation("all or none of these fields must be set: 'cert_alt', 'key_alt'")
        _must_match(self.cert, self.key, "certificate")
        if self.cert_alt is not None and self.key_alt is not None:
            _must_match(self.cert_alt, self.key_alt, "alternative certificate")
            kinds = [private_key_kind(key) for key in (self.key, self.key_alt) if referenced(key) is None]
            if len(kinds) == 2 and kinds[0] == kinds[1]:
                raise entity_violation(DIFFERENT)
        return self


def _must_match(chain: str, key: str, called: str) -> None:
    """Raise a violation unless the key belongs to the first certificate. A reference is not judged here."""
    if referenced(key) is not None:
        return
    wrong = pem.wrong_pair(chain.encode(), key.encode())
    if wrong is not None:
        raise entity_violation(
            f"{called} does not match key" if pem.is_of_another(wrong) else f"{called} cannot be used: {wrong}"
        )


class StoredCertificate(Entity):
    """A certificate as the store has it."""

    updated_at: Timestamp
    cert: str
    cert_alt: str | None = None
    tags: TagsField = None
    secrets: dict[str, SealedKey]
    """`key`, and with a second pair `key_alt`."""

    def pairs(self) -> list[tuple[str, str]]:
        """(chain, sealed key) of each pair."""
        chains = {"key": self.cert, "key_alt": self.cert_alt}
        return [(chains[field] or "", one.sealed) for field, one in sorted(self.secrets.items())]


def stored(
    checked: JsonDict,
    seal: Callable[[bytes], str],
    digest: Callable[[bytes], bytes],
    before: Mapping[str, JsonDict],
    references: Mapping[str, str | None],
) -> JsonDict:
    """The body that the store gets of a checked certificate. A key that `before` has already keeps its sealed text, so that the same key
    changes nothing. `references`: the file's texts of the keys."""
    body = {name: value for name, value in checked.items() if name not in (*KEYS, "snis")}
    secrets: JsonDict = {}
    for field in KEYS:
        if (key := checked[field]) is None:
            continue
        mark, there = digest(b"certificate:" + key.encode()).hex(), before.get(field)
        kept = there is not None and there["digest"] == mark
        sealed = there["sealed"] if there is not None and kept else seal(key.encode())
        secrets[field] = {"reference": references.get(field), "sealed": sealed, "digest": mark}
    return {**body, "secrets": secrets}


KIND = EntityKind(name="certificates", model=Certificate, stored=StoredCertificate, endpoint_key="id", numbered=False)
