"""Reads the Prometheus text of our own metrics table, and writes the few metrics that the control process itself has.

In: the text. Out: families with their samples, names and help as written there. It reads what our encoder writes
(text format 0.0.4, no timestamps, no exemplars) and raises ValueError on anything else: silence would lose a metric.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aigw._native import metrics_table

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Family:
    """One metric: `kind` is counter, gauge or histogram; `samples` are (name, labels, value) in the text's order."""

    name: str
    kind: str
    help: str = ""
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)


def parse(text: str) -> list[Family]:
    """The families of `text`. Raises ValueError with the line that is not understood."""
    families: dict[str, Family] = {}
    helps: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, doc = line[7:].partition(" ")
            helps[name] = doc
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            families[name] = Family(name, kind, helps.get(name, ""))
        elif line and not line.startswith("#"):
            name, labels, value = _sample(line)
            family = families.get(name) or families.get(re.sub(r"_(bucket|sum|count)$", "", name))
            if family is None:
                raise ValueError(f"a sample without a TYPE line before it: {line!r}")
            family.samples.append((name, labels, value))
    return list(families.values())


def render(samples: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]) -> str:
    """The text of these metrics: name -> its samples, labels and value. Kinds and help come from the one table."""
    lines = []
    for row in metrics_table():
        name = str(row["name"])
        if name in samples:
            lines += [f"# HELP {name} {row['help']}", f"# TYPE {name} {row['kind']}"]
            for labels, value in samples[name]:
                inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
                lines.append(f"{name}{f'{{{inside}}}' if inside else ''} {value:g}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


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
