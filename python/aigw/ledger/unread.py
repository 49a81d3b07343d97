"""The entries that lie in segments and are not in the store yet: those of the last moment, or of a gateway that does not run.

In: a source of segments, a connection. Out: how many, and the segments that are damaged or missing. Files are listed before the connection's
view begins: the compactor removes a file after it stored its end, so a file that is gone has its end in the view.
"""

from typing import NamedTuple

import sqlalchemy as sa

from aigw.errors import explain
from aigw.ledger.database import LedgerReader
from aigw.ledger.forgotten import Forgotten
from aigw.ledger.losses import MISSING, is_accepted, read_losses
from aigw.ledger.source import Key, SegmentInfo, Source, older_copy, records_from, segment_name
from aigw.ledger.tables import cursors

AT_ONCE = 4096


class Unread(NamedTuple):
    """The rest behind the store."""

    entries: int
    is_live: bool
    """Whether a worker runs that may append."""
    faults: dict[Key, str]
    """Segments whose records cannot be read, or not all."""
    unreadable: list[Key]
    """Those of `faults` that are no segments of this ledger, or that the system cannot read: nothing behind them is known."""

    def unreadable_text(self) -> str:
        """All of `unreadable` with their repair, each with its name."""
        texts = ((segment_name(key), self.faults[key]) for key in self.unreadable)
        return "; ".join(text if name in text else f"{name}: {text}" for name, text in texts)


def unread(store: LedgerReader, source: Source) -> Unread:
    """Read it. Raises StoreError, OSError."""
    infos = [SegmentInfo(*info) for info in source.segments()]
    with store.reading() as connection:
        c = cursors.c
        rows = connection.execute(sa.select(c.life, c.slot, c.segment, c.next, c.done, c.damage)).all()
        forgotten, losses = Forgotten.read(connection), read_losses(connection)
    known: dict[Key, tuple[int, bool, str | None]] = {(r[0], r[1], r[2]): (r[3], bool(r[4]), r[5]) for r in rows}
    listed = {info[:3] for info in infos}
    faults = {
        key: f"the file is missing: entries from record {at} on are not in the ledger"
        for key, (at, done, _) in known.items()
        if not done and key not in listed
    }
    for life, slot, number in listed:
        before = (life, slot, number - 1)
        if number and before not in listed and before not in known and before not in forgotten:
            faults[before] = "the file is missing, and nothing of it is in the ledger"
    faults = {key: fault for key, fault in faults.items() if not is_accepted(losses, key, MISSING)}
    entries, unreadable = 0, list[Key]()
    for info in infos:
        at, done, damage = known.get(info[:3], (0, info[:3] in forgotten, None))
        if done:
            if info[:3] in known and (late := _late(source, info[:3], at)) is not None:
                faults[info[:3]] = late
            continue
        if (older := older_copy(info, at)) is not None:
            faults[info[:3]] = older
            continue
        found, fault, is_readable = _rest(source, info[:3], at)
        entries += found
        if not is_readable:
            unreadable.append(info[:3])
        if fault is not None and (damage is None or not is_readable):
            faults[info[:3]] = fault
    return Unread(entries, any(info.live for info in infos), faults, unreadable)


def _late(source: Source, key: Key, at: int) -> str | None:
    """The text about records of a stored segment that the compactor will never read; None without any."""
    try:
        end = max((read[3] for read in records_from(source, key, at, AT_ONCE)), default=at)
    except OSError:
        return None  # everything that the ledger wanted of it is stored
    if end <= at:
        return None
    return (
        f"records from {at} on were never read: the file grew after its end was stored, as one that was out of its folder meanwhile;"
        " keep a copy of it, since the gateway removes it later"
    )


def _rest(source: Source, key: Key, at: int) -> tuple[int, str | None, bool]:
    """Entries of a segment from a record on, the text about damage, and whether the file could be read."""
    entries, faults = 0, list[str]()
    try:
        for found, _, _, _, damage in records_from(source, key, at, AT_ONCE):
            entries += len(found)
            if damage is not None:
                faults.append(damage)
    except OSError as error:
        return entries, explain(error), False
    return entries, "; ".join(dict.fromkeys(faults)) or None, True
