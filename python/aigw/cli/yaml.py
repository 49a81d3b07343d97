"""Writes YAML as a person would: blocks, and short flow where everything fits on a line.

In: JSON-like values (mappings with text keys, lists, text, numbers, booleans, null). Out: YAML 1.2 that reads back as the
same values, here and elsewhere: text that could be read as something else is quoted. No anchors, no comments.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

WIDTH: Final = 100
_PLAIN: Final = re.compile(r"([A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+(ms|s|m|h|d))\Z", re.ASCII)
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"})


def to_yaml(value: Any) -> str:
    """The document."""
    return "\n".join(_block(value, 0)) + "\n"


def _block(value: Any, depth: int) -> Iterator[str]:
    """Lines of a value that stands by itself."""
    indent = "  " * depth
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{indent}{_text(str(key))}:", inner, depth)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _entry(f"{indent}-", inner, depth)
    else:
        yield indent + _flow(value)


def _entry(head: str, value: Any, depth: int) -> Iterator[str]:
    line = f"{head} {_flow(value)}"
    if _short(value) and len(line) <= WIDTH:
        yield line
    else:
        yield head
        yield from _block(value, depth + 1)


def _short(value: Any) -> bool:
    """Whether a value may stand in one line: scalars, empty ones, and collections of nothing but scalars."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(item, dict | list) and item for item in inner)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    plain = _PLAIN.match(text) and text.lower() not in _WORDS
    return text if plain else "".join(map(_escaped, json.dumps(text, ensure_ascii=False)))


def _escaped(character: str) -> str:
    """YAML takes fewer characters as they are than JSON."""
    return character if character.isprintable() else f"\\U{ord(character):08x}"
