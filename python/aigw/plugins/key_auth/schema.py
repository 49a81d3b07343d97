"""Kong's fields of key-auth's config. Keys in bodies are refused in this version."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from aigw.schema.fields import HeaderName, Model, Only, Text, violation


def _quotable(value: str) -> str:
    if set(value) & set('"\\') or not value.isascii():
        raise violation("must be printable ASCII without '\"' and '\\'")
    return value


class KeyAuthConfig(Model):
    """The places of the key in a request, and its treatment."""

    key_names: list[HeaderName] = Field(
        default=["apikey"],
        min_length=1,
        max_length=32,
        description="Names of the header and query argument that may hold the key, in this order.",
    )
    hide_credentials: bool = Field(default=False, description="Remove the key from the request before it is forwarded.")
    anonymous: Text | None = Field(
        default=None,
        description="Consumer (id or username) for calls without a valid key; null: such calls are refused.",
    )
    key_in_header: bool = Field(default=True, description="Look for the key in the headers.")
    key_in_query: bool = Field(default=True, description="Look for the key in the query.")
    key_in_body: Annotated[bool, AfterValidator(Only((False,)))] = Field(
        default=False, description="Look for the key in the body: not supported in this version."
    )
    run_on_preflight: bool = Field(default=True, description="Whether OPTIONS requests need a key, too.")
    realm: Annotated[Text, StringConstraints(max_length=256), AfterValidator(_quotable)] | None = Field(
        default=None, description="Realm named in WWW-Authenticate; null: none."
    )
