"""Findings of the entities' checks -> findings about the file: with positions and hints for its author.

In: the shape that was checked, the path, the check's tree of texts. Out: calls of `Source.add`. A value that
consists of one reference (`${PORT}`) is converted to the expected number or boolean, and the check runs again.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from aigw.config.finding import Path
from aigw.config.secret import secret_path
from aigw.config.source import Source
from aigw.config.suggest import fields_at, nearest
from aigw.plugins import PLUGINS
from aigw.schema.unsupported import BELOW_ENTITIES, NOT_SUPPORTED
from aigw.schema.violations import SchemaViolation, without_nulls

R = TypeVar("R")

_TYPED: Final = ("expected an integer", "expected a number", "expected a boolean")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}\Z", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})([eE][+-]?[0-9]{1,2})?\Z", re.ASCII)
_YES: Final = frozenset({"yes", "on", "y"})
_NO: Final = frozenset({"no", "off", "n"})
_OLD_NUMBER: Final = re.compile(r"[+-]?([0-9]+(:[0-9]+)+|0[0-9]+|[0-9][0-9_]*_[0-9_]*)\Z", re.ASCII)
_ONE_OF: Final = re.compile(r"expected one of: (.*?)(?:, or |\Z)")
_LATER: Final = {("models", "queue"), ("consumers", "parent")}
"""Fields of later versions."""
_PLUGIN: Final = re.compile(r"plugin '.*' not enabled")


def flat(fields: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """(path, text) of each finding in a check's tree."""
    if isinstance(fields, dict):
        for key, inner in fields.items():
            if key == "@entity":
                yield from ((path, text) for text in inner)
            else:
                yield from flat(inner, (*path, key))
    elif isinstance(fields, list):
        for index, inner in enumerate(fields):
            if inner is not None:
                yield from flat(inner, (*path, index))
    else:
        yield path, str(fields)


def checked(source: Source, path: Path, shape: Any, value: Any, run: Callable[[Any], R]) -> R | None:
    """The result of `run` for the value at `path`, or None after adding its findings."""
    stripped, empty = without_nulls(value), []
    if stripped != value:  # the check does not see null members
        empty = [(below, "unknown field") for below in _nulls(value) if _misnamed(source, path, shape, below)]
        report(source, path, shape, empty)
    try:
        made = run(stripped)
        return None if empty else made
    except SchemaViolation as error:
        found = list(flat(error.fields))
    if convert(source, path, value, found):
        try:
            return run(without_nulls(value))
        except SchemaViolation as error:
            found = list(flat(error.fields))
    report(source, path, shape, found)
    return None


def _nulls(value: Any, below: Path = ()) -> Iterator[Path]:
    """Paths of null members of mappings."""
    for step, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        if inner is None and isinstance(value, dict):
            yield (*below, step)
        else:
            yield from _nulls(inner, (*below, step))


def _misnamed(source: Source, path: Path, shape: Any, below: Path) -> bool:
    known = fields_at(shape, below[:-1]) or _config_fields(source, path, below)
    return bool(known) and below[-1] not in known


def convert(source: Source, path: Path, value: Any, found: Sequence[tuple[Path, str]]) -> bool:
    """Convert references to the expected type, in place. Returns whether one was converted."""
    done = False
    for below, text in found:
        whole = source.wholes.get((*path, *below))
        typed = as_type(whole, text) if whole is not None and below else None
        if typed is None:
            continue
        node = value
        for step in below[:-1]:
            node = node[step]
        node[below[-1]] = typed
        done = True
    return done


def as_type(text: str, wanted: str) -> int | float | bool | None:
    """The text as the number or boolean that a finding asks for, or None."""
    if wanted == "expected an integer" and _INTEGER.match(text):
        return int(text)
    if wanted == "expected a number" and _NUMBER.match(text):
        return float(text)
    if wanted == "expected a boolean" and text in ("true", "false"):
        return text == "true"
    return None


def report(source: Source, path: Path, shape: Any, found: Sequence[tuple[Path, str]]) -> None:
    """Add the findings below `path`, each at its position."""
    for below, text in found:
        if source.full:
            return
        full = (*path, *below)
        if text == "unknown field":
            report_unknown(source, full, fields_at(shape, below[:-1]) or _config_fields(source, path, below))
        elif _from_url(source, path, below):
            source.add((*path, "url"), text if below[-1] == "url" else f"{below[-1]}: {text}")
        else:
            source.add(full, text + _hint(source, full, text), suggestion=_meant(source.get(full), text))


def report_unknown(source: Source, path: Path, fields: Sequence[str]) -> None:
    """An unknown field, at its key."""
    name = str(path[-1])
    if name == "<<":
        source.add(path, f"merge keys are {NOT_SUPPORTED}: write the fields out", at_key=True)
    elif name in ("id", "created_at", "updated_at"):
        source.add(path, "made by the gateway: leave it out", at_key=True)
    elif name in BELOW_ENTITIES or (path[0], name) in _LATER:
        source.add(path, NOT_SUPPORTED, at_key=True)
    else:
        source.add(path, "unknown field", at_key=True, suggestion=nearest(name, fields))


def _config_fields(source: Source, path: Path, below: Path) -> list[str]:
    kind = PLUGINS.get(str(source.get((*path, "name"))))
    if kind is None or below[:1] != ("config",):
        return []
    return [*fields_at(kind.config, below[1:-1]), *(kind.aliases if len(below) == 2 else ())]


def _from_url(source: Source, path: Path, below: Path) -> bool:
    """Whether a finding is on a part of a service's `url`."""
    item = source.get(path)
    return (
        len(below) == 1
        and below[0] in ("host", "port", "path", "protocol")
        and isinstance(item, dict)
        and "url" in item
        and len(path) == 2
        and path[0] == "services"
    )


def _hint(source: Source, path: Path, text: str) -> str:
    if path in source.wholes and text in _TYPED:
        return ": the reference stands for something else"
    bare, value = source.bare(path), source.get(path)
    if path in source.wholes or bare is None or value is None:
        return ""
    hidden = secret_path(path) or len(bare) > 40
    shown = "it" if hidden else f'"{bare}"'
    if text == "expected a string" and _is_time(path) and type(value) in (int, float):
        return f": write a duration, as in {bare if type(value) is int else 10}s"
    if text == "expected a string" and path[:1] == ("ledger",) and type(value) in (int, float):
        return (
            ": write a size, as in 50GiB"
            if path[-1:] == ("max_disk",)
            else f": write an age, as in {bare if type(value) is int else 10}d"
        )
    if text == "expected a string" and not isinstance(value, (str, dict, list)):
        return f": write {shown} in quotes"
    if not isinstance(value, str) or hidden:
        return ""
    if text == "expected a boolean" and bare.lower() in _YES | _NO:
        word = "true" if bare.lower() in _YES else "false"
        return f": '{bare}' is text in YAML 1.2: write {word}, or {shown} in quotes where text is meant"
    if text in _TYPED and (_OLD_NUMBER.match(bare) or bare.lower() in _YES | _NO):
        return f": '{bare}' is text in YAML 1.2: write a plain number, or {shown} in quotes where text is meant"
    return ""


def _is_time(path: Path) -> bool:
    """Whether the field at this path is a duration."""
    return path[-1:] == ("per",) or path[-2:-1] == ("timeouts",)


def _meant(value: object, text: str) -> str | None:
    if not isinstance(value, str):
        return None
    if _PLUGIN.match(text):
        return nearest(value, PLUGINS)
    options = _ONE_OF.match(text)
    return nearest(value, options.group(1).split(", ")) if options else None
