"""Losses that an operator has accepted: segments that are gone for good, in part or wholly, damaged ones, and entries that an older copy of
`ledger.db` lacks.

In: an empty file `accept-loss` in the ledger's folder, the operator's word that everything missing or damaged now is lost. Out: a mark for each
in `meta`, with its time. Status and audit call an accepted loss no fault any more, and the audit names it. A mark moves no place and changes no
sum: where the file of a missing segment comes back, its reading goes on. An older copy has its mark from the moment that it was found, since
new events take the numbers of those that it lacks.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

from aigw.ledger.database import put_meta
from aigw.ledger.source import Key, segment_name
from aigw.ledger.tables import cursors, meta

FILE: Final = "accept-loss"
"""The operator's word, a file in the ledger's folder."""
MISSING: Final = "missing"
DAMAGED: Final = "damaged"
_MARK: Final = "lost/"
_OLDER: Final = "older/"


class Loss(NamedTuple):
    """An accepted loss."""

    kind: str
    """`MISSING` or `DAMAGED`. A segment that was accepted as missing and comes back damaged is a new loss."""
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


class OlderCopy(NamedTuple):
    """A `ledger.db` that had fewer events than the ledger had before."""

    had: int
    """Events before, with those that still older copies had lost."""
    has: int
    """Events of the copy, with those that were still in segments and those that still older copies had lost."""
    accepted_at: int
    """Unix nanoseconds; 0: nobody has accepted it."""

    @property
    def message(self) -> str:
        """The loss in words: how many entries the copy lacks."""
        lost = self.had - self.has
        entries = "1 entry that was" if lost == 1 else f"at least {lost} entries that were"
        return f"{entries} stored before {'is' if lost == 1 else 'are'} not in it: it is an older copy"


def read_older(connection: sa.Connection) -> list[OlderCopy]:
    """All that were found in this ledger, smallest first."""
    query = sa.select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_OLDER))
    found = ((key.split("/"), value.split(" ")) for key, value in connection.execute(query))
    return sorted(OlderCopy(int(had), int(has), int(at)) for (_, had), (has, at) in found)


def lacking(copies: Iterable[OlderCopy]) -> int:
    """Events that a ledger lacks since it was replaced by older copies. With its own they are all that were ever stored."""
    return sum(copy.had - copy.has for copy in copies)


def note_older(connection: sa.Connection, had: int, has: int) -> None:
    """Mark an older copy."""
    put_meta(connection, f"{_OLDER}{had}", f"{has} 0")


def accept(connection: sa.Connection, missing: Iterable[Key], now: int) -> list[tuple[str, str]]:
    """Mark these segments, those that were never read between others, the damaged ones, and an older copy as accepted. Returns (file, kind of
    loss) of each new mark."""
    c, known = cursors.c, read_losses(connection)
    rows = connection.execute(sa.select(c.life, c.slot, c.segment, c.done, c.damage)).all()
    lost = dict.fromkeys([*missing, *holes((r.life, r.slot, r.segment) for r in rows)], MISSING)
    lost |= {(r.life, r.slot, r.segment): DAMAGED for r in rows if r.done and r.damage is not None}
    made = [(key, Loss(kind, now)) for key, kind in sorted(lost.items()) if not is_accepted(known, key, kind)]
    for (life, slot, number), loss in made:
        put_meta(connection, f"{_MARK}{life}/{slot}/{number}", f"{loss.kind} {loss.at}")
    older = [copy for copy in read_older(connection) if not copy.accepted_at]
    for copy in older:
        put_meta(connection, f"{_OLDER}{copy.had}", f"{copy.has} {now}")
    return [(segment_name(key), loss.kind) for key, loss in made] + [("ledger.db", "older copy")] * len(older)


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
