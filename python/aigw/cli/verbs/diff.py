"""`aigw diff`: what a configuration file would change in a running gateway; decK's words and exit codes."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

from aigw.cli.admin_client import AdminApi, AdminOption, Rejected, segment
from aigw.cli.arguments import Parameter
from aigw.cli.output import Output, note, show_json
from aigw.errors import ConfigError

PATIENCE_S: Final = 120.0  # a hundred thousand consumers take seconds
SHOWN: Final = 200
_WORDS: Final = {"created": "creating", "updated": "updating", "deleted": "deleting"}


def diff(
    file: Annotated[Path, Parameter("configuration file")],
    *,
    non_zero_exit_code: Annotated[bool, Parameter("exit with 2 when something differs", negative=False)] = False,
    output: Output = "table",
    admin: AdminOption = None,
) -> int:
    """Tell what a configuration file would change in a running gateway.

    Nothing is changed. The gateway itself reads the text: its variables
    are used, and files in references are looked for where its own
    configuration file is. What the Admin API made and the file does not
    name stays, and is not told.

    Exit code 0; 2 with --non-zero-exit-code when something differs, and
    for a file with errors; 1 when nothing answers.

    For example:

        aigw diff gateway.yaml
        aigw diff gateway.yaml --non-zero-exit-code --output json
    """
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
        note(error.body.get("rendered", str(error)))  # an older gateway tells less
        return 2
    if output == "json":
        show_json(found)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
        if held := found["held"]:
            names = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
            note(
                f"note: {len(held)} of the file's entities are the Admin API's ({names}): "
                "the file can be used only after they were removed there"
            )
    return 2 if found["changes"] and non_zero_exit_code else 0


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The difference for a person."""
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
