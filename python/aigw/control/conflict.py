"""What the file declares and what the Admin API holds, where the two do not fit: each with its owner and its repair.

In: what the file is about to do to the store. Out: `Conflict`s, for a finding at the place in the file. A tier that leaves
the file while the Admin API's consumers are in it is one: without it they could call nothing, and would not be in it when
it is back.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from aigw.control import tables
from aigw.control.origin import Origin, name_of
from aigw.control.rows import Row, row_of
from aigw.control.writing import Writing

NAMED: Final = 3
"""Consumers of a tier that are told by name."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One entity that cannot be what the file says. `origin` is None when it left the file."""

    kind: str
    origin: Origin | None
    message: str


class Conflicts(Exception):
    """What the file declares and what others hold do not fit. Nothing may be kept of the attempt."""

    def __init__(self, found: Sequence[Conflict]) -> None:
        self.found = found
        super().__init__("; ".join(f"{c.origin}: {c.message}" if c.origin else c.message for c in found))


def still_in(writing: Writing, tiers: Iterable[Row]) -> Iterator[Conflict]:
    """Tiers that leave the file while consumers are in them. The file's own are in others by now, so these are the Admin
    API's. Two looks at an index for each tier, however many consumers there are."""
    c = tables.consumers
    for tier in tiers:
        count = writing.connection.scalar(sa.select(sa.func.count()).where(c.c.tier == tier.id)) or 0
        if not count:
            continue
        query = sa.select(c).where(c.c.tier == tier.id).limit(NAMED)
        first = [name_of(row_of(c.name, record).body) for record in writing.connection.execute(query)]
        names = ", ".join(f"'{name}'" for name in first) + (", ..." if count > NAMED else "")
        one = count == 1
        yield Conflict(
            "tiers",
            None,
            f"tiers '{name_of(tier.body)}' ({tier.origin}) left the file, but {count} {'consumer' if one else 'consumers'}"
            f" of the Admin API {'is' if one else 'are'} in it ({names}): keep the tier, or move {'it' if one else 'them'} first"
            " (curl -X POST :8001/consumers/NAME/consumer_groups -d group=TIER)",
        )
