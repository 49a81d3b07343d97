"""`aigw schema`: the JSON Schema of the configuration file, for editors."""

import sys


def schema() -> int:
    """Print the JSON Schema (2020-12) of the configuration file.

    Editors complete and check by it when the first line of the file is
    `# yaml-language-server: $schema=aigw.schema.json`.

    For example:

        aigw schema > aigw.schema.json
    """
    import orjson  # noqa: PLC0415  (start-up of the other verbs)

    from aigw.config import json_schema  # noqa: PLC0415

    sys.stdout.buffer.write(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()
    return 0
