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
        if not _stands(consumers, one.id, origin, one.hash, found.moved["consumers"]):
            found.rows["consumers"].append(one.rows(leans.file, leans.now)[0])
        if _stands(keys, one.key_id, key_origin, one.key_hash, found.moved["keyauth_credentials"]):
            found.still[one.digest] = one
        else:
            found.rows["keyauth_credentials"].append(one.rows(leans.file, leans.now)[1])
    return found


def _stands(stored: dict[str, str], key: str, origin: str, content: str, moved: list[tuple[str, str]]) -> bool:
    """Whether it is there as it is to be, but for its place at most: then it is taken from `stored`."""
    there = stored.get(key)
    if there is None or not (there == origin or _same(there, content)):
        return False
    del stored[key]
    if there != origin:
        moved.append((origin, key))
    return True


def _same(there: str, content: str) -> bool:
    """Whether only file and line differ. What also keeps how its secret is written has more behind its hash."""
    return there.endswith(f'"hash":"{content}"}}')
