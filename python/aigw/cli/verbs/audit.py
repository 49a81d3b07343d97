"""`aigw audit`: whether entries, rollups and counters tell the same story."""

import json
import sys
from pathlib import Path
from typing import Final

import click

from aigw.cli.admin_client import AdminApi
from aigw.cli.arguments import FILE, Verb, admin_option, output_option
from aigw.cli.output import counted, show_table
from aigw.cli.rows import write
from aigw.types import JsonDict

PATIENCE_S: Final = 600.0  # seconds: a year of events takes minutes
_WHERE: Final = ("consumer", "credential", "tier", "model", "route", "agent", "segment")
_SIDES: Final = (
    "ledger", "expected", "events", "rollups_minute", "rollups_hour", "rollups_day", "totals_minute", "counters", "held",
)  # fmt: skip
"""Sides of a comparison: those of a difference have their amounts."""


@click.command(cls=Verb)
@click.option("--data", type=FILE, metavar="DIR", help="data folder to read; no gateway is asked")
@output_option("table", "json", "csv", text="table for people; json and csv for programs, money in nano-dollars")
@admin_option
@click.pass_context
def audit(ctx: click.Context, /, output: str, data: Path | None, admin: str | None) -> int:
    """Compare the ledger with its rollups and with the counters of limits.

    It recounts every entry: numbers of entries without a gap, sums by
    minute, hour and day, and for each consumer, meter and current period
    the amount that the limits have counted. A difference is a row that
    says which side has which amount. It changes nothing, and calls may go
    on meanwhile. Unpriced, overrun and crashed entries are notes, not
    differences.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token. With --data it reads a data folder, whether its gateway runs or
    not.

    For example:

        aigw audit
        aigw audit --data ./aigw-data
        aigw audit --output json

    Exit codes: 0 when the books balance; 1 when they differ; 2 for a wrong
    option, or when the folder or the gateway cannot be read.
    """
    from aigw.errors import AigwError, explain  # noqa: PLC0415  (start-up)

    if data is not None and admin is not None:
        raise click.UsageError("Give one of --data and --admin.", ctx)
    try:
        found = _of_folder(data) if data is not None else AdminApi(admin, PATIENCE_S).get("/audit/ledger")
    except AigwError as error:
        sys.stderr.write(f"aigw: error: {explain(error)}\n")
        return 2
    if output == "json":
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    elif output == "csv":
        write("csv", map(_columns, found["differences"]), list(_columns({"check": ""})))
    else:
        _table(found)
    return 0 if found["equal"] else 1


def _of_folder(data: Path) -> JsonDict:
    from aigw.serve.audit import audit_folder  # noqa: PLC0415  (asking a gateway needs no SQL)
    from aigw.serve.progress import Bar  # noqa: PLC0415

    bar = Bar(sys.stderr.isatty())
    try:
        return audit_folder(data, bar).json()
    finally:
        bar.clear()


def _time_and_amount(row: JsonDict) -> tuple[str | None, str | None]:
    """The begin of the time that differs, and the sum or the meter."""
    time = next((row[name] for name in ("after", "minute", "hour", "day") if name in row), None)
    return time, row.get("sum") or " ".join(str(row[name]) for name in ("meter", "per") if name in row) or None


def _cells(row: JsonDict) -> JsonDict:
    """A difference as people read it."""
    time, amount = _time_and_amount(row)
    return {
        "check": row["check"],
        "where": ", ".join(f"{name} {row[name]}" for name in _WHERE if row.get(name) is not None) or None,
        "time": time,
        "amount": amount,
        "sides": ", ".join(f"{name} {row[name]:,}" for name in _SIDES if name in row) or None,
        "message": row.get("message"),
    }


def _columns(row: JsonDict) -> JsonDict:
    """A difference as programs read it: one column for each name and side, whole numbers without separators."""
    time, amount = _time_and_amount(row)
    return {
        "check": row["check"],
        **{name: row.get(name) for name in _WHERE},
        "time": time,
        "amount": amount,
        **{name: row.get(name) for name in _SIDES},
        "message": row.get("message"),
    }


def _table(found: JsonDict) -> None:
    checked, notes = found["checked"], found["notes"]
    if found["differences"]:
        rows = [_cells(row) for row in found["differences"]]
        show_table([name.upper() for name in rows[0]], (list(row.values()) for row in rows))
    total = len(found["differences"]) + found["unlisted_differences"]
    verdict = "The books balance" if found["equal"] else counted(total, "difference")
    of = ", ".join(counted(checked[f"{name}s"], name) for name in ("rollup", "counter"))
    print(
        f"{verdict}: {counted(checked['entries'], 'entry')} of {counted(checked['segments'], 'segment')}, {of} compared."
    )
    print(
        f"Notes: {notes['crashed']:,} crashed, {notes['overruns']:,} overrun, {notes['unpriced']:,} unpriced entries; "
        f"{counted(notes['in_doubt'], 'call')} whose worker died during the counting."
    )
    if unread := notes["unread"]:
        lie = "lies in a segment" if unread == 1 else "lie in segments"
        print(
            f"{counted(unread, 'entry')} {lie}, on top of those: a running gateway stores {'it' if unread == 1 else 'them'} within a second."
        )
    for one in found["unpriced"]:
        print(f"  model {one['model']} had no cost at admission: {counted(one['entries'], 'entry')}")
    for loss in found["accepted_losses"]:
        print(f"Accepted at {loss['accepted_at']} as lost: {loss['file']}: {loss['message']}.")
    for text in found["not_compared"]:
        print(f"Not compared: {text}.")
