"""Rows of the ledger on standard output: read page by page, and written while they are read.

In: rows of JSON. Out: one JSON array, a line for each row, or CSV; notes of the answer go to standard error, each once. A table is the
verb's own.
"""

import csv
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

from aigw.cli.output import note
from aigw.cli.usage_source import Asks, pages
from aigw.types import JsonDict

TICK_S: Final = 0.25
"""Seconds between two progress lines."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
FORMS: Final = ("table", "json", "jsonl", "csv")


def read(ask: Asks, question: str, query: dict[str, str]) -> Iterator[JsonDict]:
    """All rows; a terminal shows how many were read, and how long the next ones take."""
    for page in _pages(ask, question, query):
        yield from page


def read_in_pages(ask: Asks, question: str, query: dict[str, str], add: Callable[[list[JsonDict]], None]) -> None:
    """Give each page of rows to `add`; a terminal shows how many were read."""
    for page in _pages(ask, question, query):
        add(page)


def _pages(ask: Asks, question: str, query: dict[str, str]) -> Iterator[list[JsonDict]]:
    from aigw.serve.progress import Bar  # noqa: PLC0415  (start-up)

    bar, count, found = Bar(sys.stderr.isatty()), 0, pages(ask, question, query)
    told = set[str]()
    while True:
        with _ticking(bar, f"read {count:,} rows"):
            page = next(found, None)
        bar.clear()
        if page is None:
            return
        for text in page.get("notes", ()):
            if text not in told:
                note(text)
            told.add(text)
        yield page["data"]
        count += len(page["data"])


@contextmanager
def _ticking(bar: Callable[[str, int, int], None], stage: str) -> Iterator[None]:
    """Show the seconds since the block began, until it ends: sums over a long range come in one answer."""
    began, over = time.monotonic(), threading.Event()

    def run() -> None:
        while not over.wait(TICK_S):
            bar(f"{stage}, waiting {time.monotonic() - began:.0f} s for more", 0, 0)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def json_rows(rows: Iterable[JsonDict]) -> None:
    """One array, written while it is read."""
    before = "[\n"
    for row in rows:
        sys.stdout.write(f"{before}  {json.dumps(row, ensure_ascii=False)}")
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def jsonl_rows(rows: Iterable[JsonDict]) -> None:
    """One object for each line."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


def csv_rows(rows: Iterable[JsonDict], columns: Sequence[str]) -> None:
    """A header and a line for each row; null is empty. A name that a spreadsheet would compute has a ' in front. `columns`: of an answer
    without rows."""
    flat = ({**row.get("group", {}), **{name: value for name, value in row.items() if name != "group"}} for row in rows)
    first = next(flat, None)
    writer = csv.DictWriter(sys.stdout, list(columns if first is None else first), lineterminator="\n")
    writer.writeheader()
    for row in () if first is None else chain([first], flat):
        writer.writerow({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula. Names are the operator's, and a custom id may be its customer's."""
    if isinstance(value, bool | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write(form: str, rows: Iterable[JsonDict], columns: Sequence[str]) -> None:
    """Write rows as `json`, `jsonl` or `csv`. `columns`: names of a row's values, for the header of a CSV without rows."""
    if form == "csv":
        csv_rows(rows, columns)
    else:
        {"json": json_rows, "jsonl": jsonl_rows}[form](rows)
