""" "Did you mean": the nearest valid word. In: a word and the valid ones, or a shape and a path into it. Out: the nearest word, or the
shape's field names. The search is bounded: among very many names it compares only those with the same start.
"""

import difflib
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from aigw.config.finding import Path

_MANY: Final = 500


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The word that was probably meant."""
    options = list(dict.fromkeys(names))
    word = word[:64]
    if len(options) > _MANY:
        options = [o for o in options if o[:1] == word[:1] and abs(len(o) - len(word)) <= 2][: 4 * _MANY]
    normal = word.lower().replace("-", "_")
    for option in options:
        if option.lower().replace("-", "_") == normal and option != word:
            return option
    found = difflib.get_close_matches(word, options, 1, 0.6)
    return found[0] if found and found[0] != word else None


def fields_at(shape: Any, path: Path) -> list[str]:
    """Field names at `path` below a shape; empty if the names are not fixed."""
    for step in path:
        shape = _below(shape, step)
        if shape is None:
            return []
    model = next((s for s in _alternatives(shape) if isinstance(s, type) and issubclass(s, BaseModel)), None)
    return [info.alias or name for name, info in model.model_fields.items()] if model else []


def _below(shape: Any, step: str | int) -> Any:
    for option in _alternatives(shape):
        origin = get_origin(option)
        if origin is list and isinstance(step, int):
            return get_args(option)[0]
        if origin is dict and isinstance(step, str):
            return get_args(option)[1]
        if isinstance(option, type) and issubclass(option, BaseModel) and isinstance(step, str):
            info = option.model_fields.get(step)
            return info.annotation if info else None
    return None


def _alternatives(shape: Any) -> list[Any]:
    if get_origin(shape) is Annotated:
        return _alternatives(get_args(shape)[0])
    if get_origin(shape) in (Union, UnionType):
        return [s for option in get_args(shape) for s in _alternatives(option)]
    return [shape]
