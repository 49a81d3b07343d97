"""The YAML parser from Python: values, positions, and the bounds that only a release build reaches fast."""

import time

import pytest

from aigw._native import load_yaml

TEXT = b"""\
a: &one [1, 2.5, true, null, no, "\\u00e9"]
b: {c: *one, "d e": '${X}'}
"""


def test_load_yaml_returns_python_values() -> None:
    value = load_yaml(TEXT).value()
    assert value == {"a": [1, 2.5, True, None, "no", "é"], "b": {"c": [1, 2.5, True, None, "no", "é"], "d e": "${X}"}}
    assert isinstance(value, dict) and value["a"] is not value["b"]["c"]


def test_every_value_has_a_position() -> None:
    document = load_yaml(TEXT)
    assert document.mark(("b", "d e")) == (2, 21, 6)
    assert document.key_mark(("b", "d e")) == (2, 14, 5)
    assert document.mark(("b", "c", 4)) == (1, 30, 2)
    assert document.mark(()) == (1, 1, 1)
    assert (document.text(("b", "d e")), document.source_text(("b", "d e"))) == ("${X}", "'${X}'")
    assert document.text(("a", 1)) == "2.5"
    assert document.lines(("b",)) == [2, 2] and document.lines(("a",)) == [1] * 6 and document.lines(("a", 0)) == []
    assert document.containing("${") == [("b", "d e")]
    assert document.excerpt(2, 1, 100)[0] == TEXT.decode().splitlines()[1]
    for path in [("c",), ("a", 6), ("a", -1), ("a", "b"), ("b", "d e", "f")]:
        with pytest.raises(KeyError):
            document.mark(path)
    with pytest.raises(KeyError):
        document.key_mark(("a", 0))


def test_syntax_errors_have_a_position() -> None:
    with pytest.raises(ValueError) as found:
        load_yaml(b"a: b\nc: [1, 2\n")
    message, line, column, length, offset = found.value.args
    assert isinstance(message, str) and (line, column, length, offset) == (2, 4, 1, 8)
    text = b"a: {b: [x, {c: 1, c: {d: 1, d: 2}}], 2: y}\na: 99999999999999999999\nz: 99999999999999999999\nt: [!x y]\n"
    assert [(message.partition(":")[0], mark, path) for message, mark, path in load_yaml(text).problems] == [
        ("the key 'c' stands twice", (1, 19, 1), ("a", "b", 1, "c")),
        ("the key 'd' stands twice", (1, 29, 1), ("a", "b", 1, "d")),  # its parent is left out
        ("a key must be text", (1, 38, 1), ("a",)),
        ("the key 'a' stands twice", (2, 1, 1), ("a",)),
        ("a number beyond 64 bits", (2, 4, 20), ("a",)),
        ("a number beyond 64 bits", (3, 4, 20), ("z",)),
        ("tags are not supported", (4, 5, 2), ("t", 0)),
    ]


@pytest.mark.parametrize("piece", [b"a: b\n", b"[", b"'", b"? ", b"\t", b"\0\xff"])
def test_load_yaml_ends_soon_for_fifty_megabytes(piece: bytes) -> None:
    text = piece * (50_000_000 // len(piece))
    began = time.process_time()  # time of this process alone: other load on the machine must not count
    try:
        load_yaml(text)
    except ValueError as fault:
        assert len(fault.args) == 5
    assert time.process_time() - began < 20
