"""request-size-limiting's config -> one entry of the policy's `size_limiting` list. Pure."""

from aigw.plugins.request_size_limiting.schema import BYTES, RequestSizeLimitingConfig
from aigw.types import JsonDict


def profile(config: RequestSizeLimitingConfig) -> JsonDict:
    """The bound in bytes."""
    return {
        "bytes": config.allowed_payload_size * BYTES[config.size_unit],
        "require_content_length": config.require_content_length,
    }
