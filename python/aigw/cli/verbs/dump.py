"""`aigw dump`: the configuration in force in a running gateway, as a configuration file."""

import json
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

from aigw.cli.admin_client import AdminApi, AdminOption
from aigw.cli.arguments import Parameter
from aigw.cli.output import note
from aigw.cli.yaml_writer import to_yaml

PATIENCE_S: Final = 120.0


def dump(
    *,
    output: Annotated[Literal["yaml", "json"], Parameter("form of the file; JSON is YAML, too")] = "yaml",
    output_file: Annotated[
        Path | None, Parameter("file to write, in place of standard output", ("--output-file", "-o"))
    ] = None,
    admin: AdminOption = None,
) -> int:
    """Print the configuration in force as a configuration file.

    All of it, of the file and of the Admin API; `aigw check` accepts it.
    Secrets are never in it: a key is the reference that the file has for
    it (${VAR}), or its hash under the data folder's secret (key_hash). An
    upstream's key that the file holds in plain text becomes a variable.

    Exit code 0, or 1 when nothing answers.

    For example:

        aigw dump > gateway.yaml
        aigw dump --output json -o gateway.json
    """
    api = AdminApi(admin, PATIENCE_S)
    found = api.get("/config")
    if output == "json":
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    else:
        text = f"# What is in force in the gateway at {api.address}.\n{to_yaml(found)}"
    if "${AIGW_UPSTREAM_KEY_" in text:
        note(
            "note: keys that the file holds in plain text are variables here, AIGW_UPSTREAM_KEY_...:"
            " set them where this is used (for aigw diff in the gateway's own environment)"
        )
    if output_file is None:
        sys.stdout.write(text)
    else:
        output_file.write_text(text, encoding="utf-8")
    return 0
