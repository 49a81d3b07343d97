"""Printed YAML reads back as the same value."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw._native import load_yaml
from aigw.cli.yaml_writer import to_yaml

TEXTS = [
    "",
    "a",
    "yes",
    "No",
    "null",
    "~",
    "1",
    "1e3",
    "0x1f",
    "-",
    "a: b",
    "a #b",
    "*",
    "{x}",
    "[",
    "'",
    '"',
    "\n",
    "é",
    "90s",
]
TEXTS += [
    "2026-01-01",
    ".5",
    ".inf",
    "-1",
    "@a",
    "`",
    "%",
    "!t",
    "&a",
    "|",
    ">",
    "?",
    ",",
    "http://127.0.0.1:1/v1",
    "\x7f",
    "\u2028",
    "\U0001f600",
    "\ufeff",
    "a\tb",
    "a\nb",
    "a\nb\n",
    "a\n\nb",
    "a\n b",
    "# x\ny \n",
    "a\nb\n\n",
]


def test_the_writer_uses_blocks_and_short_flow() -> None:
    tier = {
        "limits": [{"requests": 100, "per": "day"}, {"requests": 5, "per": "second", "burst": 10}],
        "allow": {"features": ["standard"], "models": ["*"], "parameters": {"tools": False}},
        "timeouts": {"total": "60s"},
    }
    assert to_yaml({"free": tier, "none": {"limits": []}}) == (
        "free:\n"
        "  limits:\n"
        "    - {requests: 100, per: day}\n"
        "    - {requests: 5, per: second, burst: 10}\n"
        "  allow:\n"
        "    features: [standard]\n"
        '    models: ["*"]\n'
        "    parameters: {tools: false}\n"
        "  timeouts: {total: 60s}\n"
        "none: {limits: []}\n"
    )


@pytest.mark.parametrize("text", TEXTS)
def test_the_writer_quotes_text_that_looks_like_another_type(text: str) -> None:
    assert load_yaml(to_yaml({"x": text, "y": [text, {"z": text}]}).encode()).value() == {
        "x": text,
        "y": [text, {"z": text}],
    }
    if text:
        assert load_yaml(to_yaml({text: 1}).encode()).value() == {text: 1}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e9, 1e9)
    | st.text("aé:#-{}[]'\"\n 0", max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab: -", min_size=1, max_size=4), inner, max_size=4)
    ),
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), VALUES, max_size=4))
def test_the_reader_gets_every_value_back(value: dict[str, Any]) -> None:
    assert load_yaml(to_yaml(value).encode()).value() == value
