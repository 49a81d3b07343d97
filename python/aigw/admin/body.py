"""Request bodies: JSON, form or multipart -> one JSON object. In: bytes and a content type. Out: the object, or a Refusal.

JSON stays unchanged, except that a number without a fraction becomes an integer, as in Kong. A form has only text: its keys express
the structure (`config.minute`, `config[minute]`, `paths[]`, `paths[1]`), and `typed` converts text to the schema's type. Text that
does not convert stays text, so that the schema check names the field.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from aigw.admin.envelope import Refusal, bad_request
from aigw.schema.describe import fields_of
from aigw.schema.fields import Model
from aigw.types import JsonDict

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_ARGUMENTS: Final = 1000
MAX_DEPTH: Final = 16
MAX_NESTING: Final = 128
"""Levels of a JSON body; readers of the value that come later recurse."""

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([^\[\]]*)\]")
_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?\Z", re.ASCII)


class Form(dict[str, Any]):
    """A decoded form. Its leaves are text until `typed` converts them."""


def parse_json(raw: bytes) -> JsonDict:
    """A JSON object without duplicate members, as in the file. Raises a Refusal (Kong's 400) for anything else."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise bad_request("Cannot parse JSON body") from None
    if not isinstance(value, dict):
        raise bad_request("Cannot parse JSON body")
    refuse_twice(raw)
    whole: JsonDict = _whole_numbers(value)
    return whole


def refuse_twice(raw: bytes) -> None:
    """Raises a Refusal if an object in the JSON text `raw` has a duplicate member: two readers could use different values.
    `orjson` does not report duplicates."""
    try:
        json.loads(raw, object_pairs_hook=_members, parse_int=str, parse_float=str)
    except RecursionError:
        raise bad_request("Cannot parse JSON body") from None


def _members(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise bad_request(f"Cannot parse JSON body: '{name[:64]}' stands twice")
        seen.add(name)


def parse_form(raw: bytes) -> Form:
    """An urlencoded form."""
    try:
        text = raw.decode()
        if text.count("&") >= MAX_ARGUMENTS:
            raise bad_request("Too many arguments")
        return structure(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except UnicodeError:
        raise bad_request("Cannot parse the form: it is not UTF-8") from None


def structure(pairs: Iterable[tuple[str, str]]) -> Form:
    """The object that the keys of a form express."""
    root = Form()
    for key, value in pairs:
        head = re.match(r"[^.\[\]]+", key)
        if head is None:
            raise Refusal(400, {"message": f"Cannot parse the form: '{key[:64]}' is not a key"})
        steps = [head.group()]
        position = head.end()
        while position < len(key):
            step = _STEP.match(key, position)
            if step is None or len(steps) >= MAX_DEPTH:
                raise Refusal(400, {"message": f"Cannot parse the form: '{key[:64]}' is not a key"})
            steps.append(step.group(1) if step.group(1) is not None else f"[{step.group(2)}]")
            position = step.end()
        _insert(root, steps, value)
    finished: JsonDict = {k: _finished(v) for k, v in root.items()}
    return Form(finished)


def typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """A form's text, converted to the schema's type. Empty text becomes null."""
    kind = schema["type"]
    if kind in ("array", "set"):
        items = value if isinstance(value, list) else [value]
        if items in ([""], [None]):
            return [] if isinstance(value, list) else None
        return [typed(v, schema["elements"]) for v in items]
    if isinstance(value, dict):
        if kind == "map":
            return {k: typed(v, schema["values"]) for k, v in value.items()}
        known = {k: v for field in schema.get("fields", ()) for k, v in field.items()}
        return {k: typed(v, known[k]) if k in known else v for k, v in value.items()}
    if not isinstance(value, str):
        return value
    if value == "":
        return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(value, value)
    if kind in ("integer", "number") and _NUMBER.match(value):
        return _whole_numbers(float(value)) if not value.lstrip("+-").isdigit() else int(value)
    return value


def typed_fields(form: Form, model: type[Model]) -> JsonDict:
    """A form, converted by a model. Fields unknown to the model stay unchanged."""
    known = fields_of(model)
    return {k: typed(v, known[k]) if k in known else v for k, v in form.items()}


def _whole_numbers(value: Any, depth: int = 0) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if depth > MAX_NESTING:
        raise bad_request(f"Cannot parse JSON body: it is nested deeper than {MAX_NESTING} levels")
    if isinstance(value, dict):
        return {k: _whole_numbers(v, depth + 1) for k, v in value.items()}
    return [_whole_numbers(v, depth + 1) for v in value] if isinstance(value, list) else value


class _Items:
    """A list under construction: items with an explicit index first, appended items after them."""

    def __init__(self) -> None:
        self.placed: dict[int, Any] = {}
        self.appended: list[Any] = []

    def finished(self) -> list[Any]:
        return [_finished(v) for v in [*(self.placed[i] for i in sorted(self.placed)), *self.appended]]


def _insert(node: dict[str, Any], steps: list[str], value: str) -> None:
    """Put `value` at `steps`; `[]` and `[n]` are list indexes, `[name]` is a member."""
    name, rest = steps[0].removeprefix("[").removesuffix("]"), steps[1:]
    if not rest:
        there = node.get(name)
        if there is None:
            node[name] = value
        else:
            items = there if isinstance(there, _Items) else _Items()
            items.appended += [value] if items is there else [there, value]
            node[name] = items
        return
    position = re.fullmatch(r"\[(\d{0,4})\]", rest[0], re.ASCII)
    if position is None:
        inner = node.get(name)
        node[name] = inner if isinstance(inner, dict) else {}
        _insert(node[name], rest, value)
        return
    before = node.get(name)
    items = node[name] = before if isinstance(before, _Items) else _Items()
    if rest[1:]:
        there = items.placed.get(int(position.group(1) or -1))  # fields of one record come as separate pairs
        holder: dict[str, Any] = {} if there is None else {"item": there}
        _insert(holder, ["item", *rest[1:]], value)
        _add(items, position.group(1), holder["item"])
    else:
        _add(items, position.group(1), value)


def _add(items: _Items, position: str, value: Any) -> None:
    if position:
        items.placed[int(position)] = value
    else:
        items.appended.append(value)


def _finished(value: Any) -> Any:
    if isinstance(value, _Items):
        return value.finished()
    return {k: _finished(v) for k, v in value.items()} if isinstance(value, dict) else value
