"""Losses that an operator has accepted: segments that are gone for good, in part or wholly, and damaged ones.

In: an empty file `accept-loss` in the ledger's folder, the operator's word that what is missing or damaged now is lost. Out: a mark for each
such segment in `meta`, with its time. Status and audit call an accepted loss no fault any more, and the audit names it. A mark moves no place
and changes no sum: where the file of a missing segment comes back, its reading goes on.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

from aigw.ledger.database import put_meta
from aigw.ledger.source import Key
from aigw.ledger.tables import cursors, meta

FILE: Final = "accept-loss"
"""The operator's word, a file in the ledger's folder."""
MISSING: Final = "missing"
DAMAGED: Final = "damaged"
_MARK: Final = "lost/"


class Loss(NamedTuple):
    """An accepted loss."""

    kind: str
    """`MISSING` or `DAMAGED`: one that was accepted as missing and comes back damaged is told anew."""
    at: int
    """Unix nanoseconds."""


def read_losses(connection: sa.Connection) -> dict[Key, Loss]:
    """All of them."""
    query = sa.select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_MARK))
    found = {}
    for name, value in connection.execute(query):
        (_, life, slot, number), (kind, at) = name.split("/"), value.split(" ")
        found[int(life), int(slot), int(number)] = Loss(kind, int(at))
    return found


def accept(connection: sa.Connection, missing: Iterable[Key], now: int) -> list[tuple[Key, Loss]]:
    """Mark these segments, those that were never read between others, and the damaged ones. Returns the new marks."""
    c, known = cursors.c, read_losses(connection)
    rows = connection.execute(sa.select(c.life, c.slot, c.segment, c.done, c.damage)).all()
    lost = dict.fromkeys([*missing, *holes((r.life, r.slot, r.segment) for r in rows)], MISSING)
    lost |= {(r.life, r.slot, r.segment): DAMAGED for r in rows if r.done and r.damage is not None}
    made = [(key, Loss(kind, now)) for key, kind in sorted(lost.items()) if not is_accepted(known, key, kind)]
    for (life, slot, number), loss in made:
        put_meta(connection, f"{_MARK}{life}/{slot}/{number}", f"{loss.kind} {loss.at}")
    return made


def is_accepted(known: Mapping[Key, Loss], key: Key, kind: str) -> bool:
    """Whether this loss is among the accepted ones."""
    return key in known and known[key].kind == kind


def holes(keys: Iterable[Key]) -> list[Key]:
    """Segments between others of their life: numbers are dense, so they were there."""
    numbers: dict[tuple[int, int], set[int]] = {}
    for life, slot, number in keys:
        numbers.setdefault((life, slot), set()).add(number)
    return sorted(
        (*life, number) for life, found in numbers.items() for number in set(range(min(found), max(found))) - found
    )
