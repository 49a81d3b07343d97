"""The output of verbs: tables for people, JSON for programs.

A table is plain text with one row per line, so that grep and awk work on it. Colours appear on terminals only, and never
with NO_COLOR.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def show_json(data: Any) -> None:
    """One JSON value on standard output, indented."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def show_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; a dash stands for an empty cell."""
    table = [list(head), *([str(cell) if cell not in (None, "") else "-" for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def dollars(nanodollars: int) -> str:
    """Nano-dollars as USD without trailing zeros: `0.000026`."""
    return f"{nanodollars // 10**9:,}.{nanodollars % 10**9:09}".rstrip("0").rstrip(".")


def counted(count: int, one: str) -> str:
    """A number with its noun: `1 entry`, `2,000 entries`."""
    many = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    return f"{count:,} {one if count == 1 else many}"


def note(text: str) -> None:
    """A remark for people, on standard error."""
    sys.stderr.write(text + "\n")


def coloured(text: str, colour: str, to: TextIO) -> str:
    """`text` in a colour if `to` is a terminal and neither NO_COLOR nor TERM=dumb is set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not to.isatty():
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"
