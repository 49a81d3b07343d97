"""Whether the write-ahead log beside a file of SQLite is that file's own.

In: the path of the file, before it is opened. Out: nothing, or doubt. A kill leaves the log, and an operator who then puts a backup in the
place of the file leaves it there, too: SQLite takes over its pages, and mixes two files into a broken one. The log tells by two signs that
the file has missed a checkpoint; SQLite does not promise either, so whoever has doubts must look at the pages themselves.
"""

import os
from pathlib import Path
from struct import unpack
from typing import BinaryIO, Final, NamedTuple

_HEADER: Final = 32
_FRAME: Final = 24
_MAGIC: Final = (0x377F0682, 0x377F0683)
_LEAST_PAGE: Final = 512
_COUNTER_AT: Final = 24
"""Bytes before the change counter in a file's first page."""


class Log(NamedTuple):
    """The committed part of a log."""

    page_bytes: int
    pages: set[int]
    """Numbers of the pages in it, from 1 on."""
    end: int
    """Pages of the file after it."""
    counters: list[int]
    """Change counters of the first page, as the log changed it."""


def log_of(path: Path) -> Path:
    """The log's path."""
    return path.with_name(f"{path.name}-wal")


def is_doubtful(path: Path) -> bool:
    """Whether a file seems to have missed changes between its state and the begin of its log. Raises OSError."""
    try:
        with path.open("rb") as file, log_of(path).open("rb") as log:
            found, head, size = _read(log), file.read(100), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return False
    if found is None or len(head) < 100:
        return False  # a log without a commit has no effect, and SQLite deletes that of an empty file
    first_missing = size // found.page_bytes + 1
    if any(page not in found.pages for page in range(first_missing, found.end + 1)):
        return True
    (counter,) = unpack(">I", head[_COUNTER_AT : _COUNTER_AT + 4])
    # A checkpoint that did not end the log leaves any state between.
    return bool(found.counters) and not found.counters[0] - 1 <= counter <= found.counters[-1]


def _read(log: BinaryIO) -> Log | None:
    """The log up to its last commit; None without one."""
    header = log.read(_HEADER)
    if len(header) < _HEADER:
        return None
    magic, _, page_bytes, _, *salts = unpack(">6I", header[:24])
    if magic not in _MAGIC or page_bytes < _LEAST_PAGE:
        return None
    found, pages, counters = Log(page_bytes, set(), 0, []), list[int](), list[int]()
    while len(frame := log.read(_FRAME)) == _FRAME:
        page, end, *of = unpack(">4I", frame[:16])
        if of != salts:
            break  # of the log before this one
        # SQLite writes a frame's header and its page by two writes: a kill or a full disk between them leaves a part.
        if len(body := log.read(page_bytes)) < page_bytes:
            break
        pages.append(page)
        if page == 1:
            counters += unpack(">I", body[_COUNTER_AT : _COUNTER_AT + 4])
        if end:
            found.pages.update(pages)
            found.counters.extend(counters)
            found = found._replace(end=end)
            pages.clear()
            counters.clear()
    return found if found.end else None
