"""Writes values as YAML text in blocks, and as `{a: 1, b: [2]}` where a value fits on one line. Lines of text stay lines.

In: JSON-like values (mappings with text keys, lists, text, numbers, booleans, null). Out: YAML 1.2; every reader gets the
same values back, because a text that looks like another type is quoted. No anchors, no comments.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

WIDTH: Final = 100
_PLAIN: Final = re.compile(r"([A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+(ms|s|m|h|d))\Z", re.ASCII)
_LINES: Final = re.compile(r"(?:[!-~][ -~]*\n)+(?:[!-~][ -~]*\n?)?\Z")
"""Lines of text that YAML takes as a block as they are: none is empty or begins with a blank."""
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"})


def to_yaml(value: Any) -> str:
    """The document."""
    return "".join(f"{line}\n" for line in _block(value))


def _block(value: Any) -> Iterator[str]:
    """Lines of a value that stands by itself."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            head = f"{_text(str(key))}:"
            if isinstance(inner, str) and _LINES.match(inner):  # a certificate
                yield f"{head} |{'' if inner.endswith(chr(10)) else '-'}"
                yield from (f"  {line}" for line in inner.splitlines())
            elif _short(inner) and len(line := f"{head} {_flow(inner)}") <= WIDTH:
                yield line
            else:
                yield head
                yield from (f"  {line}" for line in _block(inner))
    elif isinstance(value, list) and value:
        for inner in value:
            flow = _flow(inner) if _short(inner) else ""
            first, *rest = [flow] if flow and len(flow) <= WIDTH else _block(inner)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _flow(value)


def _short(value: Any) -> bool:
    """Whether a value may stand in one line: scalars, empty ones, and collections of nothing but scalars and lists of those."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any((isinstance(item, dict) and item) or (isinstance(item, list) and not _flat(item)) for item in inner)


def _flat(items: list[Any]) -> bool:
    return not any(isinstance(item, dict | list) and item for item in items)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    is_bare = _PLAIN.match(text) and text.lower() not in _WORDS
    return text if is_bare else "".join(map(_escaped, json.dumps(text, ensure_ascii=False)))


def _escaped(character: str) -> str:
    """YAML takes fewer characters as they are than JSON."""
    return character if character.isprintable() else f"\\U{ord(character):08x}"
