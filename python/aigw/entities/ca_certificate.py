"""A CA certificate: an authority that the certificates of upstreams may be checked by. Services name it by its id."""

import time
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from aigw import pem
from aigw.entities.base import Entity, EntityKind, TagsField
from aigw.entities.certificate import MOST_TEXT, certificates_only
from aigw.schema.fields import Timestamp, entity_violation
from aigw.types import JsonDict


def _authority(text: str) -> str:
    return certificates_only(text, pem.wrong_authorities)


class CaCertificate(Entity):
    """One certificate of an authority, valid when it is written."""

    updated_at: Timestamp = Field(description="When it was last changed, unix seconds.")
    cert: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT), AfterValidator(_authority)] = Field(
        description="The certificate in PEM form."
    )
    cert_digest: str | None = Field(
        default=None, description="SHA-256 of the certificate, hex; unique. The gateway sets it."
    )
    tags: TagsField = Field(default=None, description="Labels to filter by.")

    @model_validator(mode="after")
    def _is_an_authority(self) -> Self:
        if len(pem.certificates(self.cert.encode())) > 1:
            raise entity_violation("please submit only one certificate at a time")
        ends = pem.authority_ends(self.cert)
        if ends is None:
            raise entity_violation(
                'certificate does not appear to be a CA because it is missing the "CA" basic constraint'
            )
        if ends < time.time():
            raise entity_violation('certificate expired, "Not After" time is in the past')
        return self


class StoredCaCertificate(Entity):
    """A CA certificate as the store has it: one that expired since stays."""

    updated_at: Timestamp
    cert: str
    cert_digest: str
    tags: TagsField = None


def with_digest(data: JsonDict) -> JsonDict:
    """The input with the digest of its certificate, whatever digest it has."""
    cert = data.get("cert")
    if not isinstance(cert, str):
        return {name: value for name, value in data.items() if name != "cert_digest"}
    try:
        return {**data, "cert_digest": pem.fingerprint(cert.encode())}
    except ValueError:  # the check of the certificate says why
        return data


KIND = EntityKind(
    name="ca_certificates",
    model=CaCertificate,
    stored=StoredCaCertificate,
    endpoint_key="id",
    unique=("cert_digest",),
    numbered=False,
    expand=with_digest,
)
