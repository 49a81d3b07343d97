"""`aigw dump`: the configuration in force in a running gateway, as a configuration file."""

import json
import sys
from pathlib import Path
from typing import Final

import click

from aigw.cli.admin_client import AdminApi
from aigw.cli.arguments import FILE, Verb, admin_option, output_option
from aigw.cli.output import note
from aigw.cli.yaml_writer import to_yaml

PATIENCE_S: Final = 120.0  # seconds: a configuration of 100,000 consumers takes some


@click.command(cls=Verb)
@output_option("yaml", "json", text="form of the file; JSON is valid YAML")
@click.option("--output-file", "-o", type=FILE, help="file to write instead of standard output")
@admin_option
def dump(output: str, output_file: Path | None, admin: str | None) -> int:
    """Print the configuration in force as a configuration file.

    It has the entities of the file and of the Admin API; `aigw check`
    accepts it. It has no secrets: a key is written as the reference that
    the file has (${VAR}) or as its HMAC (key_hash), which only this data
    folder understands. An upstream key in plain text becomes a variable.

    Needs: a running gateway; AIGW_ADMIN_TOKEN where its Admin API has a
    token.

    For example:

        aigw dump > gateway.yaml
        aigw dump --output json -o gateway.json

    Exit codes: 0, or 1 when the Admin API does not answer or refuses.
    """
    api = AdminApi(admin, PATIENCE_S)
    found = api.get("/config")
    if output == "json":
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    else:
        text = f"# Configuration in force in the gateway at {api.address}.\n{to_yaml(found)}"
    if "${AIGW_UPSTREAM_KEY_" in text:
        note(
            "note: upstream keys in plain text are variables here (AIGW_UPSTREAM_KEY_...): set them before you use the file;"
            " for aigw diff, in the gateway's environment"
        )
    if output_file is None:
        sys.stdout.write(text)
    else:
        output_file.write_text(text, encoding="utf-8")
    return 0
