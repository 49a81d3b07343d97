"""`aigw diff`: what a configuration file would change in a running gateway; decK's words and exit codes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from cyclopts import Parameter

from aigw.cli.admin import AdminApi, AdminOption
from aigw.cli.output import Output
from aigw.errors import AigwError

PATIENCE_S: Final = 120.0  # a hundred thousand consumers take seconds
SHOWN: Final = 200
_WORDS: Final = {"created": "creating", "updated": "updating", "deleted": "deleting"}


def diff(
    file: Annotated[Path, Parameter(help="configuration file")],
    /,
    *,
    non_zero_exit_code: Annotated[bool, Parameter(help="exit with 2 when something differs", negative="")] = False,
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

        aigw diff tiers.yaml
        aigw diff tiers.yaml --non-zero-exit-code --output json
    """
    import orjson  # noqa: PLC0415  (start-up of the other verbs)

    try:
        data = file.read_bytes()
    except OSError as error:
        sys.stderr.write(f"aigw: {file}: cannot be read: {error.strerror or error}\n")
        return 2
    api = AdminApi(admin, PATIENCE_S)
    taken, found = api.post_yaml(f"/config/diff?file={quote(str(file), safe='')}", data or b"\n")
    if not taken:
        return _wrong(found, output)
    if output == "json":
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
        if held := found["held"]:
            names = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
            sys.stderr.write(
                f"note: {len(held)} of the file's entities are the Admin API's ({names}): "
                "the file can be used only after they were removed there\n"
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
    import orjson  # noqa: PLC0415

    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _wrong(found: dict[str, Any], output: str) -> int:
    import orjson  # noqa: PLC0415

    errors = found.get("errors")
    if errors is None:
        raise AigwError(str(found.get("message")))
    if output == "json":
        sys.stdout.buffer.write(orjson.dumps({"ok": False, "errors": errors}, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    for error in errors:
        place = f"{error['file']}:{error['line']}:{error['col']}: " if error["line"] else f"{error['file']}: "
        hint = f"; did you mean '{error['suggestion']}'?" if error["suggestion"] else ""
        sys.stderr.write(f"{place}{error['path'] + ': ' if error['path'] else ''}{error['message']}{hint}\n")
    return 2
