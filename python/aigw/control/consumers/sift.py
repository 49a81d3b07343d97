"""Plain consumers of the file against what the store says of it: who is as it was costs two comparisons of text, and no row.

In: `Leans`, and the column `origin` of each kind by id, from which those are taken that need nothing more. Out: rows for the
general way (`bulk`) of all that is new or differs, new origins of what only stands in another line, and of very many that
differ their places alone, for `rewrite`.
"""

from dataclasses import dataclass, field

from aigw.control.consumers.lean import KINDS_OF, Leans
from aigw.control.consumers.rewrite import Again, rewritable
from aigw.control.store.rows import Row
from aigw.control.store.write import Writing

Stored = dict[str, dict[str, str]]


@dataclass(slots=True)
class Sifted:
    """By kind. `rows` are by their index in `Leans`, `moved` are (origin, id)."""

    rows: dict[str, dict[int, Row]] = field(default_factory=lambda: {kind: {} for kind in KINDS_OF})
    moved: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {kind: [] for kind in KINDS_OF})
    again: dict[str, list[Again]] = field(default_factory=lambda: {kind: [] for kind in KINDS_OF})


def sift(writing: Writing, leans: Leans, stored: Stored) -> Sifted:
    """Takes from `stored` what is dealt with."""
    found = Sifted()
    for kind in KINDS_OF:
        absent, changed, found.moved[kind] = leans.all.sift(kind, stored[kind])
        found.again[kind] = rewritable(writing, kind, changed)
        rewritten = {one.place for one in found.again[kind]}
        left = []
        for key, index in changed.items():
            if index in rewritten:
                del stored[kind][key]
            else:
                left.append(index)
        found.rows[kind] = {index: leans.row(kind, index) for index in sorted([*absent, *left])}
    return found
