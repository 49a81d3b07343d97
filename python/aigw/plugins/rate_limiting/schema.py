"""Kong's fields of rate-limiting's config, and the checks across them.

Counters live in this gateway's cells: `policy` is `local`; `cluster` and `redis` are refused in this version.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aigw.schema.fields import (
    Between,
    FieldErrors,
    HeaderName,
    Model,
    Number,
    Only,
    PlainPath,
    Positive,
    Text,
    Unsupported,
    violation,
)

PERIODS: Final = ("second", "minute", "hour", "day", "month", "year")
MAX_LIMIT: Final = 2**32 - 1

Limit = Annotated[Number, AfterValidator(Positive(MAX_LIMIT))]
"""Calls in a period. Of a fraction only the whole calls pass: 2.5 lets two pass, 0.5 none."""


class Redis(Model):
    """The Redis server of Kong's redis policy. Kept for Kong's clients. Credentials are refused: storing them would have no use."""

    host: Text | None = Field(default=None, description="Host of the Redis server.")
    port: Annotated[int, AfterValidator(Between(0, 65535))] = Field(
        default=6379, description="Port of the Redis server."
    )
    timeout: Annotated[int, AfterValidator(Between(0, 2**31 - 2))] = Field(
        default=2000, description="Milliseconds for each call."
    )
    username: Unsupported = Field(default=None, description="Redis user: not supported in this version.")
    password: Unsupported = Field(default=None, description="Redis password: not supported in this version.")
    database: Annotated[int, AfterValidator(Between(0, 2**31 - 2))] = Field(
        default=0, description="Number of the database."
    )
    ssl: bool = Field(default=False, description="Connect over TLS.")
    ssl_verify: bool = Field(default=False, description="Check the server's certificate.")
    server_name: Text | None = Field(default=None, description="Name expected in the server's certificate.")


class RateLimitingConfig(Model):
    """Limits by period, and the identifier that they count by."""

    second: Limit | None = Field(default=None, description="Requests per second, aligned to UTC.")
    minute: Limit | None = Field(default=None, description="Requests per minute, aligned to UTC.")
    hour: Limit | None = Field(default=None, description="Requests per hour, aligned to UTC.")
    day: Limit | None = Field(default=None, description="Requests per day, aligned to UTC.")
    month: Limit | None = Field(default=None, description="Requests per calendar month, UTC.")
    year: Limit | None = Field(default=None, description="Requests per calendar year, UTC.")
    limit_by: Literal["consumer", "credential", "ip", "service", "header", "path"] = Field(
        default="consumer", description="The identifier with its own counter; requests without it count by IP address."
    )
    header_name: HeaderName | None = Field(
        default=None, description="The header whose value identifies the counter, with limit_by=header."
    )
    path: PlainPath | None = Field(default=None, description="The path that is counted, with limit_by=path.")
    policy: Annotated[Literal["local", "cluster", "redis"], AfterValidator(Only(("local",)))] = Field(
        default="local", description="Where counters live: local; cluster and redis are not supported in this version."
    )
    fault_tolerant: bool = Field(
        default=True, description="Kept for Kong's clients: no effect, because local counters need no store."
    )
    redis: Redis = Field(default_factory=Redis, description="Kept for Kong's clients: no effect with policy local.")
    hide_client_headers: bool = Field(
        default=False, description="Leave the RateLimit and Retry-After headers out of answers."
    )
    error_code: Annotated[int, AfterValidator(Between(200, 599))] = Field(
        default=429, description="Status of a refusal."
    )
    error_message: Text = Field(default="API rate limit exceeded", description="Message of a refusal.")
    sync_rate: Number = Field(default=-1, description="Kept for Kong's clients: no effect with policy local.")

    def limits(self) -> list[tuple[str, float]]:
        """(period, limit) of the periods that have one, shortest first."""
        return [(p, limit) for p in PERIODS if (limit := getattr(self, p)) is not None]

    @model_validator(mode="after")
    def _periods_grow(self) -> Self:
        limits = self.limits()
        for i, (shorter, low) in enumerate(limits):
            for longer, high in limits[i + 1 :]:
                if low > high:
                    raise violation(
                        f"The limit for {longer}({high:.1f}) cannot be lower than the limit for {shorter}({low:.1f})"
                    )
        return self


def check(config: RateLimitingConfig) -> FieldErrors | None:
    """Kong's checks across the whole plugin. Their findings appear at the top, not under `config`."""
    entity: list[str] = []
    fields: dict[str, object] = {}
    if not config.limits():
        names = ", ".join(f"'config.{p}'" for p in PERIODS)
        entity.append(f"at least one of these fields must be non-empty: {names}")
    for limit_by, needed in (("header", "header_name"), ("path", "path")):
        if config.limit_by == limit_by and getattr(config, needed) is None:
            entity.append("failed conditional validation given value of field 'config.limit_by'")
            fields["config"] = {needed: "required field missing"}
    return FieldErrors({"@entity": entity, **fields}) if entity else None


LACKING: Final = (
    *("cloud_authentication", "cluster_max_redirections", "cluster_nodes", "connect_timeout", "connection_is_proxied"),
    *("keepalive_backlog", "keepalive_pool_size", "read_timeout", "send_timeout", "sentinel_master", "sentinel_nodes"),
    *("sentinel_password", "sentinel_role", "sentinel_username"),
)
"""Fields of Kong's `redis` that this gateway lacks."""
ALIASES: Final = {f"redis_{name}": ("redis", name) for name in Redis.model_fields}
"""Kong's deprecated flat names, used by older configuration files."""

__all__ = ["ALIASES", "LACKING", "MAX_LIMIT", "PERIODS", "RateLimitingConfig", "Redis", "check"]
