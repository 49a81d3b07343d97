"""`aigw schema`: the JSON Schema of the configuration file, for editors.

It prints the file that `make reference` made: building all models to say the same would take ten times as long.
"""

import sys
from pathlib import Path
from typing import Final

import click

from aigw.cli.arguments import Verb

MADE: Final = Path(__file__).parents[2] / "config" / "schema.json"


@click.command(cls=Verb)
def schema() -> int:
    """Print the JSON Schema (2020-12) of the configuration file.

    An editor completes and checks a configuration file whose first line
    is `# yaml-language-server: $schema=aigw.schema.json`.

    Needs: nothing.

    For example:

        aigw schema > aigw.schema.json

    Exit codes: 0.
    """
    sys.stdout.buffer.write(MADE.read_bytes())
    sys.stdout.flush()
    return 0
