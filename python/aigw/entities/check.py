"""The input of one entity -> the checked model, or all findings at once: of shorthands, model and plugin."""

from typing import Any

from aigw.entities.base import Entity, EntityKind
from aigw.schema.fields import FieldErrors
from aigw.schema.unsupported import NOT_SUPPORTED
from aigw.schema.violations import UNKNOWN, SchemaViolation, check, merge, without_nulls
from aigw.types import JsonDict


def check_entity(kind: EntityKind, data: JsonDict) -> Entity:
    """Raises SchemaViolation."""
    found: JsonDict = {}
    given: JsonDict = without_nulls(data)
    try:
        expanded = kind.expand(given)
    except FieldErrors as error:
        merge(found, error.fields)
        expanded = {k: v for k, v in given.items() if k != "url"}
    entity: Any = None
    try:
        entity = check(kind.model, expanded)
    except SchemaViolation as error:
        if "url" in found:  # its parts are missing because the shorthand has a finding: one finding is enough
            error.fields.pop("host", None)
        merge(found, error.fields)
    for name in kind.lacks:
        if found.get(name) == UNKNOWN:
            found[name] = NOT_SUPPORTED
    if found:
        raise SchemaViolation(found)
    checked: Entity = entity
    return checked
