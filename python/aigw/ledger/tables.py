"""The tables of `ledger.db`, as SQLAlchemy Core sees them. `migrations/` makes the same tables step by step; a test compares both.

An event is an entry with the numbers that the worker wrote; `names` has their names. `n` is the order of arrival: it grows by one with each
event and never returns, because retention keeps the newest event. `cursors` has one row for each segment, which also names the segment
of an event. Rollups hold sums of all events ever, by the start of their minute, hour or day (UTC) of admission.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

HEAD: Final = "0004"
"""The newest migration. Opening a file of another revision migrates it."""
BUCKET: Final = 16
"""Bits of `n` below a part of the index of requests: parts of 65,536 events stay in the cache while they are written."""
BLOCK: Final = 12
"""Bits of `n` below a row of `blocks`: 4,096 events, as many as a segment has."""

metadata: Final = MetaData()

meta: Final = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

names: Final = Table(
    "names",
    metadata,
    Column("kind", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("key", Text, nullable=False),  # the entity's id, or the text that the number stands for
    Column("name", Text, nullable=False),  # the name known last
    Column("gone", Integer, nullable=False, server_default=text("0")),  # 1: no entity has this number any more
    PrimaryKeyConstraint("kind", "n"),
    Index("names_by_name", "kind", "name"),
    sqlite_with_rowid=False,
)

cursors: Final = Table(
    "cursors",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("life", BigInteger, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("segment", Integer, nullable=False),
    Column("next", Integer, nullable=False),  # the next record to read
    Column("done", Integer, nullable=False),  # 1: every record is stored
    Column("entries", Integer, nullable=False),  # entries among the stored records; the others are refusals
    Column("damage", Text),  # the fault that ended the segment early
    Column(
        "first", Integer, nullable=False, server_default=text("0")
    ),  # number of its first event; 0: it has none, or is older
    UniqueConstraint("life", "slot", "segment"),
)

events: Final = Table(
    "events",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("cursor", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("admitted_at", BigInteger, nullable=False),  # unix nanoseconds
    Column("duration", BigInteger, nullable=False),  # nanoseconds until the entry's end
    Column("request_id", LargeBinary, nullable=False),
    Column("parent", LargeBinary),
    Column("run", LargeBinary),
    *(
        Column(name, Integer, nullable=False)
        for name in ("consumer", "credential", "tier", "route", "model", "upstream", "service", "agent", "status",
                     "attempt", "depth", "outcome", "source", "flags", "input", "cached_input", "cache_write", "output",
                     "reasoning", "price", "cost", "price_version", "cost_version", "latency_us", "first_byte_us", "queued_us",
                     "limit_set")
    ),
    *(
        Column(name, Integer, nullable=False, server_default=text("0"))
        for name in ("image_input", "audio_input", "image_output", "audio_output", "service_tier")
    ),
    Index("events_by_request", text(f"(n >> {BUCKET})"), text("(substr(request_id, 11))")),
)  # fmt: skip

blocks: Final = Table(
    "blocks",
    metadata,
    Column("block", Integer, primary_key=True),
    Column("low", BigInteger, nullable=False),  # the earliest admission in it, unix nanoseconds
    Column("high", BigInteger, nullable=False),
)

prices: Final = Table(
    "prices",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("id", Text, nullable=False),  # as events have it
    Column("kind", Text, nullable=False),  # cost, price
    Column("owner", Text, nullable=False),  # the name of a model or of a tier
    Column("body", Text, nullable=False),  # JSON as configuration files have it
    Column("compiled", Text, nullable=False),  # JSON as workers have it
    Column("valid_from", BigInteger, nullable=False),  # unix nanoseconds
    Column("valid_until", BigInteger),  # null: in force
    Index("prices_by_id", "id"),
)

KEYS: Final = ("consumer", "credential", "tier", "route", "model", "agent")
"""Numbers by which rollups are kept."""
SUMS: Final = ("requests", "counted", "errors", "input", "cached_input", "cache_write", "output", "reasoning", "cost", "price",
               "unpriced", "overruns")  # fmt: skip
"""Sums of a rollup. `requests`: events; `counted`: those that count in windows; `unpriced`: calls of models without a cost."""


FEW: Final = ("tier", "route", "model", "agent")
"""Numbers by which `totals_minute` is kept: entities of the configuration, which are few, while consumers are many."""


def _rollups(name: str, keys: tuple[str, ...] = KEYS) -> Table:
    columns = [Column(key, Integer, nullable=False) for key in ("start", *keys)]
    columns += [Column(one, BigInteger, nullable=False) for one in SUMS]
    return Table(name, metadata, *columns, PrimaryKeyConstraint("start", *keys), sqlite_with_rowid=False)


minutes: Final = _rollups("rollups_minute")
hours: Final = _rollups("rollups_hour")
days: Final = _rollups("rollups_day")
ROLLUPS: Final[Mapping[int, Table]] = {60: minutes, 3600: hours, 86400: days}
"""Rollups by their seconds, finest first."""
totals: Final = _rollups("totals_minute", FEW)
"""The minutes of all consumers together."""

denials: Final = Table(
    "denials",
    metadata,
    *(Column(name, Integer, nullable=False) for name in ("minute", "consumer", "tier", "model", "reason")),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("minute", "consumer", "tier", "model", "reason"),
    sqlite_with_rowid=False,
)

doubts: Final = Table(
    "doubts",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("column_n", Integer, nullable=False),
    Column("row_n", Integer, nullable=False),
    Column("window_end", BigInteger, nullable=False),  # unix seconds
    Column("amount", BigInteger, nullable=False),
)
"""Amounts that a counter may have too much, since a worker died in the middle of an operation."""
