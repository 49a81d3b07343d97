"""`aigw usage`: the ledger in sums by group, in refusals by group, or entry by entry."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click

from aigw.cli.arguments import FILE, Verb, admin_option, output_option
from aigw.cli.output import dollars, show_table
from aigw.cli.usage_source import Asks, of_folder, of_gateway, pages
from aigw.types import JsonDict

DEFAULT_GROUPS: Final = {"usage": "consumer,model", "denials": "consumer,tier,model,reason"}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
FORMS: Final = ("table", "json", "jsonl", "csv")
_NUMBERS: Final = {
    "requests": "REQUESTS", "errors": "ERRORS", "input_tokens": "INPUT", "cached_input_tokens": "CACHED",
    "cache_write_input_tokens": "WRITTEN", "output_tokens": "OUTPUT", "reasoning_tokens": "REASONING",
    "cost_nanodollars": "COST USD", "price_nanodollars": "PRICE USD", "unpriced": "UNPRICED", "overruns": "OVERRUNS",
    "denials": "DENIALS",
}  # fmt: skip
_EVENT: Final = {
    "admitted_at": "ADMITTED AT", "consumer": "CONSUMER", "tier": "TIER", "model": "MODEL", "route": "ROUTE", "status": "STATUS",
    "outcome": "OUTCOME", "input_tokens": "INPUT", "cached_input_tokens": "CACHED", "cache_write_input_tokens": "WRITTEN",
    "output_tokens": "OUTPUT", "reasoning_tokens": "REASONING", "price_nanodollars": "PRICE USD", "latency_ms": "MS",
    "request_id": "REQUEST",
}  # fmt: skip


@click.command(cls=Verb)
@click.option("--group-by", multiple=True, metavar="WORD", help="consumer, credential, tier, model, route, agent, and one of "
              "minute, hour, day, month  [default: consumer model]")  # fmt: skip
@click.option("--after", metavar="TIME", help="from this time on: a date as in 2026-11-01 (UTC), or unix seconds")
@click.option("--before", metavar="TIME", help="up to this time, excluded")
@click.option("--consumer", metavar="NAME", help="only of this consumer, by name or id")
@click.option("--model", metavar="NAME", help="only of this model")
@click.option("--tier", metavar="NAME", help="only in this tier")
@click.option("--events", is_flag=True, help="each entry, oldest first, in place of sums")
@click.option("--denials", is_flag=True, help="refusals, by consumer, tier, model, reason and time, in place of usage")
@click.option("--data", type=FILE, metavar="DIR", help="data folder to read; no gateway is asked")
@output_option(
    *FORMS, text="table for people; json, jsonl (a line for each row) and csv for programs, money in nano-dollars"
)
@admin_option
@click.pass_context
def usage(ctx: click.Context, /, output: str, data: Path | None, admin: str | None, **query: Any) -> int:
    """Show usage: requests, tokens, cost and price by group, or each entry.

    Every answer of an upstream is one entry of the ledger, and sums are
    sums of entries by the time of admission (UTC). An entry is in the
    ledger within a second. COST is what the models cost, PRICE is what the
    tiers charge; UNPRICED counts calls of models without a cost.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token. With --data it reads the ledger of a data folder, whether its
    gateway runs or not.

    For example:

        aigw usage
        aigw usage --group-by consumer month --after 2026-11-01 --output csv
        aigw usage --consumer alice --group-by day model
        aigw usage --events --consumer alice --output jsonl
        aigw usage --denials --group-by tier reason
        aigw usage --data ./aigw-data --output json

    Exit codes: 0; 1 when the Admin API does not answer or refuses, or the
    ledger cannot be read; 2 for a wrong option, or a folder without a
    ledger.
    """
    events, denials, groups = query.pop("events"), query.pop("denials"), query.pop("group_by")
    if events and denials:
        raise click.UsageError("Give one of --events and --denials.", ctx)
    if events and groups:
        raise click.UsageError("Entries have no groups: leave out --group-by or --events.", ctx)
    if data is not None and admin is not None:
        raise click.UsageError("Give one of --data and --admin.", ctx)
    question = "events" if events else "denials" if denials else "usage"
    asked = {name: value for name, value in query.items() if value is not None}
    if not events:
        asked["group_by"] = ",".join(groups) or DEFAULT_GROUPS[question]
    ask = of_gateway(admin) if data is None else of_folder(data)
    rows = _read(ask, question, asked)
    if output == "table":
        _table(rows, question, asked.get("group_by", "").split(","))
    else:
        {"json": _json, "jsonl": _jsonl, "csv": _csv}[output](rows)
    return 0


def _read(ask: Asks, question: str, query: dict[str, str]) -> Iterator[JsonDict]:
    """All rows; a terminal shows how many were read."""
    from aigw.serve.progress import Bar  # noqa: PLC0415  (start-up)

    bar, count = Bar(sys.stderr.isatty()), 0
    try:
        for page in pages(ask, question, query):
            bar.clear()
            yield from page
            count += len(page)
            bar(f"read {count:,} rows", 0, 0)
    finally:
        bar.clear()


def _json(rows: Iterable[JsonDict]) -> None:
    """One array, written while it is read."""
    before = "[\n"
    for row in rows:
        sys.stdout.write(f"{before}  {json.dumps(row, ensure_ascii=False)}")
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def _jsonl(rows: Iterable[JsonDict]) -> None:
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


def _csv(rows: Iterable[JsonDict]) -> None:
    """A header and a line for each row; null is empty. A name that a spreadsheet would compute has a ' in front."""
    flat = ({**row.get("group", {}), **{name: value for name, value in row.items() if name != "group"}} for row in rows)
    first = next(flat, None)
    if first is None:
        return
    writer = csv.DictWriter(sys.stdout, list(first), lineterminator="\n")
    writer.writeheader()
    for row in chain([first], flat):
        writer.writerow({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula. Names are the operator's, and a custom id may be its customer's."""
    if isinstance(value, bool):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _table(rows: Iterable[JsonDict], question: str, groups: list[str]) -> None:
    if question == "events":
        show_table(list(_EVENT.values()), ([_cell(name, row[name]) for name in _EVENT] for row in rows))
        return
    found = list(rows)
    numbers = _NUMBERS if question == "usage" else {"denials": _NUMBERS["denials"]}
    lines = [[*(row["group"][word] for word in groups), *(_cell(n, row[n]) for n in numbers)] for row in found]
    if len(found) > 1:
        total = (_cell(name, sum(row[name] for row in found)) for name in numbers)
        lines.append(["total", *[""] * (len(groups) - 1), *total])
    show_table([*(word.upper() for word in groups), *numbers.values()], lines)


def _cell(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if name.endswith("_nanodollars"):
        return dollars(value)
    return f"{value:,}" if isinstance(value, int | float) and name != "status" else str(value)
