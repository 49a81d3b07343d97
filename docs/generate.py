"""Writes the generated pages: `docs/reference/` for command line, denials, metrics and settings, and the JSON Schema that
`aigw schema` prints. `make reference` runs it.

In: the tables in the code. Out: Markdown and JSON. A row added to a table appears on its page without an edit here, and
`tests/shape/test_reference.py` fails while a page is stale. This file explains columns only; all text about rows is in the tables.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import click

from aigw import _native
from aigw.cli.verbs import GROUPS, aigw
from aigw.cli.verbs.serve import OPTIONS
from aigw.config.schema import json_text
from aigw.settings import STANDARD, Settings, variable

ROOT: Final = Path(__file__).parents[1]
WIDTH: Final = 100
"""Columns of the terminal that help texts are formatted for."""
MADE: Final = "<!-- Made by `make reference` from {source}. Edit the source, not this page. -->\n"

# Text for the values in the denial table's columns. A value without an entry is printed unchanged.
HEADERS: Final = {
    "None": "",
    "Challenge": "`WWW-Authenticate`",
    "Limits": "`X-RateLimit-*`, `RateLimit-*`, `Retry-After` (with `x-should-retry: false` above 60, and of spent money),"
    " `X-AIGW-Limit`, `-Scope`, `-Reset`",
    "Upgrade": "`Upgrade`, or `Location` with a redirect status",
    "RetryAfter": "`Retry-After`",
    "Close": "`Connection: close`",
}
ADVICE: Final = {
    "Never": "change the request",
    "After": "after `Retry-After`",
    "Soon": "at once or with back-off: nothing was sent upstream",
    "Operator": "not automatically (`x-should-retry: false` on `/v1`): only the operator can mend it",
    "Unsafe": "not automatically (`x-should-retry: false`): the upstream may have acted on it",
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
        + MADE.format(source="`src/refusal/reason.rs`")
        + "\nAll reasons for which the gateway refuses or fails a request itself. The code is the label `reason` of `aigw_denials_total` and\n"
        "`denial` in the access log. Configuration can replace status and message (`error_code`, `error_message`).\n\n"
        + table(["Code", "Status", "When", "Message", "Headers", "Retry"], rows)
    )


def metrics() -> str:
    rows = [
        (f"`{row['name']}`", row["kind"], ", ".join(f"`{label}`" for label in labels(row)), row["help"])
        for row in _native.metrics_table()
    ]
    return (
        "# Metrics\n\n"
        + MADE.format(source="`src/telemetry/`")
        + "\n`GET /metrics` of the Admin API serves them as sums over all workers; they survive killed workers. OTLP\n"
        "(`AIGW_OTLP_ENDPOINT`) exports the same metrics: counters without the suffix `_total`, and `gen_ai_*` with the names of\n"
        "OpenTelemetry's conventions: `gen_ai.client.token.usage` by `gen_ai.request.model`, `gen_ai.token.type` and `aigw.tier`.\n"
        "[guides/logs-and-metrics.md](../guides/logs-and-metrics.md) has queries.\n\n"
        + table(["Name", "Type", "Labels", "Meaning"], rows)
    )


def access_log() -> str:
    rows = [
        (f"`{name}`", "left out" if optional else "null", about)
        for name, about, optional in _native.access_log_fields()
    ]
    return (
        "# The access log\n\n"
        + MADE.format(source="`src/io/access_log.rs`")
        + "\nOne JSON object a line for each request, in the order of their ends, to the file of `--access-log` (`AIGW_ACCESS_LOG`).\n"
        "Lines hold no key, no query and no header. A line that cannot be written is dropped and counted (`aigw_access_log_dropped_total`).\n\n"
        + table(["Field", "Without a value", "Meaning"], rows)
    )


def labels(row: dict[str, object]) -> list[str]:
    found = row["labels"]
    assert isinstance(found, list | tuple)
    return [str(label) for label in found]


def settings() -> str:
    rows = []
    for setting in fields(Settings):
        about: dict[str, Any] = dict(setting.metadata)
        # The only default that depends on the machine.
        default = "cores" if setting.name == "workers" else about["default"]
        option = f"`--{setting.name.replace('_', '-')}`" if setting.name in OPTIONS else ""
        rows.append((f"`{variable(setting.name)}`", option, f"`{default}`" if default else "", about["doc"]))
    return (
        "# Process settings\n\n"
        + MADE.format(source="`python/aigw/settings.py`")
        + "\nEach setting has an environment variable. An option of `aigw serve` takes precedence over its variable.\n\n"
        + table(["Variable", "Option", "Default", "Meaning"], rows)
        + "\n## Variables of other programs\n\nThe gateway honours them for its upstreams. The proxies' names also work in lower case. "
        "A proxy of another kind than `http://` (`https://`, `socks5://`) is refused at start.\n\n"
        + table(["Variable", "Meaning"], [(f"`{name}`", about) for name, about in STANDARD.items()])
    )


def cli() -> str:
    root = click.Context(
        aigw, info_name="aigw", **{**aigw.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    )
    parts = []
    for group, names in GROUPS.items():
        parts.append(f"\n## {group}\n")
        for name in names:
            parts += helps(aigw.get_command(root, name), root)
    return (
        "# The command line\n\n"
        + MADE.format(source="`python/aigw/cli/`")
        + "\nExit codes: 0 success, 1 failure, 2 usage or configuration error. Errors go to standard error and name the repair. Output\n"
        "for programs goes to standard output alone. Colours and progress bars appear on terminals only, and `NO_COLOR` is respected.\n"
        + "".join(parts)
    )


def helps(command: click.Command | None, parent: click.Context) -> Iterable[str]:
    """The help of a verb, then of the verbs below it."""
    assert command is not None
    ctx = click.Context(command, parent=parent, info_name=command.name)
    depth = "##" + "#" * len(ctx.command_path.split()[1:])
    yield f"\n{depth} {ctx.command_path}\n\n```text\n{command.get_help(ctx).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from helps(below, ctx)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "docs/reference/access-log.md": access_log,
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
