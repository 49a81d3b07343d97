"""Reads Prometheus text (format 0.0.4), as any client of a gateway's `/metrics` does; for `aigw top`.

In: a page without timestamps and exemplars. Out: its samples. Raises ValueError on any other line: a sample that is left out
would be a wrong rate.
"""

import re
from typing import Final

Labels = tuple[tuple[str, str], ...]
Values = dict[tuple[str, Labels], float]
"""(name, labels) -> value of every sample."""

_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')
_ESCAPES: Final = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text: str) -> Values:
    """The samples of a page."""
    values: Values = {}
    families: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.add(line.split(" ")[2])
        elif line and not line.startswith("#"):
            name, labels, value = _sample(line)
            if families.isdisjoint((name, re.sub(r"_(bucket|sum|count)$", "", name))):
                raise ValueError(f"a sample without a TYPE line before it: {line!r}")
            values[name, labels] = value
    return values


def _sample(line: str) -> tuple[str, Labels, float]:
    match = _SAMPLE.match(line)
    if match is None:
        raise ValueError(f"not a sample: {line!r}")
    name, inside, value = match.groups()
    labels = []
    at = 0
    while inside and at < len(inside):
        label = _LABEL.match(inside, at)
        if label is None:
            raise ValueError(f"not a label: {line!r}")
        labels.append((label[1], re.sub(r"\\.", lambda m: _ESCAPES.get(m[0], m[0]), label[2])))
        at = label.end()
    return name, tuple(labels), float(value)
