"""`aigw tiers`: all tiers in words, or one tier in the form of the configuration file."""

import sys
from decimal import Decimal
from typing import Any, Final

import click

from aigw.cli.admin_client import PAGE, AdminApi, NotThere, segment
from aigw.cli.arguments import OUTPUT_HELP, Verb, admin_option
from aigw.cli.output import show_json, show_table
from aigw.cli.yaml_writer import to_yaml
from aigw.types import JsonDict

HEAD: Final = ("TIER", "CONSUMERS", "LIMITS", "ALLOWED", "PRICE")
_SHARED: Final = {"per", "burst", "window", "scope", "mode"}
"""Fields of a limit that are no meter."""
_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


@click.command(cls=Verb)
@click.argument("name", required=False, help="name of one tier; without it all are listed")
@click.option(
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    help=f"{OUTPUT_HELP}, yaml for the file  [default: table; yaml for one tier]",
)
@admin_option
def tiers(name: str | None, output: str | None, admin: str | None) -> int:
    """List the tiers with their limits, gates and prices, or show one tier.

    The YAML of a tier can stand below `tiers:` in a configuration file.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token.

    For example:

        aigw tiers
        aigw tiers free
        aigw tiers --output json

    Exit codes: 0, or 1 when the tier does not exist or the Admin API does
    not answer or refuses.
    """
    api = AdminApi(admin)
    if name is None:
        found = {str(tier.pop("name")): tier for tier in api.pages("/tiers")}
    else:
        try:
            found = {name: api.get(f"/tiers/{segment(name)}")}
        except NotThere:
            raise NotThere(f"no tier '{name}': aigw tiers lists them") from None
    form = output or ("table" if name is None else "yaml")
    if form == "table":
        show_table(HEAD, [_row(tier, spec, *_consumers(api, tier)) for tier, spec in found.items()])
    elif form == "yaml":
        sys.stdout.write(to_yaml(_without_nulls(found)) if found else "")
    elif name is None:
        rows = [(tier, *_consumers(api, tier), spec) for tier, spec in found.items()]
        show_json([{"name": tier, "consumers": n, "more_consumers": more, **spec} for tier, n, more, spec in rows])
    else:
        show_json({"name": name, **found[name]})
    return 0


def limit_words(limit: JsonDict) -> str:
    """A limit in words: `5 requests/second (burst 10)`, `$1/month`, `2 at once`. A meter is every field that no other meter shares."""
    amounts = [_amount(name, value) for name, value in limit.items() if name not in _SHARED and value is not None]
    text = " and ".join(amounts) + (f"/{limit['per']}" if limit.get("per") else "")
    more = [f"burst {limit['burst']}"] if limit.get("burst") else []
    more += [f"by {limit['scope']}"] if limit["scope"] != "consumer" else []
    more += ["shadow"] if limit["mode"] == "shadow" else []
    return f"{text} ({', '.join(more)})" if more else text


def _amount(meter: str, value: object) -> str:
    if meter == "spend":
        return _usd(value)
    return f"{_number(value)} {'at once' if meter == 'concurrency' else meter.replace('_', ' ')}"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _usd(value: object) -> str:
    """USD with as many decimals as the value has: `$0.000026`."""
    whole, _, rest = f"{Decimal(str(value)):,f}".partition(".")
    return f"${whole}.{rest.rstrip('0')}".rstrip(".")


def gate_words(spec: JsonDict) -> str:
    """The allowed features and models, and the caps of a call."""
    allow = spec["allow"]
    parts = [] if allow["features"] == ["*"] else [f"features {'+'.join(allow['features']) or 'none'}"]
    parts += [] if allow["models"] == ["*"] else [f"models {'+'.join(allow['models']) or 'none'}"]
    for name, value in allow["parameters"].items():
        if value is False:
            parts.append(f"no {name}")
        elif value is not None and value is not True:
            parts.append(f"{name} <= {value}")
    if most := spec["prompt"]["max_bytes"]:
        parts.append(f"body <= {_size(most)}")
    if most := spec["prompt"]["max_tokens"]:
        parts.append(f"prompt <= {most:,} tokens")
    if most := spec["output"]["max_tokens"]:
        parts.append(f"output <= {most:,} tokens")
    if (most := spec["request"]["max_spend"]) is not None:
        parts.append(f"call <= {_usd(most)}")
    return ", ".join(parts) or "everything"


def price_words(price: JsonDict | None) -> str:
    """USD per million tokens, and per request."""
    if price is None:
        return ""
    parts = f"{_usd(price['input'])} in, {_usd(price['output'])} out"
    return parts + (f", {_usd(price['request'])}/request" if price["request"] else "")


def _row(name: str, spec: JsonDict, consumers: int, more: bool) -> tuple[str, str, str, str, str]:
    limits = ", ".join(map(limit_words, spec["limits"])) or "none"
    return name, f"{consumers}{'+' if more else ''}", limits, gate_words(spec), price_words(spec["price"])


def _consumers(api: AdminApi, tier: str) -> tuple[int, bool]:
    """Consumers of a tier up to one page, and whether there are more. Counting all of 100,000 would take 100 requests."""
    page = api.get(f"/consumer_groups/{segment(tier)}/consumers?size={PAGE}")
    return len(page["data"]), page.get("next") is not None


def _size(size: int) -> str:
    unit, scale = next((u for u in _SIZES if size >= u[1] and size % u[1] == 0), ("bytes", 1))
    return f"{size // scale} {unit}"


def _without_nulls(value: Any) -> Any:
    """The value without members that are null."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
