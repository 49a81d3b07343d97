"""`aigw dump`: the configuration in force in a running gateway, as a configuration file."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from aigw.cli.admin import AdminApi, AdminOption
from aigw.cli.yaml import to_yaml

PATIENCE_S: Final = 120.0


def dump(
    *,
    output: Annotated[Literal["yaml", "json"], Parameter(help="form of the file; JSON is YAML, too")] = "yaml",
    output_file: Annotated[
        Path | None, Parameter(name=["--output-file", "-o"], help="file to write, in place of standard output")
    ] = None,
    admin: AdminOption = None,
) -> int:
    """Print what is in force in a running gateway as a configuration file.

    It is everything, of the file and of the Admin API, in a form that
    `aigw check` accepts. Secrets are never in it: a key is the reference
    that the file has for it (${VAR}), or its hash under the data
    folder's secret (key_hash). An upstream's key that the file holds in
    plain text becomes a variable to be set.

    Exit code 0, or 1 when nothing answers.

    For example:

        aigw dump > tiers.yaml
        aigw dump --output json | jq .tiers.free
    """
    import orjson  # noqa: PLC0415  (start-up of the other verbs)

    api = AdminApi(admin, PATIENCE_S)
    found: dict[str, Any] = api.get("/config")
    if output == "json":
        text = orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    else:
        text = f"# What is in force in the gateway at {api.address}.\n{to_yaml(found)}"
    if "${AIGW_UPSTREAM_KEY_" in text:
        sys.stderr.write(
            "note: keys that the file holds in plain text are variables here, AIGW_UPSTREAM_KEY_...: set them\n"
        )
    if output_file is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        output_file.write_text(text, encoding="utf-8")
    return 0
