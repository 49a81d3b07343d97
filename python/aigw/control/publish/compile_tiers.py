"""Tiers and models -> their entries of the policy, and the counter columns of the tiers' limits. Pure.

A tier's limit counts in a column that all tiers share: one per scope and period (docs/reference/boundary.md), so that a
consumer that changes tiers keeps its used amounts. The tier of a consumer is in its record.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

from aigw._native import limit_kinds
from aigw.entities import LlmModel, Tier
from aigw.entities.host import canonical_host
from aigw.entities.rates import nano_dollars
from aigw.entities.tier import Limit, milliseconds_of
from aigw.entities.upstream import PEM_FIELDS, Upstream, place_text
from aigw.entities.v1 import V1Spec
from aigw.plugins.cors.compile import without_default_port
from aigw.types import JsonDict

Rows = Literal["consumers", "credentials", "one"]
"""The entities that have a row in a dense column; `one`: the column has one row."""
ColumnOf = Callable[[str, Rows | None, int], int]
"""(column key, its rows; None for the open area, words of a row) -> column number."""
WORDS: Final = limit_kinds()
"""Limit kind -> words of a row."""

ROWS: Final[dict[str, Rows | None]] = {
    "consumer": "consumers",
    "credential": "credentials",
    "model": "consumers",
    "ip": None,
}


def in_order(limits: Sequence[Limit]) -> list[Limit]:
    """A tier's limits in the order in which they are compiled and shown."""
    return sorted(limits, key=Limit.order)


def tier_entry(
    n: int, tier: Tier, models: Sequence[tuple[int, LlmModel]], column: ColumnOf, set_of: Callable[[str], int]
) -> JsonDict:
    """One entry of the policy's `tiers` list. `set_of`: the number of a set of limits, by the text of `limit_set`."""
    spec = tier.spec
    limits = [_limit(limit, models, column) for limit in in_order(spec.limits)]
    counting = limit_set(limits)
    return {
        "n": n,
        "id": tier.id,
        "name": tier.name,
        "limits": limits,
        "limit_set": set_of(counting) if counting else 0,
        "features": spec.allow.features,
        "models": spec.allow.models,
        "parameters": spec.allow.parameters.model_dump(mode="json"),
        "prompt_max_bytes": spec.prompt.max_bytes,
        "prompt_max_tokens": spec.prompt.max_tokens,
        "output_max_tokens": spec.output.max_tokens,
        "request_max_spend": None if spec.request.max_spend is None else nano_dollars(spec.request.max_spend),
        "price": None if spec.price is None else spec.price.compiled(),
        "strict": spec.durability == "strict",
        "first_byte_ms": _milliseconds(spec.timeouts.first_byte),
        "between_ms": _milliseconds(spec.timeouts.between),
        "total_ms": _milliseconds(spec.timeouts.total),
    }


def limit_set(limits: Sequence[JsonDict]) -> str:
    """The columns in which a tier's limits count, as a text: `7,12`. Entries of the ledger name the set of their time by its number."""
    columns = {one["column"] for one in limits if one["column"] is not None and one["scope"] != "ip"}
    columns |= {column for one in limits for _, column in one["by_model"]}
    return ",".join(map(str, sorted(columns)))


EXPOSED: Final = (
    "x-request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
    "x-aigw-tokens",
    "x-aigw-price",
    "x-aigw-remaining-spend",
    "openai-processing-ms",
)
"""Headers of answers on /v1 that a page may read."""


def v1_cors(v1: JsonDict | None) -> JsonDict | None:
    """The policy's `v1_cors`: the form of the plugin cors. Pages send no cookies."""
    spec = V1Spec.model_validate(v1).cors if v1 is not None else None
    if spec is None:
        return None
    return {
        "origins": None if "*" in spec.origins else [{"is": without_default_port(one)} for one in spec.origins],
        "always": None,
        "methods": "GET, HEAD, POST",
        "headers": ", ".join(spec.headers) if spec.headers is not None else None,
        "exposed": ", ".join(EXPOSED),
        "max_age": milliseconds_of(spec.max_age) // 1000,
        "credentials": False,
        "preflight_continue": False,
        "private_network": False,
        "origin_absent": False,
    }


def model_entry(n: int, model: LlmModel, numbers: Sequence[int]) -> JsonDict:
    """One entry of the policy's `models` list. `numbers`: those of its upstreams."""
    spec = model.spec
    return {
        "n": n,
        "id": model.id,
        "name": model.name,
        "features": spec.features,
        "max_output_tokens": spec.max_output_tokens,
        "created_at": model.created_at,
        "stream_usage": spec.stream_usage,
        "cap_parameter": spec.cap_parameter,
        "failover_on": {
            "connect": "connect" in spec.failover_on,
            "statuses": sorted(status for status in spec.failover_on if status != "connect"),
        },
        "timeouts": {f"{name}_ms": _milliseconds(time) for name, time in spec.timeouts},
        "stream_ping_ms": _milliseconds(spec.stream_ping),
        "tokenizer": _tokenizer(model),
        "template": spec.template.model_dump(mode="json"),
        "input_bounds": spec.input_bounds.model_dump(mode="json"),
        "cost": None if spec.cost is None else spec.cost.compiled(),
        "upstreams": [
            {**_upstream(model, index, upstream), "number": numbers[index]}
            for index, upstream in enumerate(spec.upstreams)
        ],
    }


def _tokenizer(model: LlmModel) -> str | JsonDict:
    """The name of a vocabulary, or the copy of a file."""
    copy = model.tokenizer_file
    if model.spec.tokenizer_path is None or copy is None:
        return str(model.spec.tokenizer or "o200k_base")
    return {"file": {"name": copy.sha256, "per_byte": copy.per_byte}}


def _upstream(model: LlmModel, index: int, upstream: Upstream) -> JsonDict:
    parts = urlsplit(upstream.url)
    key = model.keys[index] if index < len(model.keys) else None

    def sealed(field: str, name: str = "") -> str | None:
        found = model.secrets.get(place_text((index, field, name)))
        return found.sealed if found is not None else None

    def pairs(field: str, values: Mapping[str, str | None]) -> list[tuple[str, str, bool]]:
        """(name, value, whether the value is sealed)."""
        both = ((name, value, sealed(field, name)) for name, value in values.items())
        return [(name, secret or value or "", secret is not None) for name, value, secret in both]

    return {
        "protocol": parts.scheme,
        "host": canonical_host(parts.hostname or ""),
        "port": parts.port or (443 if parts.scheme == "https" else 80),
        "path": parts.path.rstrip("/"),
        "base_query": parts.query,
        "model": upstream.model or model.name,
        "weight": upstream.weight,
        "api_key": key.sealed if key is not None else None,
        "auth": upstream.auth.model_dump(mode="json"),
        "headers": pairs("headers", upstream.headers),
        "query": pairs("query", upstream.query),
        "tls_verify": upstream.tls_verify,
        "tls_server_name": upstream.tls_server_name,
        **{field: sealed(field) for field in PEM_FIELDS},
    }


def _limit(limit: Limit, models: Sequence[tuple[int, LlmModel]], column: ColumnOf) -> JsonDict:
    rows, words = ROWS[limit.scope], WORDS[limit.kind]
    by_model = [[n, column(limit.column(m.id), rows, words)] for n, m in models] if limit.scope == "model" else []
    return {
        "kind": limit.kind,
        "fields": limit.fields,
        "scope": limit.scope,
        "shadow": limit.mode == "shadow",
        "column": None if limit.scope == "model" else column(limit.column(), rows, words),
        "by_model": by_model,
    }


def _milliseconds(duration: str | None) -> int | None:
    return None if duration is None else milliseconds_of(duration)
