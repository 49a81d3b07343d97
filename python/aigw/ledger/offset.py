"""The opaque `offset` of paged answers: the number of the last row that a program got, a digest of its query, and a check of that row.

In: the texts of a query string, and the rows that the ledger has now. Out: the number after which the page starts. A ledger that was
restored from a backup, or made again, gives the same numbers to other rows: the check tells, so a program that polls misses none in
silence. A row that retention deleted cannot be checked, and is no error.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from aigw.ledger.query import BadQuery
from aigw.types import JsonDict

MOST: Final = 96
"""Characters of an offset."""

Row = Callable[[int], object | None]
"""The identity of the row with a number; None: it is deleted."""


class Page(NamedTuple):
    """Rows of one page. `last`: the number after which the next page starts; `more`: whether there may be one now."""

    data: list[JsonDict]
    last: int
    more: bool


def offset_text(n: int, digest: str, row: Row) -> str:
    """The offset after row `n` of a query; 0: before the first row."""
    text = ".".join([str(n), digest, *_check(n, row)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def offset(query: Mapping[str, str], digest: str, newest: int, row: Row) -> int:
    """The number of the row after which the page starts; 0 without an offset. `newest`: the largest number so far. An offset of an
    earlier version has no check, and is compared with `newest` alone. Raises BadQuery."""
    text = query.get("offset")
    if text is None:
        return 0
    bad = f"'{text[:64]}' is not an offset: take it from the page before"
    try:
        if len(text) > MOST:
            raise BadQuery("offset", bad)
        known = base64.b64decode((text + "=" * (-len(text) % 4)).encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise BadQuery("offset", bad) from None
    number, of, *check = known.split(".") if known.count(".") in (1, 2) else ("", "")
    if not re.fullmatch(r"[0-9]{1,18}", number, re.ASCII) or not of:
        raise BadQuery("offset", bad)
    if of != digest:
        raise BadQuery("offset", "belongs to a query with other filters: begin that query without an offset")
    n = int(number)
    if n > newest or (check and (now := _check(n, row)) and check != now):
        raise BadQuery(
            "offset",
            "is older than this ledger, which was restored from a backup or made again: begin without an offset, and for entries"
            " with after set to the time of the restore",
        )
    return n


def _check(n: int, row: Row) -> list[str]:
    """One short text that differs for another row; nothing for a row that is deleted."""
    found = row(n) if n else None
    return [] if found is None else [hashlib.sha256(repr(found).encode()).hexdigest()[:12]]
