"""`aigw check`: whether a configuration file can be used, and everything that is wrong with it."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aigw.cli.arguments import FILE, Verb, output_option
from aigw.errors import ConfigError

if TYPE_CHECKING:
    from aigw.config import File


@click.command(cls=Verb)
@click.argument("file", type=FILE, help="configuration file")
@click.option("--strict", is_flag=True, help="refuse a file that has warnings, too")
@click.option("--data", type=FILE, metavar="FOLDER", help="data folder whose secret made the file's key_hash")
@output_option("table", "json")
@click.option("--progress/--no-progress", default=True, help="show progress on a terminal")
def check(file: Path, strict: bool, data: Path | None, output: str, progress: bool) -> int:
    """Check a configuration file and list every error in it.

    Each error has its line, and its repair where there is one. Warnings
    are about a file that a gateway can use, with parts that probably do
    not have the effect they should: a pattern that matches nothing, a feature
    that no model has, a price of input without one of output, a short key, a variable in another program's
    spelling, a total below a part of it, a key_hash of another secret.

    Needs: the file, and every variable and file that it refers to. A
    running gateway is not needed, and nothing is changed.

    For example:

        aigw check tiers.yaml
        aigw check tiers.yaml --strict --output json
        aigw check dump.yaml --data /var/lib/aigw

    Exit codes: 0 when a gateway can use the file, 2 when it cannot; with
    --strict 2 when it has warnings.
    """
    with without_collector():
        from aigw.config import ConfigErrors, mark_in, read, rendered  # noqa: PLC0415  (start-up of the other verbs)
        from aigw.serve.progress import Bar  # noqa: PLC0415

    mark = None if data is None else mark_in(data)
    if data is not None and mark is None:
        raise ConfigError(f"--data {data}: there is no secret that can be read: name the data folder of a gateway")
    bar = Bar(progress and sys.stderr.isatty())
    try:
        found = read(file, progress=bar, mark=mark)
    except ConfigErrors as errors:
        bar.clear()
        if output == "json":
            _json({"ok": False, "errors": [finding.as_dict() for finding in errors.findings], "warnings": []})
        sys.stderr.write(errors.rendered() + "\n")
        return 2
    bar.clear()
    return _report(found, output, rendered(found.warnings, "warning"), strict and bool(found.warnings))


def _report(found: "File", output: str, warnings: str, refused: bool) -> int:
    """Print the result; `warnings` are rendered."""
    counts = {
        "models": len(found.models),
        "tiers": len(found.tiers),
        **{kind: found.count(kind) for kind in ("services", "routes", "consumers")},
    }
    if output == "json":
        warned = [finding.as_dict() for finding in found.warnings]
        _json({"ok": not refused, "errors": [], "warnings": warned, "counts": counts})
    if warnings:
        sys.stderr.write(warnings + "\n")
    if output != "json" and not refused:
        number = len(found.warnings)
        fine = "fine" if not number else f"can be used, with {number} warning{'s' if number > 1 else ''}"
        sys.stdout.write(f"{found.name}: {fine}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()) + "\n")
    if refused:
        number = len(found.warnings)
        sys.stderr.write(
            f"{found.name}: --strict refuses it for {number} warning{'s' if number > 1 else ''}: a gateway can use the file\n"
        )
    return 2 if refused else 0


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
