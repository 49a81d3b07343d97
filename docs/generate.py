"""Writes what is made of tables: the pages of `docs/reference/` on command line, denials, metrics and settings, and the JSON
Schema that `aigw schema` prints. `make reference` runs it.

In: the tables, which are code and therefore true. Out: Markdown and JSON. A row added to a table is on its page without an edit here;
`tests/shape/test_reference.py` fails while a page says something else. It has no words of its own for a row, only for what
columns mean.
"""

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from aigw import _native
from aigw.cli import GROUPS, help_of
from aigw.cli.verbs.serve import serve
from aigw.config.schema import json_text
from aigw.settings import Settings, variable

ROOT: Final = Path(__file__).parents[1]
WIDTH: Final = 100
"""Of a terminal, in columns."""
MADE: Final = "<!-- Made by `make reference` from {source}. Edit that, not this page. -->\n"

# What a word of the denials' columns says to a reader; a new word stands for itself until it has an entry.
HEADERS: Final = {
    "None": "",
    "Challenge": "`WWW-Authenticate`",
    "Limits": "`X-RateLimit-*`, `RateLimit-*`, `Retry-After` (above 60 with `x-should-retry: false`), `X-AIGW-Limit`, `-Scope`, `-Reset`",
    "Upgrade": "`Upgrade`, or `Location` with a redirect status",
    "RetryAfter": "`Retry-After`",
    "Close": "`Connection: close`",
}
ADVICE: Final = {
    "Never": "change the request",
    "After": "after `Retry-After`",
    "Soon": "at once or with back-off: nothing was sent upstream",
    "Unsafe": "not by itself (`x-should-retry: false`): the upstream may have acted on it",
}


def table(head: list[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head)]
    lines += [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) + "\n" for line in lines)


def denials() -> str:
    rows = [
        (
            f"`{row['code']}`",
            row["status"],
            row["why"],
            row["message"],
            HEADERS.get(str(row["extra"]), row["extra"]),
            ADVICE.get(str(row["retry"]), row["retry"]),
        )
        for row in _native.denials()
    ]
    return (
        "# Denials\n\n"
        + MADE.format(source="`src/denial.rs`")
        + "\nEvery reason for which the gateway itself answers a request. The code is the label `reason` of `aigw_denials_total` and\n"
        "`denial` in the access log; status and message may be replaced by configuration (`error_code`, `error_message`).\n\n"
        + table(["Code", "Status", "When", "Message", "Headers", "Try again"], rows)
    )


def metrics() -> str:
    rows = [
        (f"`{row['name']}`", row["kind"], ", ".join(f"`{label}`" for label in labels(row)), row["help"])
        for row in _native.metrics_table()
    ]
    return (
        "# Metrics\n\n"
        + MADE.format(source="`src/telemetry/`")
        + "\nServed at `GET /metrics` of the Admin API, as sums over all workers; they survive workers that are killed. Over OTLP\n"
        "(`AIGW_OTLP_ENDPOINT`) the same, where counters have no `_total` at their end and `gen_ai_*` the names of OpenTelemetry's\n"
        "conventions: `gen_ai.client.token.usage` by `gen_ai.request.model`, `gen_ai.token.type` and `aigw.tier`.\n\n"
        + table(["Name", "Kind", "Labels", "What it is"], rows)
    )


def labels(row: dict[str, object]) -> list[str]:
    found = row["labels"]
    assert isinstance(found, list | tuple)
    return [str(label) for label in found]


def settings() -> str:
    options = inspect.signature(serve).parameters
    rows = []
    for setting in fields(Settings):
        about: dict[str, Any] = dict(setting.metadata)
        # The only default that depends on the machine.
        default = "cores" if setting.name == "workers" else about["default"]
        option = f"`--{setting.name.replace('_', '-')}`" if setting.name in options else ""
        rows.append((f"`{variable(setting.name)}`", option, f"`{default}`" if default else "", about["doc"]))
    return (
        "# Process settings\n\n"
        + MADE.format(source="`python/aigw/settings.py`")
        + "\nEach has a variable; those with an option of `aigw serve` take it from there first.\n\n"
        + table(["Variable", "Option", "Default", "What it is"], rows)
    )


def cli() -> str:
    parts = []
    for group, verbs in GROUPS.items():
        parts.append(f"\n## {group}\n")
        for verb in verbs:
            for one in (verb, *verb.more):
                told = help_of(one, WIDTH).rstrip()
                parts.append(f"\n{'##' + '#' * len(one.name.split())} aigw {one.name}\n\n```text\n{told}\n```\n")
    return (
        "# The command line\n\n"
        + MADE.format(source="`python/aigw/cli/`")
        + "\nExit codes: 0 fine, 1 failed, 2 usage or configuration error. Errors go to standard error and carry the repair. What a\n"
        "verb prints for programs goes to standard output alone; colours and bars are for terminals only, and `NO_COLOR` is heeded.\n"
        + "".join(parts)
    )


PAGES: Final[dict[str, Callable[[], str]]] = {
    "docs/reference/cli.md": cli,
    "docs/reference/denials.md": denials,
    "docs/reference/metrics.md": metrics,
    "docs/reference/settings.md": settings,
    "python/aigw/config/schema.json": json_text,
}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
