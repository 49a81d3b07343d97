"""The sums of rollups: how they follow from events, and the SQL that adds those of a batch, inside the transaction that stores its events.

In: the sums of a batch by minute, hour and day, which native code made. Out: rows of the rollups, upserted; the range of times of each block.
`OF_EVENTS` says the same sums in SQL, for parts of a minute and for the audit, which compares both.
"""

from typing import Final

import sqlalchemy as sa

from aigw._native import EventRows
from aigw.ledger.source import COSTED, COUNTED, OUTCOMES, OVERRUN
from aigw.ledger.tables import FEW, KEYS, ROLLUPS, SUMS, totals

NS: Final = 10**9
_FAILED: Final = ", ".join(str(OUTCOMES.index(name)) for name in ("upstream_cut", "upstream_error", "crashed"))
OF_EVENTS: Final = {
    "requests": "COUNT(*)",
    "counted": f"SUM(flags & {COUNTED})",
    "errors": f"SUM(status >= 400 OR outcome IN ({_FAILED}))",
    **{name: f"SUM({name})" for name in SUMS[3:10]},
    "unpriced": f"SUM(model != 0 AND NOT flags & {COSTED})",
    "overruns": f"SUM((flags & {OVERRUN}) != 0)",
}
"""Each sum of a rollup as an aggregate over events. An error: a status of 400 and above, or an answer that the upstream did not finish."""
assert tuple(OF_EVENTS) == SUMS

_ADD: Final = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)


def _upsert(table: str, keys: tuple[str, ...] = KEYS) -> str:
    places = ", ".join("?" * (1 + len(keys) + len(SUMS)))
    return (
        f"INSERT INTO {table} (start, {', '.join(keys)}, {', '.join(SUMS)}) VALUES ({places})"  # noqa: S608
        f" ON CONFLICT DO UPDATE SET {_ADD}"
    )


_UPSERTS: Final = {seconds: _upsert(table.name) for seconds, table in ROLLUPS.items()}
_TOTALS: Final = _upsert(totals.name, FEW)
_BLOCKS: Final = (
    "INSERT INTO blocks (block, low, high) VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET low = MIN(low, excluded.low), high = MAX(high, excluded.high)"
)
_DENIALS: Final = (
    "INSERT INTO denials (minute, consumer, tier, model, reason, count) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)


def add_events(connection: sa.Connection, stored: EventRows) -> None:
    """Add events that no rollup has yet."""
    for seconds, upsert in _UPSERTS.items():
        connection.exec_driver_sql(upsert, stored.rollup(seconds))
    connection.exec_driver_sql(_TOTALS, stored.totals())
    connection.exec_driver_sql(_BLOCKS, stored.blocks())


def add_denials(connection: sa.Connection, rows: list[tuple[int, int, int, int, int, int]]) -> None:
    """Add refusals: (minute, consumer, tier, model, reason, count). `reason`: a number of `names`."""
    connection.exec_driver_sql(_DENIALS, rows)
