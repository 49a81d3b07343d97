"""Limits and prices in the words of `aigw tiers`."""

import pytest

from aigw.cli.verbs.tiers import limit_words, price_words
from aigw.types import JsonDict

SHARED: JsonDict = {"per": None, "burst": None, "scope": "consumer", "mode": "enforce"}


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"requests": 5, "per": "second", "burst": 10}, "5 requests/second (burst 10)"),
        ({"tokens": 50000, "per": "day"}, "50,000 tokens/day"),
        ({"input_tokens": 2**48, "per": "5h", "scope": "model"}, "281,474,976,710,656 input tokens/5h (by model)"),
        ({"output_tokens": 0, "per": "day", "mode": "shadow"}, "0 output tokens/day (shadow)"),
        ({"spend": 1.0, "per": "month"}, "$1/month"),
        ({"spend": 0.000000026, "per": "day"}, "$0.000000026/day"),
        ({"spend": 1250, "per": "month"}, "$1,250/month"),
        ({"concurrency": 2}, "2 at once"),
    ],
)
def test_limit_words_name_amount_and_period(limit: JsonDict, words: str) -> None:
    assert limit_words(SHARED | limit) == words


def test_price_words_keep_small_amounts() -> None:
    assert price_words({"input": 0.3, "output": 1.2, "request": 0.000001}) == "$0.3 in, $1.2 out, $0.000001/request"
