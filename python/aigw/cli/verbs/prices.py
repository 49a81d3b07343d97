"""`aigw prices`: the versions of tiers' prices and models' costs."""

from pathlib import Path
from typing import Any

import click

from aigw.cli.arguments import FILE, Verb, admin_option, output_option
from aigw.cli.output import show_table
from aigw.cli.rows import FORMS, read, write
from aigw.cli.usage_source import of_folder, of_gateway
from aigw.ledger.query import PRICE_FIELDS
from aigw.types import JsonDict


@click.command(cls=Verb)
@click.option("--kind", metavar="KIND", help="cost (of models) or price (of tiers)")
@click.option("--model", metavar="NAME", help="only the costs of this model")
@click.option("--tier", metavar="NAME", help="only the prices of this tier")
@click.option(
    "--at", metavar="TIME", help="those in force at this time: a date as in 2026-11-01 (UTC), or unix seconds"
)
@click.option("--data", type=FILE, metavar="DIR", help="data folder to read; no gateway is asked")
@output_option(*FORMS, text="table for people; json, jsonl (a line for each version) and csv for programs")
@admin_option
@click.pass_context
def prices(ctx: click.Context, /, output: str, data: Path | None, admin: str | None, **query: str | None) -> int:
    """List the versions of tiers' prices and models' costs, with their times.

    Entries of the ledger name the version that they were priced with
    (price_version, cost_version). A version stays in the list when another
    one follows, and when the price is taken back. RATES has its fields as
    configuration files do: USD per million tokens of a class, USD for each
    request (request), a number of tokens (above.tokens), and factors on the
    whole price (service_tiers).

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token. With --data it reads the ledger of a data folder, whether its
    gateway runs or not.

    For example:

        aigw prices
        aigw prices --tier pro --output json
        aigw prices --at 2026-11-01
        aigw prices --data ./aigw-data --kind cost

    Exit codes: 0; 1 when the Admin API does not answer or refuses, or the
    ledger cannot be read; 2 for a wrong option, or a folder without a
    ledger.
    """
    if data is not None and admin is not None:
        raise click.UsageError("Give one of --data and --admin.", ctx)
    ask = of_gateway(admin) if data is None else of_folder(data)
    rows = read(ask, "prices", {name: value for name, value in query.items() if value is not None})
    if output == "table":
        show_table(["KIND", "OWNER", "ID", "VALID FROM", "VALID UNTIL", "RATES"], map(_line, rows))
    else:
        write(output, rows, PRICE_FIELDS)
    return 0


def _line(row: JsonDict) -> list[str | None]:
    return [row["kind"], row["owner"], row["id"], row["valid_from"], row["valid_until"], words(row["body"])]


def words(body: JsonDict) -> str:
    """A price in one line: `input=0.3 output=1.2 above.tokens=200000`."""
    return " ".join(f"{name}={value:g}" for name, value in _flat("", body))


def _flat(before: str, body: JsonDict) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in body.items():
        found += _flat(f"{before}{name}.", value) if isinstance(value, dict) else [(f"{before}{name}", value)]
    return found
