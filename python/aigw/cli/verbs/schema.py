"""`aigw schema`: the JSON Schema of the configuration file, for editors.

It prints the file that `make reference` made: building all models to say the same would take ten times as long.
"""

import sys
from pathlib import Path
from typing import Final

MADE: Final = Path(__file__).parents[2] / "config" / "schema.json"


def schema() -> int:
    """Print the JSON Schema (2020-12) of the configuration file.

    Editors complete and check by it when the first line of the file is
    `# yaml-language-server: $schema=aigw.schema.json`.

    For example:

        aigw schema > aigw.schema.json
    """
    sys.stdout.buffer.write(MADE.read_bytes())
    sys.stdout.flush()
    return 0
