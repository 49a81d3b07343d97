"""Kong's fields of request-size-limiting's config."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from aigw.schema.fields import Between, Model

BYTES: Final = {"megabytes": 2**20, "kilobytes": 2**10, "bytes": 1}
"""Kong's units are powers of two."""


class RequestSizeLimitingConfig(Model):
    """The largest accepted body. The gateway's own bound on bodies applies as well."""

    allowed_payload_size: Annotated[int, AfterValidator(Between(0, 2**31 - 1))] = Field(
        default=128, description="The largest body, in `size_unit`."
    )
    size_unit: Literal["megabytes", "kilobytes", "bytes"] = Field(
        default="megabytes", description="Unit of the size: 1 megabyte is 1048576 bytes."
    )
    require_content_length: bool = Field(default=False, description="Refuse requests without a Content-Length.")
