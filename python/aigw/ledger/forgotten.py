"""Lives of workers whose cursors retention has deleted: every segment of them was stored, so a file that comes back is not read again.

In: a connection. Out: a mark for each such life in `meta`, its last segment: numbers are dense, so all up to it were stored.
"""

from collections.abc import Collection, Mapping
from typing import Final

import sqlalchemy as sa

from aigw.ledger.database import get_meta, put_meta
from aigw.ledger.source import Key, Life
from aigw.ledger.tables import cursors, meta

_MARK: Final = "stored/"


def forget(connection: sa.Connection, before: int, lives: Collection[Life]) -> None:
    """Delete the cursors of lives that are stored whole, all of them with a number below `before`; those of `lives` stay."""
    c = cursors.c
    last = sa.func.max(c.segment)
    is_whole = sa.and_(
        sa.func.min(c.done) == 1, sa.func.count(c.damage) == 0, sa.func.max(c.n) < before, sa.func.count() == last + 1
    )
    query = sa.select(c.life, c.slot, last).group_by(c.life, c.slot).having(is_whole)
    for life, slot, number in connection.execute(query).all():
        if (life, slot) not in lives:
            put_meta(connection, f"{_MARK}{life}/{slot}", str(number))
            connection.execute(sa.delete(cursors).where(c.life == life, c.slot == slot))


def is_forgotten(connection: sa.Connection, key: Key) -> bool:
    """Whether one segment without a cursor was stored, and its cursor deleted."""
    life, slot, _ = key
    return key in Forgotten({(life, slot): int(get_meta(connection, f"{_MARK}{life}/{slot}") or -1)})


class Forgotten:
    """All such segments."""

    def __init__(self, last: Mapping[Life, int]) -> None:
        """`last`: the last segment of each life."""
        self._last = last

    @classmethod
    def read(cls, connection: sa.Connection) -> "Forgotten":
        """Those of now."""
        query = sa.select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_MARK))
        found = ((key.split("/"), value) for key, value in connection.execute(query))
        return cls({(int(life), int(slot)): int(value) for (_, life, slot), value in found})

    def __contains__(self, key: Key) -> bool:
        return key[2] <= self._last.get(key[:2], -1)
