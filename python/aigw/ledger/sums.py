"""The SQL that adds events to their rollups, inside the transaction that stores the events.

In: the first event of a batch. Out: rows of minutes, hours and days, upserted; the range of times of each block. A batch is summed once,
by minute, and its hours and days are sums of that: SQLite does the work without Python's lock.
"""

from typing import Final

import sqlalchemy as sa

from aigw.ledger.source import COSTED, COUNTED, OUTCOMES, OVERRUN
from aigw.ledger.tables import BLOCK, FEW, KEYS, ROLLUPS, SUMS, totals

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

_KEYS: Final = ", ".join(KEYS)
_SUMS: Final = ", ".join(SUMS)
_ADD: Final = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
_BATCH: Final = (
    f"CREATE TEMP TABLE IF NOT EXISTS batch (start INTEGER, {', '.join(f'{name} INTEGER' for name in (*KEYS, *SUMS))})"
)
_BY_MINUTE: Final = (
    f"INSERT INTO temp.batch SELECT admitted_at / {60 * NS} * 60, {_KEYS}, {', '.join(OF_EVENTS.values())}"  # noqa: S608
    f" FROM events WHERE n >= ? GROUP BY 1, {_KEYS}"
)


def _upsert(table: str, seconds: int, keys: str = _KEYS) -> str:
    sums = ", ".join(f"SUM({name})" for name in SUMS)
    return (
        f"INSERT INTO {table} (start, {keys}, {_SUMS}) SELECT start / {seconds} * {seconds}, {keys}, {sums}"  # noqa: S608
        f" FROM temp.batch WHERE true GROUP BY 1, {keys} ON CONFLICT DO UPDATE SET {_ADD}"
    )


_UPSERTS: Final = [_upsert(table.name, seconds) for seconds, table in ROLLUPS.items()]
_UPSERTS.append(_upsert(totals.name, 60, ", ".join(FEW)))
_BLOCKS: Final = (
    f"INSERT INTO blocks (block, low, high) SELECT n >> {BLOCK}, MIN(admitted_at), MAX(admitted_at) FROM events WHERE n >= ?"  # noqa: S608
    " GROUP BY 1 ON CONFLICT DO UPDATE SET low = MIN(low, excluded.low), high = MAX(high, excluded.high)"
)
_DENIALS: Final = (
    "INSERT INTO denials (minute, consumer, tier, model, reason, count) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET count = count + excluded.count"
)


def add_events(connection: sa.Connection, first: int) -> None:
    """Add the events from `first` on, which no rollup has yet."""
    connection.exec_driver_sql(_BATCH)
    connection.exec_driver_sql("DELETE FROM temp.batch")
    connection.exec_driver_sql(_BY_MINUTE, (first,))
    for upsert in _UPSERTS:
        connection.exec_driver_sql(upsert)
    connection.exec_driver_sql(_BLOCKS, (first,))


def add_denials(connection: sa.Connection, rows: list[tuple[int, int, int, int, int, int]]) -> None:
    """Add refusals: (minute, consumer, tier, model, reason, count). `reason`: a number of `names`."""
    connection.exec_driver_sql(_DENIALS, rows)
