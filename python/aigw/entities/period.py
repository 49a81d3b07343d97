"""The period of a limit: a calendar word (UTC), or a duration as in 90s, 5h. The core parses it, as it does for workers.

In: the text of the configuration. Out: the checked text; its length; its canonical form, by which counter columns are named.
"""

from typing import Annotated, Final

from pydantic import AfterValidator

from aigw._native import Period
from aigw.schema.fields import shown, violation

WORDS: Final = tuple(Period.WORDS)
LONGEST_S: Final = Period("year").seconds
"""Seconds of the longest period."""


def longest(per: str) -> int:
    """Seconds of a period; of a month and a year the longest."""
    return Period(per).seconds


def canonical_per(per: str) -> str:
    """The calendar word, also of a duration of its length; else the duration in whole seconds."""
    return Period(per).canonical


def _per(value: str) -> str:
    try:
        period = Period(value)
    except ValueError:
        period = None
    if period is None or str(period) != value or period.seconds > LONGEST_S:
        raise violation(f"expected one of: {', '.join(WORDS)}, or a duration of at most 366d as in 90s, 5h")
    return value


Per = Annotated[
    str,
    AfterValidator(_per),
    shown(pattern=f"^({'|'.join(WORDS)}|[1-9][0-9]{{0,7}}s|[1-9][0-9]{{0,5}}m|[1-9][0-9]{{0,3}}h|[1-9][0-9]{{0,2}}d)$"),
]
