"""`aigw diff`: the changes that a configuration file would make to a running gateway, in decK's words and exit codes."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from aigw.cli.admin_client import AdminApi, Rejected, segment
from aigw.cli.arguments import FILE, Verb, admin_option, output_option
from aigw.cli.output import note, show_json
from aigw.errors import ConfigError

PATIENCE_S: Final = 120.0  # seconds: a file of 100,000 consumers takes some
SHOWN: Final = 200
_WORDS: Final = {"created": "creating", "updated": "updating", "deleted": "deleting"}


@click.command(cls=Verb)
@click.argument("file", type=FILE, required=False, metavar="FILE", help="configuration file")
@click.option("--file", "named", type=FILE, metavar="FILE", help="the file, given by name")
@click.option("--non-zero-exit-code", is_flag=True, help="exit with 2 when the file would change something")
@output_option("table", "json")
@admin_option
@click.pass_context
def diff(
    ctx: click.Context,
    file: Path | None,
    named: Path | None,
    non_zero_exit_code: bool,
    output: str,
    admin: str | None,
) -> int:
    """Show the changes that a configuration file would make to a running gateway.

    The gateway reads the file's text with its own variables, and looks
    for the files that it refers to in the folder of its own configuration
    file. Entities that only the Admin API has would stay, and are not
    listed. Nothing is changed.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token.

    For example:

        aigw diff gateway.yaml
        aigw diff gateway.yaml --non-zero-exit-code --output json

    Exit codes: 0, or with --non-zero-exit-code 2 when the file would
    change something; 2 for a file with errors; 1 when the Admin API does
    not answer or refuses.
    """
    file, more = (named, None) if file is None else (file, named)
    if file is None or more is not None:
        raise click.UsageError("Give one configuration file: FILE, or --file FILE.", ctx)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None
    try:
        found = AdminApi(admin, PATIENCE_S).post(f"/config/diff?file={segment(str(file))}", data or b"\n")
    except Rejected as error:
        if "errors" not in error.body:
            raise
        if output == "json":
            show_json({"ok": False, "errors": error.body["errors"]})
        note(error.body.get("rendered", str(error)))  # an older gateway sends no `rendered`
        return 2
    if output == "json":
        show_json(found)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
        if held := found["held"]:
            names = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
            note(
                f"note: {len(held)} of the file's entities exist in the Admin API ({names}): "
                "delete them there before you use the file"
            )
    return 2 if found["changes"] and non_zero_exit_code else 0


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The difference in lines for people."""
    for number, change in enumerate(found["changes"]):
        if number == SHOWN:
            yield f"... and {len(found['changes']) - SHOWN} more"
            break
        yield f"{_WORDS[change['action']]} {change['kind']} {change['name']}".rstrip()
        if change["action"] == "updated":
            for field in change["fields"]:
                yield from (
                    f"  {sign} {field['field']}: {_text(field[side])}"
                    for sign, side in (("-", "before"), ("+", "after"))
                    if field[side] is not None
                )
    summary = found["summary"]
    if found["changes"]:
        yield ""
    yield f"Summary: Created: {summary['created']} Updated: {summary['updated']} Deleted: {summary['deleted']}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
