"""Converts pydantic's findings to Kong's form: `{"code": 2, "message": "schema violation (host: required field missing)", "fields"}`.

In: a model class and a decoded JSON object. Out: the model, or `SchemaViolation` with every finding at once.
`without_nulls` drops null members before the check: null means "unset", so a default applies or a required field is missing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aigw.schema.fields import FieldErrors
from aigw.types import JsonDict

M = TypeVar("M", bound=BaseModel)

UNKNOWN: Final = "unknown field"
_MESSAGES = {
    "missing": "required field missing",
    "extra_forbidden": UNKNOWN,
    "int_type": "expected an integer",
    "int_parsing": "expected an integer",
    "int_parsing_size": "expected an integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "bool_type": "expected a boolean",
    "string_type": "expected a string",
    "list_type": "expected an array",
    "dict_type": "expected a map",
    "model_type": "expected a record",
    "model_attributes_type": "expected a record",
    "recursion_loop": "expected a record",
}


MOST_FOUND: Final = 100
"""Findings that an answer lists. A body can have a million unknown fields."""


class SchemaViolation(Exception):
    """Code 2: one or more fields violate the schema. `fields` has the shape of the input."""

    def __init__(self, fields: JsonDict) -> None:
        self.fields = fields
        found = list(flatten(fields))
        shown = "; ".join(found[:MOST_FOUND]) + (
            f"; and {len(found) - MOST_FOUND} more" if len(found) > MOST_FOUND else ""
        )
        self.message = f"schema violation ({shown})" if len(found) == 1 else f"{len(found)} schema violations ({shown})"
        super().__init__(self.message)


def check(model: type[M], value: JsonDict) -> M:
    """The checked model. Drop nulls first (`without_nulls`). Raises SchemaViolation with all findings."""
    try:
        return model.model_validate_json(orjson.dumps(value), strict=True)
    except ValidationError as error:
        raise SchemaViolation(_with_long_lists(model, value, error)) from None
    except FieldErrors as error:
        raise SchemaViolation(dict(error.fields)) from None


def _with_long_lists(model: type[M], value: JsonDict, error: ValidationError) -> JsonDict:
    """The findings, including those inside lists that are too long. Pydantic skips the items of such a list, so this checks the items
    within the bound; if one is wrong, the length error moves to the first item beyond the bound."""
    fields = to_fields(error)
    details = error.errors(include_url=False, include_input=False)
    long = [(d["loc"], d["ctx"]["max_length"], message_of(d)) for d in details if d["type"] == "too_long"]
    if not long:
        return fields
    cut = orjson.loads(orjson.dumps(value))
    for loc, most, _ in long:
        if isinstance(listed := _at(cut, loc), list):
            del listed[most:]
    try:
        model.model_validate_json(orjson.dumps(cut), strict=True)
    except ValidationError as error:
        found = to_fields(error)
        for loc, most, text in long:
            _put(found, (*loc, most) if isinstance(_at(found, loc), list) else loc, text)
        return found
    except FieldErrors:
        pass  # checks across fields run only if the fields are valid
    return fields


def _at(root: Any, loc: tuple[int | str, ...]) -> Any:
    for step in loc:
        if isinstance(root, dict):
            root = root.get(step)
        else:
            root = root[step] if isinstance(root, list) and isinstance(step, int) and step < len(root) else None
    return root


def without_nulls(value: Any) -> Any:
    """`value` without the members of objects that are null."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def to_fields(error: ValidationError) -> JsonDict:
    """Findings as a tree of the input's shape. List indexes become arrays padded with null."""
    root: JsonDict = {}
    for detail in error.errors(include_url=False, include_input=False):
        loc: tuple[int | str, ...] = detail["loc"]
        if loc[-1:] == ("[key]",):
            loc = loc[:-1]  # pydantic's mark of a map's key: the path ends in the key already
        if detail["type"] == "kong_field":
            loc = (*loc, detail["ctx"]["field"])
        if detail["type"] == "kong_entity":
            _walk(root, loc).setdefault("@entity", []).append(message_of(detail))
        elif loc:
            _put(root, loc, message_of(detail))
        else:
            root.setdefault("@entity", []).append(message_of(detail))
    return root


def merge(into: JsonDict, more: Mapping[str, Any]) -> JsonDict:
    """Add the findings of `more` to `into`. The first finding on a field stays."""
    for key, value in more.items():
        if key == "@entity":
            into["@entity"] = [*into.get("@entity", []), *value]
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into.setdefault(key, value)
    return into


def flatten(fields: Any, path: str = "") -> Iterator[str]:
    """`a.b.1: text` for each finding, `@entity` first and without a path."""
    if isinstance(fields, dict):
        for key in sorted(fields):
            if key == "@entity":
                yield from fields[key]
            else:
                yield from flatten(fields[key], f"{path}.{key}" if path else key)
    elif isinstance(fields, list):
        for position, item in enumerate(fields, 1):
            if item is not None:
                yield from flatten(item, f"{path}.{position}")
    else:
        yield f"{path}: {fields}"


def first(fields: JsonDict, most: int) -> JsonDict:
    """The tree with its first `most` findings, in the order of `flatten`."""
    left = [most]

    def kept(node: Any) -> Any:
        if isinstance(node, dict):
            pairs = ((key, kept(node[key])) for key in sorted(node) if left[0] > 0)
            return {key: value for key, value in pairs if value is not None} or None
        if isinstance(node, list):
            items = [kept(item) if left[0] > 0 else None for item in node]
            while items and items[-1] is None:
                items.pop()
            return items or None
        left[0] -= node is not None
        return node

    return kept(fields) or {}


def message_of(detail: ErrorDetails) -> str:
    """One finding of pydantic in Kong's words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("kong", "kong_field", "kong_entity"):
        return str(context["text"])
    if kind == "literal_error":
        return "expected one of: " + re.sub(r" or |, ", ", ", str(context["expected"])).replace("'", "")
    if kind in ("string_too_short", "too_short"):
        return f"length must be at least {context['min_length']}"
    if kind in ("string_too_long", "too_long"):
        return f"length must be at most {context['max_length']}"
    return _MESSAGES.get(kind, detail["msg"])


def _walk(root: JsonDict, loc: tuple[int | str, ...]) -> JsonDict:
    node = root
    for key in loc:
        node = node.setdefault(str(key), {})
    return node


def _put(root: JsonDict, loc: tuple[int | str, ...], text: str) -> None:
    node: Any = root
    for key, following in zip(loc, [*loc[1:], None], strict=True):
        fresh: Any = text if following is None else [] if isinstance(following, int) else {}
        if isinstance(node, list) and isinstance(key, int):
            node.extend([None] * (key + 1 - len(node)))
            node[key] = fresh if node[key] is None else node[key]
            node = node[key]
        elif isinstance(node, dict):
            node = node.setdefault(str(key), fresh)
        else:
            return
