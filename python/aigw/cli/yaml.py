"""Plain data -> YAML for people: blocks, and short things on one line. What could be read as something else stands in quotes."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

WIDTH: Final = 100
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*\Z", re.ASCII)
_WORDS: Final = re.compile(r"(true|false|null|yes|no|on|off|y|n|~|\.?inf|\.?nan)\Z", re.IGNORECASE)


def written(value: dict[str, Any]) -> str:
    """A mapping as a YAML document."""
    return "".join(f"{line}\n" for line in _block(value))


def _block(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{_scalar(key)}:", inner)
    elif isinstance(value, list) and value:
        for inner in value:
            lines = [flow] if (flow := _flow(inner)) is not None else list(_block(inner))
            yield f"- {lines[0]}"
            yield from (f"  {line}" for line in lines[1:])
    else:
        yield _flow(value) or ""


def _entry(head: str, value: Any) -> Iterator[str]:
    flow = _flow(value)
    if flow is not None:
        yield f"{head} {flow}"
    else:
        yield head
        yield from (f"  {line}" for line in _block(value))


def _flow(value: Any) -> str | None:
    """On one line; None when it is too long for that, or too deep to be read there."""
    if isinstance(value, dict):
        parts = [(_scalar(k), _flow(v) if not isinstance(v, dict) or not v else None) for k, v in value.items()]
        text = "{" + ", ".join(f"{k}: {v}" for k, v in parts) + "}"
        return text if all(v is not None for _, v in parts) and (len(text) <= WIDTH or not value) else None
    if isinstance(value, list):
        items = [_flow(v) for v in value]
        text = "[" + ", ".join(str(v) for v in items) + "]"
        return text if None not in items and (len(text) <= WIDTH or not value) else None
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value if _PLAIN.match(value) and not _WORDS.match(value) else json.dumps(value)
    return json.dumps(value)
