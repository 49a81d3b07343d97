"""A model's schema in Kong's form: `{"fields": [{"name": {"type": "string", ...}}, ...]}`. Clients read defaults from it, and
`admin/body.py` types forms by it. In: a model class. Out: plain data, derived from the model alone.
"""

from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
from pydantic import AfterValidator, BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from aigw.schema.fields import Between, Foreign, Positive, References, SetMarker, Uuid
from aigw.types import JsonDict

_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}


@cache
def fields_of(model: type[BaseModel]) -> dict[str, JsonDict]:
    """Field name -> its schema, in the model's order. Callers share the result: do not change it."""
    return {name: _field(info) for name, info in model.model_fields.items()}


def describe(model: type[BaseModel]) -> JsonDict:
    """Kong's record schema of a model."""
    return {"type": "record", "fields": [{name: data} for name, data in fields_of(model).items()]}


def _field(info: FieldInfo) -> JsonDict:
    data = _type(info.annotation, info.metadata)
    if info.description:
        data["description"] = info.description
    default = None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
    if info.is_required() or isinstance(default, BaseModel):
        # Clients fill the defaults of a record's fields only where the record itself is required.
        data["required"] = True
    elif default is not None and data["type"] != "record":
        data["default"] = default
    return data


def _type(annotation: Any, metadata: list[Any]) -> JsonDict:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _type(inner, [*more, *metadata])
    if get_origin(annotation) in (Union, UnionType):
        return _type(next(a for a in get_args(annotation) if a is not NoneType), metadata)
    if get_origin(annotation) is Literal:
        values = list(get_args(annotation))
        return {"type": _SCALARS[type(values[0])], "one_of": values}
    data = _plain(annotation, metadata)
    for item in metadata:
        data.update(_bounds(item))
    if data["type"] == "number" and "gt" in data:
        del data["between"]  # a fraction may be below 1
    return data


def _plain(annotation: Any, metadata: list[Any]) -> JsonDict:
    if get_origin(annotation) is list:
        kind = "set" if any(isinstance(m, SetMarker) for m in metadata) else "array"
        return {"type": kind, "elements": _type(get_args(annotation)[0], [])}
    if get_origin(annotation) is dict:
        keys, values = get_args(annotation)
        return {"type": "map", "keys": _type(keys, []), "values": _type(values, [])}
    if isinstance(annotation, type) and issubclass(annotation, Foreign):
        target = next((m.collection for m in metadata if isinstance(m, References)), None)
        return {"type": "foreign", "reference": target}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return describe(annotation)
    return {"type": _SCALARS.get(annotation, "any")}


def _bounds(item: Any) -> JsonDict:
    if isinstance(item, FieldInfo):
        return {k: v for m in item.metadata for k, v in _bounds(m).items()}
    if isinstance(item, AfterValidator):
        if isinstance(item.func, Between):
            return {"between": [item.func.low, item.func.high]}
        if isinstance(item.func, Positive):
            return {"gt": 0, "between": [1, item.func.high]}
    if isinstance(item, StringConstraints):
        return {k: v for k, v in (("len_min", item.min_length), ("len_max", item.max_length)) if v is not None}
    if isinstance(item, at.MinLen):
        return {"len_min": item.min_length}
    if isinstance(item, at.MaxLen):
        return {"len_max": item.max_length}
    return {"uuid": True} if item is get_args(Uuid)[1] else {}
