"""The ledger against itself: dense numbers of events, the entries of each segment, and rollups as sums of their events.

In: a connection, one consistent view. Out: differences in a `Report`. Events that retention has deleted are out of reach: their sums are
compared between the rollups that are kept.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from aigw.ledger.audit.report import MOST_ROWS, Report
from aigw.ledger.events import timestamp
from aigw.ledger.forgotten import Forgotten
from aigw.ledger.labels import Labels
from aigw.ledger.losses import DAMAGED, MISSING, Loss, OlderCopy, holes, is_accepted, lacking, read_losses, read_older
from aigw.ledger.retention import future_days, kept_since
from aigw.ledger.source import COSTED, OUTCOMES, OVERRUN, Key, segment_name
from aigw.ledger.sums import OF_EVENTS
from aigw.ledger.tables import FEW, KEYS, ROLLUPS, SUMS, cursors, doubts, events, minutes, totals
from aigw.types import JsonDict

NS: Final = 10**9
_UNITS: Final[Mapping[int, str]] = {60: "minute", 3600: "hour", 86400: "day"}
_KEYS: Final = ", ".join(KEYS)
_SUMS: Final = ", ".join(SUMS)
_FAR: Final = 86400 * 100_000
"""Unix seconds later than any event, at a midnight: the year 2243."""
_OF_ROLLUPS: Final = ", ".join(f"SUM({name})" for name in SUMS)


def check_ids(connection: sa.Connection, report: Report) -> None:
    """Events have dense numbers, and every segment has as many events as entries were read from it."""
    low, high, count = connection.execute(
        sa.select(sa.func.min(events.c.n), sa.func.max(events.c.n), sa.func.count())
    ).one()
    report.checked["entries"] = count
    if count and high - low + 1 != count:
        report.differ(
            {"check": "ids", "ledger": count, "expected": high - low + 1, "message": _lost(high - low + 1 - count)}
        )
    counted = sa.select(
        events.c.cursor, sa.func.count().label("found"), sa.func.count(events.c.sequence.distinct()).label("places")
    )
    stored = counted.group_by(events.c.cursor).subquery()
    query = sa.select(cursors, stored.c.found, stored.c.places).outerjoin(stored, stored.c.cursor == cursors.c.n)
    rows: dict[Key, sa.Row[Any]] = {}
    for row in connection.execute(query.order_by(cursors.c.life, cursors.c.slot, cursors.c.segment)):
        report.checked["segments"] += 1
        key = row.life, row.slot, row.segment
        rows[key], name = row, segment_name(key)
        found, places = row.found or 0, row.places or 0
        # Retention deletes the oldest events, and so the first ones of every segment that begins before the oldest event of now. Of a
        # segment of an earlier version nobody knows where it begins.
        is_whole = row.first >= (low or 1) if row.first else not row.entries or low == 1
        if (is_whole and found != row.entries) or places != found:
            report.differ(
                {
                    "check": "ids",
                    "segment": name,
                    "ledger": found,
                    "expected": row.entries,
                    "message": _lost(row.entries - found),
                }
            )
    forgotten = Forgotten.read(connection)
    losses = {key: loss for key, loss in read_losses(connection).items() if key not in forgotten}
    _check_segments(rows, losses, report)


def _check_segments(rows: Mapping[Key, sa.Row[Any]], losses: Mapping[Key, Loss], report: Report) -> None:
    """Segments are whole, and none is missing between others, or an operator has accepted the loss."""
    for key, row in rows.items():
        if row.damage is not None and not (row.done and is_accepted(losses, key, DAMAGED)):
            report.differ({"check": "segments", "segment": segment_name(key), "message": row.damage})
    for key in holes(rows):
        if not is_accepted(losses, key, MISSING):
            message = "the file was never read: it is missing"
            report.differ({"check": "segments", "segment": segment_name(key), "message": message})
    for key, loss in sorted(losses.items()):
        found = rows.get(key)
        if found is None:
            message = "none of its entries is in the ledger"
        elif not found.done:
            message = f"its entries from record {found.next} on are not in the ledger"
        elif found.damage is not None:
            message = found.damage
        else:
            continue  # it came back
        report.accept(segment_name(key), timestamp(loss.at), message)


def check_height(connection: sa.Connection, report: Report, had: int, unread: int) -> None:
    """The ledger has as many events as it had, with `unread` more in segments, or an operator has accepted the loss."""
    copies, newest = read_older(connection), int(connection.scalar(sa.select(sa.func.max(events.c.n))) or 0)
    if had > (has := newest + unread + lacking(copies)):
        copies.append(OlderCopy(had, has, 0))
    for copy in copies:
        if copy.accepted_at:
            report.accept("ledger.db", timestamp(copy.accepted_at), copy.message)
        else:
            report.differ(
                {"check": "ids", "ledger": copy.has, "expected": copy.had, "message": f"ledger.db: {copy.message}"}
            )


def _lost(events_lost: int) -> str:
    count = abs(events_lost)
    events_are = "1 event is" if count == 1 else f"{count} events are"
    return f"{events_are} {'there twice' if events_lost < 0 else 'missing'}"


def check_rollups(connection: sa.Connection, report: Report) -> None:
    """Every rollup is the sum of its events, and of the finer rollup."""
    since, labels, until = kept_since(connection), Labels(connection), _FAR
    days = ", ".join(map(str, future_days(connection)))
    finer: tuple[int, str] | None = None
    for unit, table in ROLLUPS.items():
        name = f"rollups_{_UNITS[unit]}"
        # Events are compared with the finest rollup that is kept of their time.
        low = max(_up(since["events"], unit * NS) // NS, _up(since[str(unit)], unit))
        if low < until:
            # The finer rollup may begin in the middle of this one's hour or day.
            end = _up(until, unit)
            kept = name, f"{_of_rollup(table.name, low, end)} AND start / 86400 NOT IN ({days})"
            _compare(connection, report, labels, unit, ("events", _of_events(unit, low, end, days)), kept)
            until = low
        if finer is not None:
            low = max(_up(since[str(finer[0])], unit), _up(since[str(unit)], unit))
            summed = f"SELECT start / {unit} * {unit}, {_KEYS}, {_OF_ROLLUPS} FROM {finer[1]} WHERE start >= {low} GROUP BY 1, {_KEYS}"  # noqa: S608
            _compare(connection, report, labels, unit, (finer[1], summed), (name, _of_rollup(table.name, low, _FAR)))
        finer = (unit, table.name)
        if table is minutes:
            low = since[str(unit)]
            few = ", ".join(key if key in FEW else f"0 AS {key}" for key in KEYS)
            summed = f"SELECT start, {few}, {_OF_ROLLUPS} FROM {name} WHERE start >= {low} GROUP BY 1, {', '.join(FEW)}"  # noqa: S608
            all_of = f"SELECT start, {few}, {_SUMS} FROM {totals.name} WHERE start >= {low}"  # noqa: S608
            _compare(connection, report, labels, unit, (name, summed), (totals.name, all_of))
        report.checked["rollups"] += int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def _of_events(unit: int, low: int, until: int, without: str) -> str:
    return (
        f"SELECT admitted_at / {unit * NS} * {unit} AS start, {_KEYS}, {', '.join(OF_EVENTS.values())} FROM events"  # noqa: S608
        f" WHERE admitted_at >= {low * NS} AND admitted_at < {until * NS} AND admitted_at / {86400 * NS} NOT IN ({without})"
        f" GROUP BY 1, {_KEYS}"
    )


def _of_rollup(table: str, low: int, until: int) -> str:
    return f"SELECT start, {_KEYS}, {_SUMS} FROM {table} WHERE start >= {low} AND start < {until}"  # noqa: S608


def _up(value: int, step: int) -> int:
    return value + -value % step


def _compare(
    connection: sa.Connection, report: Report, labels: Labels, unit: int, one: tuple[str, str], other: tuple[str, str]
) -> None:
    """Add a difference for each sum of a group that two queries disagree on."""
    (name, query), (other_name, other_query) = one, other
    sides: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}
    for side, first, second in ((name, query, other_query), (other_name, other_query, query)):
        text = f"SELECT * FROM (SELECT * FROM ({first}) EXCEPT SELECT * FROM ({second})) LIMIT {MOST_ROWS}"  # noqa: S608
        for row in connection.exec_driver_sql(text):
            sides.setdefault(tuple(row[: len(KEYS) + 1]), {})[side] = tuple(row[len(KEYS) + 1 :])
    nothing = (0,) * len(SUMS)
    for key, found in sides.items():
        a, b = found.get(name, nothing), found.get(other_name, nothing)
        for field, left, right in zip(SUMS, a, b, strict=True):
            if left != right:
                report.differ(
                    {"check": "rollups", **_place(labels, unit, key), "sum": field, name: left, other_name: right}
                )


def _place(labels: Labels, unit: int, key: tuple[int, ...]) -> JsonDict:
    group = {kind: labels.of(kind, n) for kind, n in zip(KEYS, key[1:], strict=True) if n}
    return {_UNITS[unit]: timestamp(key[0] * NS), **group}


def note_entries(connection: sa.Connection, report: Report) -> None:
    """Count the entries that people should know of."""
    crashed = OUTCOMES.index("crashed")
    query = f"SELECT SUM((flags & {OVERRUN}) != 0), SUM(outcome = {crashed}) FROM events"  # noqa: S608
    overruns, dead = connection.exec_driver_sql(query).one()
    unsure = connection.scalar(sa.select(sa.func.count(doubts.c.request_id.distinct())))
    report.notes = {"overruns": overruns or 0, "crashed": dead or 0, "unpriced": 0, "in_doubt": unsure or 0}
    labels = Labels(connection)
    for model, count in _unpriced(connection):
        report.unpriced.append({"model": labels.of("model", model), "entries": count})
        report.notes["unpriced"] += count


def _unpriced(connection: sa.Connection) -> Iterable[tuple[int, int]]:
    query = f"SELECT model, COUNT(*) FROM events WHERE model != 0 AND NOT flags & {COSTED} GROUP BY 1 ORDER BY 2 DESC"  # noqa: S608
    return ((model, count) for model, count in connection.exec_driver_sql(query))
