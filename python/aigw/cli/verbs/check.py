"""`aigw check`: whether a configuration file can be used, and everything that is wrong with it."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from aigw.cli.arguments import Parameter


def check(
    file: Annotated[Path, Parameter("configuration file")],
    /,
    *,
    output: Annotated[Literal["table", "json"], Parameter("for people, or for programs")] = "table",
    progress: Annotated[bool, Parameter("show progress of long work on a terminal")] = True,
) -> int:
    """Say whether a configuration file can be used, and all that is wrong with it.

    Nothing is changed. Exit code 0, or 2 with every error on standard
    error, each with its line and what to do.

    For example:

        aigw check tiers.yaml
        aigw check tiers.yaml --output json
    """
    from aigw.config import ConfigErrors, read  # noqa: PLC0415  (start-up of the other verbs)
    from aigw.serve.progress import Bar  # noqa: PLC0415

    bar = Bar(progress and sys.stderr.isatty())
    try:
        found = read(file, progress=bar)
    except ConfigErrors as errors:
        bar.clear()
        if output == "json":
            _json({"ok": False, "errors": [finding.as_dict() for finding in errors.findings]})
        sys.stderr.write(errors.rendered() + "\n")
        return 2
    bar.clear()
    counts = {
        "models": len(found.models),
        "tiers": len(found.tiers),
        **{kind: found.count(kind) for kind in ("services", "routes", "consumers")},
    }
    if output == "json":
        _json({"ok": True, "errors": [], "counts": counts})
    else:
        sys.stdout.write(f"{found.name}: fine: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()) + "\n")
    return 0


def _json(data: object) -> None:
    import orjson  # noqa: PLC0415

    sys.stdout.buffer.write(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()
