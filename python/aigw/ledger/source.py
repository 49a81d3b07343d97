"""The segments that workers write, as the compactor sees them, and the fields of their records.

In: nothing; the native half implements `Source` over the files of `DATA/ledger/`. Out: entries and counts of refusals as tuples of
numbers. An implementation never returns a record that power loss could still take, unless its owner is dead.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from aigw._native import Entries

ENTRY: Final = (
    "life", "slot", "segment", "sequence", "admitted_at", "ended_at", "request_id", "parent", "run", "consumer", "credential", "tier",
    "route", "model", "upstream", "service", "agent", "status", "attempt", "depth", "outcome", "source", "flags", "input",
    "cached_input", "cache_write", "output", "reasoning", "price", "cost", "price_version", "cost_version", "latency_us",
    "first_byte_us", "queued_us", "limit_set", "image_input", "audio_input", "image_output", "audio_output", "service_tier",
)  # fmt: skip
"""Fields of an entry's tuple, in order. Times are unix nanoseconds, money nano-dollars; a row number 0 means none."""

OUTCOMES: Final = ("completed", "client_cut", "upstream_cut", "limit_cut", "upstream_error", "crashed")
"""Words of `outcome`, by number."""
SOURCES: Final = (None, "provider", "counted", "reserved")
"""Words of `source`, by number: who counted the tokens."""

CRASHED: Final = OUTCOMES.index("crashed")

COUNTED: Final = 1
"""Flag: the entry counts as a request in its consumer's windows."""
OVERRUN: Final = 2
"""Flag: the upstream reported more than was reserved."""
STREAM: Final = 4
"""Flag: the answer was a stream."""
PRICED: Final = 8
"""Flag: the tier had a price."""
COSTED: Final = 16
"""Flag: the model had a cost."""

Entry = tuple[Any, ...]
"""One entry: the fields of `ENTRY`."""
Denials = tuple[int, int, int, int, int, int]
"""Refusals of one minute: (start of the minute in unix seconds, consumer, tier, model, index of the reason, count)."""


Doubt = tuple[str, int, int, int, int]
"""An amount that a counter may have too much, since a worker died while it took or settled it: (request id, column, row, end of the window
in unix seconds, amount)."""
Read = tuple[Entries, list[Denials], list[Doubt], int, str | None]
"""Entries, refusals, doubts, the next record to read, and a text about damage."""


Key = tuple[int, int, int]
"""(life, slot, number) of a segment."""


Life = tuple[int, int]
"""(life, slot): one life of a worker, which owns its segments."""


def segment_name(key: Key) -> str:
    """The file's name."""
    life, slot, number = key
    return f"{life:016x}-{slot:02}-{number:08}.segment"


class SegmentInfo(NamedTuple):
    """One segment. (life, slot, number) names it; numbers of a (life, slot) are dense from 0."""

    life: int
    """Start of the process that wrote it, unix nanoseconds."""
    slot: int
    number: int
    live: bool
    """Whether its owner still runs."""
    synced: int
    """Records that are on the disk."""
    end: int | None
    """Records that it has for good; None while its owner may append."""


def older_copy(info: SegmentInfo, start: int) -> str | None:
    """The damage of a file that ends before the record at which the reading goes on; None for any other file."""
    if info.end is None or info.end >= start:
        return None
    return f"the file ends with record {info.end}, and {start} were stored from it: it is an older copy"


class SourceStatus(NamedTuple):
    """The state of all segments."""

    unsynced: int
    """Entries that are not on the disk yet."""
    segments: int
    """Segment files."""
    error: str | None
    """The last fault of a writer, with its repair; None while all is well."""


class Source(Protocol):
    """The segments of one data folder. Methods raise OSError."""

    def segments(self) -> Sequence[tuple[int, int, int, bool, int, int | None]]:
        """`SegmentInfo` of every segment file."""

    def read(self, life: int, slot: int, number: int, start: int, most: int) -> Read:
        """Up to `most` records from record `start`. The text about damage ends the segment early. The next record is `start` where nothing
        may be read now."""

    def remove(self, life: int, slot: int, number: int) -> bool:
        """Remove a segment whose records are stored. False while its owner still needs it."""

    def status(self) -> tuple[int, int, str | None]:
        """`SourceStatus`."""


def records_from(source: Source, key: Key, start: int, most: int) -> Iterator[Read]:
    """The readable records of a segment from `start` on, up to `most` at once. A file that is stored and removed meanwhile ends them.
    Raises OSError."""
    while True:
        try:
            read = source.read(*key, start, most)
        except FileNotFoundError:
            return
        yield read
        if read[3] == start:
            return
        start = read[3]


class NoSegments:
    """A folder without segments."""

    def segments(self) -> list[tuple[int, int, int, bool, int, int | None]]:
        return []

    def read(self, life: int, slot: int, number: int, start: int, most: int) -> Read:
        return Entries([]), [], [], start, None

    def remove(self, life: int, slot: int, number: int) -> bool:
        return False

    def status(self) -> tuple[int, int, str | None]:
        return 0, 0, None
