"""rate-limiting's config -> a profile of the policy, and the counter columns that it needs. Pure.

A column is one (scope, limit_by, period): Kong's counter key without the identifier. Two plugins with the same scope
therefore share their columns, and a consumer that moves between them keeps its used amounts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aigw.plugins.rate_limiting.schema import RateLimitingConfig
from aigw.types import JsonDict

ColumnKind = Literal["dense", "open"]
NumberOf = Callable[[str, ColumnKind], int]
"""(column key, kind) -> column number; assigns a number to a new key."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The plugin instance's own scope: ids, or None."""

    route: str | None
    service: str | None

    def key(self, limit_by: str, per: str, counted_service: str | None) -> str:
        """The column key. `counted_service` is the service's id for limit_by=service, where each service has its own column."""
        prefix = f"requests:{self.route or '-'},{self.service or '-'}:{limit_by}"
        return f"{prefix}:{counted_service}:{per}" if counted_service else f"{prefix}:{per}"


def profile(config: RateLimitingConfig, scope: Scope, counted_service: str | None, column: NumberOf) -> JsonDict:
    """One entry of the policy's `rate_limiting` list. Dense columns have one row per consumer or credential (row 0 for a service). Open
    columns count identifiers without a row, in the open area: IP addresses, header values, the path."""
    dense = config.limit_by in ("consumer", "credential", "service")
    hashed = config.limit_by != "service"
    own = counted_service if config.limit_by == "service" else None
    limits = []
    for per, limit in config.limits():
        key = scope.key(config.limit_by, per, own)
        limits.append(
            {
                "kind": "window",
                "fields": {"requests": int(limit), "per": per},
                "dense": column(key, "dense") if dense else None,
                "open": column(key, "open") if hashed else None,
            }
        )
    return {
        "limit_by": config.limit_by,
        "header_name": config.header_name.lower() if config.header_name is not None else None,
        "path": config.path,
        "limits": limits,
        "hide_client_headers": config.hide_client_headers,
        "error_code": config.error_code,
        "error_message": config.error_message,
    }
