"""One entity's input -> the checked model, with every finding at once, whoever made it: shorthand, model or plugin."""

from typing import Any

from aigw.control.entities.base import Entity, Kind
from aigw.schema.fields import FieldErrors
from aigw.schema.violations import SchemaViolation, check, merge
from aigw.types import JsonDict


def check_entity(kind: Kind, data: JsonDict) -> Entity:
    """Raises SchemaViolation."""
    found: JsonDict = {}
    expanded = data
    try:
        expanded = kind.expand(data)
    except FieldErrors as error:
        merge(found, error.fields)
        expanded = {k: v for k, v in data.items() if k not in ("url",)}
    entity: Any = None
    try:
        entity = check(kind.model, expanded)
    except SchemaViolation as error:
        if "url" in found:  # its parts are missing because it could not be read: one finding says so
            error.fields.pop("host", None)
        merge(found, error.fields)
    if found:
        raise SchemaViolation(found)
    checked: Entity = entity
    return checked
