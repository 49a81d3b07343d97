"""The JSON Schema says of files what the reader says of them. A validator of the words that our schema uses is below."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aigw._native import load_yaml
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
    "$ref", "$schema", "$defs", "title", "description", "default", "deprecated", "type", "anyOf", "allOf", "if", "then", "const",
    "enum", "properties", "additionalProperties", "required", "propertyNames", "items", "minItems", "maxItems", "minLength",
    "maxLength", "pattern", "minimum", "maximum",
}  # fmt: skip


def valid(schema: Any, value: Any) -> bool:
    """Whether a value holds; fails on a word it does not know."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    if "$ref" in schema and not valid(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value):
        return False
    if "type" in schema:
        wanted = _TYPES[schema["type"]]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            return False
    if "anyOf" in schema and not any(valid(s, value) for s in schema["anyOf"]):
        return False
    for part in schema.get("allOf", ()):
        if not valid(part.get("if", True), value) or valid(part["then"], value):
            continue
        return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        names = schema.get("propertyNames", True)
        return all(r in value for r in schema.get("required", ())) and all(
            valid(known.get(k, rest), v) and valid(names, k) for k, v in value.items()
        )
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return fits and all(valid(schema.get("items", True), v) for v in value)
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return fits and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, (int, float)):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_hold(path: Path) -> None:
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
def test_good_files_hold(text: str) -> None:
    assert valid(SCHEMA, load_yaml(text.encode()).value())


@pytest.mark.parametrize(
    "text",
    [
        "modls: {}",
        "_format_version: 3.0",
        "tiers: {a: {limits: [{requests: many, per: day}]}}",
        "tiers: {a: {limits: [{requests: -1, per: day}]}}",
        "tiers: {a: {limit: []}}",
        "models: {a: {}}",
        "services: [{url: 'http://h'}]",
        "services: [{name: s, port: 65536}]",
        "plugins: [{name: rate-limiting, config: {minut: 1}}]",
        "plugins: [{name: keyauth}]",
        "models: {m: {upstreams: [{url: 'http://h/v1'}], tokenizer: bogus}}",
        "consumers: [{username: 3}]",
    ],
)
def test_bad_files_do_not(text: str) -> None:
    assert not valid(SCHEMA, load_yaml(text.encode()).value())


def test_it_is_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
