"""Metric families as values, and their Prometheus text (format 0.0.4).

In: families of the native half, or samples of the control process itself. Out: `Family`, with kind and help of the one
metrics table; text for the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aigw._native import metrics_table

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One value. `name` is the family's, or of a histogram that with `_bucket`, `_sum` or `_count`."""

    name: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """One metric. `kind`: counter, gauge or histogram."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def native(found: Iterable[tuple[str, str, str, list[tuple[str, list[tuple[str, str]], float]]]]) -> list[Family]:
    """The families of `Publisher.families`."""
    return [
        Family(name, kind, about, [Sample(sample, tuple(labels), value) for sample, labels, value in samples])
        for name, kind, about, samples in found
    ]


def own(samples: Mapping[str, Sequence[tuple[Mapping[str, str], float]]]) -> list[Family]:
    """Metrics of the control process: name -> (labels, value) of each sample."""
    return [
        Family(name, str(row["kind"]), str(row["help"]),
               [Sample(name, tuple(labels.items()), float(value)) for labels, value in samples[name]])
        for row in metrics_table()
        if (name := str(row["name"])) in samples
    ]  # fmt: skip


def text(families: Iterable[Family]) -> str:
    """The page of these families."""
    lines = []
    for family in families:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        for name, labels, value in family.samples:
            inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
            lines.append(f"{name}{f'{{{inside}}}' if inside else ''} {value:g}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
