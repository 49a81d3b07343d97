"""`aigw check`: whether a configuration file can be used, and everything that is wrong with it."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from aigw.cli.arguments import FILE, Verb, output_option


@click.command(cls=Verb)
@click.argument("file", type=FILE, help="configuration file")
@output_option("table", "json")
@click.option("--progress/--no-progress", default=True, help="show progress on a terminal")
def check(file: Path, output: str, progress: bool) -> int:
    """Check a configuration file and list every error in it.

    Each error has its line, and its repair where there is one.

    Needs: the file, and every variable and file that it refers to. A
    running gateway is not needed, and nothing is changed.

    For example:

        aigw check tiers.yaml
        aigw check tiers.yaml --output json

    Exit codes: 0 when a gateway can use the file, 2 when it cannot.
    """
    with without_collector():
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


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Import without the garbage collector, and keep the imported objects out of its later runs, at the exit too."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
