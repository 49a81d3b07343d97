"""`aigw dump`: the configuration in force in a running gateway, as a configuration file."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from aigw.errors import UpstreamBroken

PATIENCE_S: Final = 120.0


def dump(
    *,
    admin: Annotated[str | None, Parameter(help="HOST:PORT of the gateway's Admin API")] = None,
    output: Annotated[Literal["yaml", "json"], Parameter(help="form of the file; JSON is YAML, too")] = "yaml",
    output_file: Annotated[
        Path | None, Parameter(name=["--output-file", "-o"], help="file to write, in place of standard output")
    ] = None,
) -> int:
    """Print everything in force, of the file and of the Admin API, as one configuration file that `aigw check` accepts.

    Secrets are never in it: a key is the reference that the file has for it (${VAR}), or its hash under the data folder's
    secret (key_hash). An upstream's key that the file holds in plain text becomes a variable to be set.

    Exit code 0, or 1 when nothing answers.
    """
    import orjson  # noqa: PLC0415  (start-up of the other verbs)

    from aigw.cli.client import call  # noqa: PLC0415
    from aigw.cli.yaml import written  # noqa: PLC0415

    answer = call(admin, "/config", patience_s=PATIENCE_S)
    try:
        found: dict[str, Any] = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise UpstreamBroken(f"what answers at {answer.address} is no Admin API of aigw") from None
    if output == "json":
        text = orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    else:
        text = f"# What is in force in the gateway at {answer.address}.\n{written(found)}"
    if b"${AIGW_UPSTREAM_KEY_" in answer.body:
        sys.stderr.write(
            "note: keys that the file holds in plain text are variables here, AIGW_UPSTREAM_KEY_...: set them\n"
        )
    if output_file is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        output_file.write_text(text, encoding="utf-8")
    return 0
