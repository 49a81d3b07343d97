"""The JSON Schema (2020-12) of the whole file, for editors, derived from the models that check it.

It accepts a reference (`${PORT}`) in place of a number or boolean and inside every text, and null for every optional field. Rules
that need more than one value (a duplicate name, a forbidden host) are left to the check.
"""

from typing import Any, Final

import orjson
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from aigw.config.shape import Configuration
from aigw.plugins import PLUGINS
from aigw.schema.fields import Between, Only, Positive
from aigw.types import JsonDict

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {"type": "string", "pattern": r"^\$\{[^{}]+\}$"}
_ABOUT: Final = ("default", "description", "title", "deprecated")


class _Generator(GenerateJsonSchema):
    schema_dialect = DIALECT

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        """Add the bounds of this project's validators."""
        inner = super().function_after_schema(schema)
        function: Any = schema["function"]["function"]
        number = next((s for s in inner.get("anyOf", [inner]) if s.get("type") in ("integer", "number")), None)
        if number is not None and isinstance(function, (Between, Positive)):
            number["maximum"] = function.high
            if isinstance(function, Positive) and number["type"] == "number":
                number["exclusiveMinimum"] = 0
            else:
                number["minimum"] = function.low if isinstance(function, Between) else 1
        if isinstance(function, Only):
            one = inner["anyOf"][0] if "anyOf" in inner else inner
            one["enum"] = list(function.allowed)
        return inner

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Let a pattern of names refuse other names. Pydantic's `patternProperties` would accept them with any value."""
        made = super().dict_schema(schema)
        for pattern, values in made.pop("patternProperties", {}).items():
            made |= {
                "additionalProperties": values,
                "propertyNames": {**made.get("propertyNames", {}), "pattern": pattern},
            }
        return made

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {"anyOf": [super().int_schema(schema), dict(_REFERENCE)]}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), dict(_REFERENCE)]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return {"anyOf": [super().bool_schema(schema), dict(_REFERENCE)]}


def json_schema() -> JsonDict:
    """The schema as a JSON object."""
    made = Configuration.model_json_schema(by_alias=True, schema_generator=_Generator, mode="validation")
    kinds = []
    for name, kind in PLUGINS.items():
        config = kind.config.model_json_schema(schema_generator=_Generator, mode="validation")
        made["$defs"] |= config.pop("$defs", {})
        made["$defs"][kind.config.__name__] = config
        then = {"properties": {"config": {"$ref": f"#/$defs/{kind.config.__name__}"}}}
        kinds.append({"if": {"properties": {"name": {"const": name}}}, "then": then})
        for alias, (record, field) in kind.aliases.items():
            inner = made["$defs"][config["properties"][record]["$ref"].rpartition("/")[2]]
            config["properties"][alias] = inner["properties"][field] | {"deprecated": True}
    made["$defs"]["PluginInFile"]["allOf"] = kinds
    made["$defs"]["ConsumerInFile"]["properties"]["plugins"]["anyOf"][0]["items"] = {"$ref": "#/$defs/PluginInFile"}
    for part in (made, *made["$defs"].values()):
        _accept_references(part)
    tiers = made["properties"]["tiers"]["anyOf"][0]
    tiers["additionalProperties"] = _or_null(tiers["additionalProperties"])
    return {"$schema": DIALECT, **made}


def _accept_references(record: JsonDict) -> None:
    """Accept null in optional fields, and references in texts."""
    required = record.get("required", ())
    for name, field in record.get("properties", {}).items():
        record["properties"][name] = _referring(_not_null(field) if name in required else _or_null(field))


def _not_null(schema: JsonDict) -> JsonDict:
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return {**schema, "anyOf": options} if options else schema


def _or_null(schema: JsonDict) -> JsonDict:
    options = schema.get("anyOf", [schema])
    if schema.get("type") == "null" or any(option.get("type") == "null" for option in options):
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*options, {"type": "null"}]}
    about: JsonDict = {word: schema[word] for word in _ABOUT if word in schema}
    return {"anyOf": [{k: v for k, v in schema.items() if k not in about}, {"type": "null"}], **about}


def _referring(schema: JsonDict) -> JsonDict:
    """Accept references in text values. Member names cannot have references."""
    made = dict(schema)
    for word in ("items", "additionalProperties"):
        if isinstance(made.get(word), dict):
            made[word] = _referring(made[word])
    if "anyOf" in made:
        made["anyOf"] = [_referring(option) for option in made["anyOf"]]
    if made.get("type") == "string" and "pattern" in made and made != _REFERENCE:
        made["pattern"] += r"|\$\{"
    if made.get("type") == "string" and ("enum" in made or "const" in made):
        about: JsonDict = {word: made.pop(word) for word in _ABOUT if word in made}
        return {"anyOf": [made, dict(_REFERENCE)], **about}
    return made


def json_text() -> str:
    """The content of `schema.json` in this folder."""
    return orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
