"""Plain consumers of the file against what the store says of it: who is as it was costs two comparisons of text, and no row.

In: `Leans`, and the column `origin` of each kind by id, from which those are taken that need nothing more. Out: rows for the
general way (`bulk`) of all that is new or differs, and new origins of what only stands in another line.
"""

from dataclasses import dataclass, field

from aigw.control.lean import Lean, Leans
from aigw.control.rows import Row

Stored = dict[str, dict[str, str]]


@dataclass(slots=True)
class Sifted:
    """`still`: whose key is no row here, by its HMAC."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {"consumers": [], "keyauth_credentials": []})
    moved: dict[str, list[tuple[str, str]]] = field(
        default_factory=lambda: {"consumers": [], "keyauth_credentials": []}
    )
    """By kind: (origin, id)."""
    still: dict[bytes, Lean] = field(default_factory=dict)


def sift(leans: Leans, stored: Stored) -> Sifted:
    """Takes from `stored` what is dealt with."""
    found = Sifted()
    consumers, keys = stored["consumers"], stored["keyauth_credentials"]
    for one, origin, key_origin in leans.origins():
        there = consumers.get(one.id)
        if there == origin:
            del consumers[one.id]
        elif there is not None and _same(there, one.hash):
            del consumers[one.id]
            found.moved["consumers"].append((origin, one.id))
        else:
            found.rows["consumers"].append(one.rows(leans.file, leans.now)[0])
        there = keys.get(one.key_id)
        if there == key_origin:
            del keys[one.key_id]
        elif there is not None and _same(there, one.key_hash):
            del keys[one.key_id]
            found.moved["keyauth_credentials"].append((key_origin, one.key_id))
        else:
            found.rows["keyauth_credentials"].append(one.rows(leans.file, leans.now)[1])
            continue
        found.still[one.digest] = one
    return found


def _same(there: str, content: str) -> bool:
    """Whether only file and line differ. What also keeps how its secret is written has more behind its hash."""
    return there.endswith(f'"hash":"{content}"}}')
