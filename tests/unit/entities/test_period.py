"""Periods of limits: their length, their canonical form, and texts that are refused."""

import pytest
from pydantic import TypeAdapter, ValidationError

from aigw._native import Period
from aigw.entities.period import LONGEST_S, Per, canonical_per, longest

DAY = 86_400


def test_period_has_its_longest_length_and_canonical_form() -> None:
    lengths = {"second": 1, "minute": 60, "hour": 3600, "day": DAY, "month": 31 * DAY, "year": 366 * DAY}
    assert list(lengths) == Period.WORDS
    assert {word: longest(word) for word in lengths} == lengths
    assert {per: (longest(per), canonical_per(per)) for per in ("90s", "15m", "5h", "7d")} == {
        "90s": (90, "90s"), "15m": (900, "900s"), "5h": (18_000, "18000s"), "7d": (7 * DAY, f"{7 * DAY}s"),
    }  # fmt: skip
    for word, texts in {
        "second": ["1s"],
        "minute": ["60s", "1m"],
        "hour": ["3600s", "60m", "1h"],
        "day": ["24h", "1d"],
    }.items():
        assert [canonical_per(text) for text in [word, *texts]] == [word] * (len(texts) + 1), "one length, one column"
    assert canonical_per("30d") != "month"
    assert str(Period("5h")) == "5h"


@pytest.mark.parametrize("per", ["1s", "366d", "31622400s", "month"])
def test_limit_takes_period(per: str) -> None:
    assert TypeAdapter(Per).validate_python(per) == per
    assert longest(per) <= LONGEST_S


@pytest.mark.parametrize(
    "per", ["", "0s", "05h", "367d", "31622401s", "5w", "Day", "1.5h", "-1s", "5h ", "\u0665h", "fortnight"]
)
def test_limit_refuses_period(per: str) -> None:
    with pytest.raises(ValidationError, match="or a duration of at most 366d"):
        TypeAdapter(Per).validate_python(per)
