"""`aigw usage`: the ledger in sums by group, in refusals by group, or entry by entry."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from aigw.cli.arguments import FILE, Verb, admin_option, output_option
from aigw.cli.output import counted, dollars, note, show_table
from aigw.cli.rows import FORMS, read, read_in_pages, write
from aigw.cli.usage_source import Asks, of_folder, of_gateway
from aigw.ledger.query import EVENT_FIELDS
from aigw.types import JsonDict

DEFAULT_GROUPS: Final = {"usage": "consumer,model", "denials": "consumer,tier,model,reason"}
_NUMBERS: Final = {
    "requests": "REQUESTS", "errors": "ERRORS", "input_tokens": "INPUT", "cached_input_tokens": "CACHED",
    "cache_write_input_tokens": "WRITTEN", "output_tokens": "OUTPUT", "reasoning_tokens": "REASONING",
    "cost_nanodollars": "COST USD", "price_nanodollars": "PRICE USD", "unpriced": "UNPRICED", "overruns": "OVERRUNS",
    "denials": "DENIALS",
}  # fmt: skip
_RERATED: Final = {
    "requests": "REQUESTS", "cost_nanodollars": "COST USD", "rerated_cost_nanodollars": "RERATED",
    "cost_difference_nanodollars": "DIFFERENCE", "price_nanodollars": "PRICE USD", "rerated_price_nanodollars": "RERATED",
    "price_difference_nanodollars": "DIFFERENCE", "unpriced": "UNPRICED", "rerated_unpriced": "RERATED", "kept": "KEPT",
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
@click.option("--rerate", type=FILE, metavar="FILE", help="price the recorded tokens by this configuration file, too, and "
              "show both sums")  # fmt: skip
@click.option("--data", type=FILE, metavar="DIR", help="data folder to read; no gateway is asked")
@output_option(
    *FORMS, text="table for people; json, jsonl (a line for each row) and csv for programs, money in nano-dollars"
)
@admin_option
@click.pass_context
def usage(
    ctx: click.Context, /, output: str, data: Path | None, admin: str | None, rerate: Path | None, **query: Any
) -> int:
    """Show usage: requests, tokens, cost and price by group, or each entry.

    Every answer of an upstream is one entry of the ledger, and sums are
    sums of entries by the time of admission (UTC). An entry is in the
    ledger within a second. COST is what the models cost, PRICE is what the
    tiers charge; UNPRICED counts calls of models without a cost. Refusals
    are counted by minute: a minute counts in the range in which it begins.

    Remarks go to standard error: a range that is longer than the one asked
    for, since finer sums are deleted (ask for whole hours or days then);
    deleted entries; a name that the ledger has never seen.

    With --rerate nothing is changed: entries are read one by one, their
    tiers and models are matched with those of the file by name, and each
    entry whose tier or model the file lacks keeps its recorded amounts. Of
    the file the prices and costs are read, so variables and files that other
    parts refer to are not needed.

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
        aigw usage --rerate new.yaml --after 2026-11-01 --group-by tier

    Exit codes: 0; 1 when the Admin API does not answer or refuses, or the
    ledger cannot be read; 2 for a wrong option, or a folder without a
    ledger.
    """
    events, denials, groups = query.pop("events"), query.pop("denials"), query.pop("group_by")
    _check_options(ctx, events, denials, bool(groups), rerate is not None)
    if data is not None and admin is not None:
        raise click.UsageError("Give one of --data and --admin.", ctx)
    question = "events" if events else "denials" if denials else "usage"
    asked = {name: value for name, value in query.items() if value is not None}
    if not events:
        asked["group_by"] = ",".join(groups) or DEFAULT_GROUPS[question]
    ask = of_gateway(admin) if data is None else of_folder(data)
    if rerate is not None:
        _rerated(ask, rerate, asked, output)
        return 0
    rows, words = read(ask, question, asked), asked.get("group_by", "").split(",")
    if output == "table":
        _table(rows, question, words)
    else:
        write(output, rows, EVENT_FIELDS if events else (*words, *(("denials",) if denials else _NUMBERS)))
    return 0


def _check_options(ctx: click.Context, events: bool, denials: bool, groups: bool, rerate: bool) -> None:
    """Refuse options that contradict each other. Raises UsageError."""
    if events and denials:
        raise click.UsageError("Give one of --events and --denials.", ctx)
    if rerate and (events or denials):
        raise click.UsageError("--rerate shows sums: leave out --events and --denials.", ctx)
    if events and groups:
        raise click.UsageError("Entries have no groups: leave out --group-by or --events.", ctx)


def _table(rows: Iterable[JsonDict], question: str, groups: list[str]) -> None:
    if question == "events":
        show_table(list(_EVENT.values()), ([_cell(name, row[name]) for name in _EVENT] for row in rows))
        return
    _sums(list(rows), groups, _NUMBERS if question == "usage" else {"denials": _NUMBERS["denials"]})


def _sums(found: list[JsonDict], groups: list[str], numbers: Mapping[str, str]) -> None:
    """A line for each group, and their total."""
    lines = [[*(row["group"][word] for word in groups), *(_cell(n, row[n]) for n in numbers)] for row in found]
    if len(found) > 1:
        total = (_cell(name, sum(row[name] for row in found)) for name in numbers)
        lines.append(["total", *[""] * (len(groups) - 1), *total])
    show_table([*(word.upper() for word in groups), *numbers.values()], lines)


def _rerated(ask: Asks, file: Path, query: dict[str, str], output: str) -> None:
    """Sums at recorded and at the file's prices; remarks about entries that have no other price."""
    from aigw.cli.rerate import SUMS, Rerating  # noqa: PLC0415  (start-up: it reads configuration)
    from aigw.config import read_prices  # noqa: PLC0415

    groups = query.pop("group_by").split(",")
    rerating = Rerating(read_prices(file), groups)
    sums = ask("usage", query)
    known = sum(row["requests"] for row in sums["data"])
    read_in_pages(ask, "events", query, rerating.add)
    rows = rerating.rows()
    if output == "table":
        _sums(rows, groups, _RERATED)
    else:
        write(output, rows, (*groups, *SUMS))
    for (kind, name), count in sorted(rerating.lacking.items()):
        amount = "price" if kind == "tier" else "cost"
        keep = f"entry keeps its recorded {amount}" if count == 1 else f"entries keep their recorded {amount}"
        note(f"{file} has no {kind} '{name}': its {count:,} {keep}")
    if (lost := known - rerating.count) > 0:
        note(
            f"{counted(lost, 'older entry')} {'is' if lost == 1 else 'are'} deleted (ledger.events), and cannot be priced again: the"
            f" sums of {sums['after'] or 'all time'} up to {sums['before'] or 'now'} have {known:,}, and {rerating.count:,} are left"
        )


def _cell(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if name.endswith("_nanodollars"):
        return dollars(value) if value >= 0 else f"-{dollars(-value)}"
    return f"{value:,}" if isinstance(value, int | float) and name != "status" else str(value)
