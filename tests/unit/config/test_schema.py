"""The JSON Schema accepts the files that the reader accepts. Below is a validator of the keywords that the schema uses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw._native import load_yaml
from aigw.config import ConfigErrors, read_text
from aigw.config.schema import json_schema

EXAMPLES = sorted((Path(__file__).parents[3] / "deploy/examples").glob("*.yaml"))
SCHEMA = json_schema()
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_KNOWN = {
    "$ref", "$schema", "$defs", "title", "description", "default", "deprecated", "type", "anyOf", "allOf", "if", "then", "not", "const",
    "enum", "properties", "additionalProperties", "required", "propertyNames", "items", "contains", "minItems", "maxItems", "minLength",
    "maxLength", "maxProperties", "pattern", "minimum", "maximum", "exclusiveMinimum",
}  # fmt: skip


def valid(schema: Any, value: Any) -> bool:
    """Whether a value is valid; fails on an unknown keyword."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    if "$ref" in schema and not valid(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value):
        return False
    if "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        wanted = tuple(kind for name in types for kind in _TYPES[name])
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            return False
    if "anyOf" in schema and not any(valid(s, value) for s in schema["anyOf"]):
        return False
    for part in schema.get("allOf", ()):
        if not valid(part.get("if", True), value) or valid(part["then"], value):
            continue
        return False
    if "not" in schema and valid(schema["not"], value):
        return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    if isinstance(value, dict):
        if len(value) > schema.get("maxProperties", len(value)):
            return False
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        names = schema.get("propertyNames", True)
        return all(r in value for r in schema.get("required", ())) and all(
            valid(known.get(k, rest), v) and valid(names, k) for k, v in value.items()
        )
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        fits = fits and ("contains" not in schema or any(valid(schema["contains"], v) for v in value))
        return fits and all(valid(schema.get("items", True), v) for v in value)
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        pattern = re.sub(r"(?<!\\)\$", r"\\Z", schema.get("pattern", ""))  # JavaScript's $ matches at the end only
        return fits and re.search(pattern, value) is not None
    if isinstance(value, (int, float)):
        above = "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"]
        return bool(above and schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_accepts_the_examples(path: Path) -> None:
    assert valid(SCHEMA, load_yaml(path.read_bytes()).value())
    assert path.read_text().startswith("# yaml-language-server: $schema=")


@pytest.mark.parametrize(
    "text",
    [
        "_format_version: '3.0'\n_transform: true\n",
        "services: [{name: s, url: 'http://h', routes: [{name: r, paths: [/x], plugins: [{name: key-auth}]}]}]",
        "plugins: [{name: rate-limiting, service: s, config: {minute: '${M}', redis_host: h}}]",
        "routes: [{name: r, service: {name: s}, paths: [/x], strip_path: '${S:-true}'}]",
        "consumers: [{username: a, groups: [{name: g}], acls: [{group: x}], keyauth_credentials: [{key_hash: "
        + "0" * 64
        + "}]}]",
    ],
)
def test_the_schema_accepts_good_files(text: str) -> None:
    assert valid(SCHEMA, load_yaml(text.encode()).value())


@pytest.mark.parametrize(
    "text",
    [
        "modls: {}",
        "_format_version: 3.0",
        "tiers: {a: {limits: [{requests: many, per: day}]}}",
        "tiers: {a: {limits: [{requests: -1, per: day}]}}",
        "tiers: {a: {limit: []}}",
        "tiers: {a: {limits: [{spend: 1, per: day}]}}",
        "tiers: {a: {limits: [{requests: 1, per: day}, {spend: '${S}', per: day}], price: null}}",
        "tiers: {a: {request: {max_spend: 1}}}",
        "tiers: {a: {limits: [{concurrency: 1, scope: ip}]}}",
        "models: {a: {}}",
        "services: [{url: 'http://h'}]",
        "services: [{name: s, port: 65536}]",
        "plugins: [{name: rate-limiting, config: {minut: 1}}]",
        "plugins: [{name: keyauth}]",
        "models: {m: {upstreams: [{url: 'http://h/v1'}], tokenizer: bogus}}",
        "consumers: [{username: 3}]",
    ],
)
def test_the_schema_refuses_bad_files(text: str) -> None:
    assert not valid(SCHEMA, load_yaml(text.encode()).value())


def test_the_schema_is_stored_as_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


FIELDS = {
    "per": "tiers: {a: {limits: [{requests: 1, per: %s}]}}",
    "requests": "tiers: {a: {limits: [{requests: %s, per: day}]}}",
    "burst": "tiers: {a: {limits: [{requests: 1000000, per: second, burst: %s}]}}",
    "scope": "tiers: {a: {limits: [{requests: 1, per: day, scope: %s}]}}",
    "scope of a bucket": "tiers: {a: {limits: [{requests: 1, per: day, burst: 5, scope: %s}]}}",
    "scope of tokens": "tiers: {a: {limits: [{tokens: 1, per: day, scope: %s}]}}",
    "scope of money": "tiers: {a: {price: {input: 0}, limits: [{spend: 1, per: day, scope: %s}]}}",
    "scope of calls": "tiers: {a: {limits: [{concurrency: 1, scope: %s}]}}",
    "burst of tokens": "tiers: {a: {limits: [{tokens: 1000000, per: second, burst: %s}]}}",
    "burst of money": "tiers: {a: {price: {input: 0}, limits: [{spend: 1, per: day, burst: %s}]}}",
    "price of money": "tiers: {a: {limits: [{spend: 1, per: day}], price: %s}}",
    "price of a ceiling": "tiers: {a: {request: {max_spend: 1}, price: %s}}",
    "price": "tiers: {a: {price: %s}}",
    "cost": "models: {a: {upstreams: [{url: 'http://h', model: a}], cost: %s}}",
    "window": "tiers: {a: {limits: [{requests: 1, per: day, window: %s}]}}",
    "mode": "tiers: {a: {limits: [{requests: 1, per: day, mode: %s}]}}",
    "a second meter": "tiers: {a: {limits: [{requests: 1, per: day, tokens: %s}]}}",
    "weight of a tier": "tiers: {a: {weight: %s}}",
    "a tier": "tiers: {a: %s}",
    "limits": "tiers: {a: {limits: %s}}",
    "timeout": "tiers: {a: {timeouts: {total: %s}}}",
    "models of a tier": "tiers: {a: {allow: {models: [%s]}}}",
    "tools": "tiers: {a: {allow: {parameters: {tools: %s}}}}",
    "max_bytes": "tiers: {a: {prompt: {max_bytes: %s}}}",
    "a price": "tiers: {a: {price: {input: %s}}}",
    "a price of images": "tiers: {a: {price: {image_output: %s}}}",
    "a price above a length": "tiers: {a: {price: {above: {tokens: 5, reasoning: %s}}}}",
    "a length": "models: {m: {upstreams: [{url: 'http://h/v1'}], cost: {above: {tokens: %s, input: 1}}}}",
    "a factor": "tiers: {a: {price: {input: 0, service_tiers: {flex: %s}}}}",
    "factors": "tiers: {a: {price: {input: 0, service_tiers: %s}}}",
    "prices above a length": "tiers: {a: {price: {input: 0, above: %s}}}",
    "description": "tiers: {a: {description: %s}}",
    "name of a tier": "tiers: {%s: {}}",
    "name of a group": "consumer_groups: [{name: %s}]",
    "name of a model": "models: {%s: {upstreams: [{url: 'http://h/v1'}]}}",
    "model of an upstream": "models: {m: {upstreams: [{url: 'http://h/v1', model: %s}]}}",
    "weight of an upstream": "models: {m: {upstreams: [{url: 'http://h/v1', weight: %s}]}}",
    "feature": "models: {m: {upstreams: [{url: 'http://h/v1'}], features: [%s]}}",
    "tokenizer": "models: {m: {upstreams: [{url: 'http://h/v1'}], tokenizer: %s}}",
    "api_key": "models: {m: {upstreams: [{url: 'http://h/v1', api_key: %s}]}}",
    "url of an upstream": "models: {m: {upstreams: [{url: %s}]}}",
    "header of an upstream": "models: {m: {upstreams: [{url: 'http://h', headers: {x: %s}}]}}",
    "argument of an upstream": "models: {m: {upstreams: [{url: 'http://h', query: {x: %s}}]}}",
    "scheme of a key": "models: {m: {upstreams: [{url: 'http://h', api_key: k, auth: {scheme: %s}}]}}",
    "failover": "models: {m: {upstreams: [{url: 'http://h'}], failover_on: [%s]}}",
    "stream_usage": "models: {m: {upstreams: [{url: 'http://h'}], stream_usage: %s}}",
    "cap_parameter": "models: {m: {upstreams: [{url: 'http://h'}], cap_parameter: %s}}",
    "name of a service": "services: [{name: %s, host: h}]",
    "port": "services: [{name: s, host: h, port: %s}]",
    "name of a route": "routes: [{name: %s, paths: [/x]}]",
    "method": "routes: [{name: r, methods: [%s]}]",
    "request_buffering": "routes: [{name: r, paths: [/x], request_buffering: %s}]",
    "username": "consumers: [{username: %s}]",
    "tag": "consumers: [{username: a, tags: [%s]}]",
    "key": "consumers: [{username: a, keyauth_credentials: [{key: %s}]}]",
    "key_hash": "consumers: [{username: a, keyauth_credentials: [{key_hash: %s}]}]",
    "a consumer's plugin": "consumers: [{username: a, plugins: [{name: rate-limiting, config: {minute: %s}}]}]",
    "policy": "plugins: [{name: rate-limiting, config: {minute: 5, policy: %s}}]",
    "key_in_body": "plugins: [{name: key-auth, config: {key_in_body: %s}}]",
    "header": "plugins: [{name: key-auth, config: {key_names: [%s]}}]",
}
"""A file for each kind of field: only its value may be wrong."""
VALUES = [
    *("null", "true", "0", "-1", "1", "5", "65536", "4294967296", "1.5", "1000001", "[]", "{}", "no", '""'),
    *("day", "dai", "Day", "week", "90s", "0s", "5 h", "5h", "1.5m", "250ms", "367d", "1d", "48h", "12:30", "1m30s"),
    *("consumer", "route", "ip", "agent", "fixed", "sliding", "enforce", "shadow", "local", "redis", "o200k_base"),
    *("a", "a.b-c_d~e", "a b", "a/b", "a,b", "a:b", "a@b", '".."', '"."', "..a", "-", '"*"', "small-*", "größe", "é", "GET", "get"),
    *('"a\\tb"', '"a\\nb"', '"a\\u0007b"', '"a\\u2028b"', '" "', '"a "', "123e4567-e89b-12d3-a456-426614174000"),
    *("404", "connect", "Bearer", "auto", "none", "http://h", "HTTPS://h:8/a?b=c", "ftp://h", "http://h/#x", "http://h?x"),
    *("{input: 0}", "{request: 0.5}", "{cached_input: 1}", "{input: null}", "{service_tiers: {flex: 0.5}}"),
    *("{above: {tokens: 5, input: 1}}", "{above: {tokens: 5}}"),
    *("0" * 64, "F" * 64, "g" * 64, "x" * 128, "x" * 129, "x" * 513),
]  # fmt: skip
COARSE = {("timeout", "0s"), ("timeout", "48h"), ("per", "367d")}
COARSE |= {(field, "null") for field in ("username", "key", "key_hash", "a consumer's plugin")}
"""Files that the schema accepts and the check refuses: a pattern cannot count, and cannot compare fields."""


def reads(text: str) -> bool:
    try:
        read_text("f.yaml", text.encode(), {})
    except ConfigErrors:
        return False
    return True


def agree(field: str, value: str) -> None:
    text = FIELDS[field] % value
    try:
        whole = load_yaml(text.encode())
    except ValueError:
        return
    if not whole.problems and (field, value) not in COARSE:
        assert valid(SCHEMA, whole.value()) == reads(text), text


@pytest.mark.parametrize("field", FIELDS)
def test_the_schema_and_the_check_agree(field: str) -> None:
    for value in VALUES:
        agree(field, value)
    assert any(reads(FIELDS[field] % value) for value in VALUES), "of which some are right"


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([field for field in FIELDS if field not in ("timeout", "per")]),
    st.text(alphabet="aZ05.-_~/:@+*,# \t\n\x07\x7f\xa0éß\u2028😀", min_size=1, max_size=6),
)
def test_the_schema_and_the_check_agree_on_any_text(field: str, value: str) -> None:
    agree(field, json.dumps(value, ensure_ascii=True))


@pytest.mark.parametrize(
    "field", ["per", "scope", "tools", "requests", "name of a service", "key", "timeout", "policy"]
)
def test_the_schema_accepts_a_reference_for_any_value(field: str) -> None:
    for reference in ("'${V}'", "'${V:-x}'", "'${file:secrets/v}'"):
        assert valid(SCHEMA, load_yaml((FIELDS[field] % reference).encode()).value()), reference
    assert not reads(FIELDS[field] % "'${V}'"), "it is the value of which the check speaks"


@pytest.mark.parametrize(
    "text",
    [
        "services: [{name: s, host: null, url: 'http://h', routes: null, tags: null, port: null}]",
        "tiers: {a: null, b: {limits: null, allow: {features: null, parameters: null}, timeouts: null, price: null}}",
        "consumers: [{username: a, tags: null, tier: null, groups: null, keyauth_credentials: null, plugins: null}]",
        "plugins: [{name: rate-limiting, config: {minute: 5, hour: null, policy: null, redis: null}, enabled: null}]",
        "models: {m: {upstreams: [{url: 'http://h/v1', weight: null, tls_verify: null}], features: null, cost: null}}",
        "{tiers: null, models: null, services: null, routes: null, consumers: null, plugins: null, consumer_groups: null}",
    ],
)
def test_the_schema_treats_null_as_left_out(text: str) -> None:
    assert reads(text) and valid(SCHEMA, load_yaml(text.encode()).value())
