"""The JSON Schema (2020-12) of the whole file, for editors: from the models that check it, bounds and descriptions included.

Where a number or a boolean is meant, a reference (`${PORT}`) may stand, too.
"""

from typing import Any, Final

import orjson
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from aigw.config.shape import Configuration
from aigw.plugins import PLUGINS
from aigw.schema.fields import Between, Positive
from aigw.types import JsonDict

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {"type": "string", "pattern": r"^\$\{[^{}]+\}$"}


class _Generator(GenerateJsonSchema):
    schema_dialect = DIALECT

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        """Bounds that stand in our validators."""
        inner = super().function_after_schema(schema)
        function: Any = schema["function"]["function"]
        number = next((s for s in inner.get("anyOf", [inner]) if s.get("type") in ("integer", "number")), None)
        if number is not None and isinstance(function, (Between, Positive)):
            number["minimum"] = function.low if isinstance(function, Between) else 1
            number["maximum"] = function.high
        return inner

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
    made["$defs"]["PluginWritten"]["allOf"] = kinds
    return {"$schema": DIALECT, **made}


def json_text() -> str:
    """It as it stands in `schema.json`, beside this file."""
    return orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
