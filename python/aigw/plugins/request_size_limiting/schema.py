"""The fields of request-size-limiting's config, as Kong has them."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from aigw.schema.fields import Between, Model

BYTES: Final = {"megabytes": 2**20, "kilobytes": 2**10, "bytes": 1}
"""Kong's units are powers of two."""


class RequestSizeLimitingConfig(Model):
    """The most that a body may hold. The gateway's own bound on bodies holds beside it."""

    allowed_payload_size: Annotated[int, AfterValidator(Between(0, 2**31 - 1))] = Field(
        default=128, description="The largest body, in `size_unit`."
    )
    size_unit: Literal["megabytes", "kilobytes", "bytes"] = Field(
        default="megabytes", description="Unit of the size: 1 megabyte is 1048576 bytes."
    )
    require_content_length: bool = Field(
        default=False, description="Refuse requests that do not say their length beforehand."
    )
