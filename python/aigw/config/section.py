"""The section `consumers` of a file, where it is known already: the same bytes were read before, and are in force.

In: a file's bytes, and the facts of the known section. Out: its place in them. A file of 300,000 consumers whose tiers changed is read
around them, in a hundredth of the time. Invariant: a file reads the same either way. So a section that says more than its consumers (plugins,
references, warnings) is never known, and a file with any error is read whole, to explain it.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from aigw._native import FileConsumers, YamlDocument
from aigw.config.finding import Finding

NAME: Final = "consumers"
AT_LEAST: Final = 16384
"""Bytes: smaller sections are read in a few milliseconds."""
_KEY: Final = b"consumers:"
_LOOKS: Final = 3
"""Lines that are looked at as the beginning of the section: a text block may have such lines, too."""


@dataclass(frozen=True, slots=True)
class Section:
    """`length`: bytes, `nodes`: keys and values, `line`: of its key, from 1; `tiers`: names that its consumers refer to. `digest`: SHA-256 of
    its bytes; it tells of keys, so only an HMAC of it may be stored."""

    length: int
    nodes: int
    line: int
    tiers: tuple[str, ...]
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A section in force. `matches`: whether a digest is that of its bytes; `has`: whether it has a consumer with this username."""

    length: int
    nodes: int
    tiers: tuple[str, ...]
    matches: Callable[[bytes], bool]
    has: Callable[[str], bool]


def place_of(known: Known, data: bytes) -> tuple[int, Section] | None:
    """The first byte of the known section in these bytes, and the section there."""
    for start in _starts(data):
        if start + known.length > len(data):
            return None
        digest = _digest(data, start, known.length)
        if known.matches(digest):
            line = data.count(b"\n", 0, start) + 1
            return start, Section(known.length, known.nodes, line, known.tiers, digest)
    return None


def section_of(
    document: YamlDocument, data: bytes, consumers: FileConsumers, warnings: list[Finding]
) -> Section | None:
    """The section of a file without errors that was read whole, if another file may be read around it."""
    found = document.section(NAME)
    if found is None or found[1] - found[0] < AT_LEAST or consumers.with_plugins:
        return None
    start, end, nodes = found
    line = data.count(b"\n", 0, start) + 1
    last = line + data.count(b"\n", start, end)
    # An escape may stand for a sign of a reference.
    if (
        data.find(b"${", start, end) >= 0
        or data.find(b"\\", start, end) >= 0
        or any(line <= warning.line <= last for warning in warnings)
    ):
        return None
    return Section(end - start, nodes, line, tuple(consumers.tiers), _digest(data, start, end - start))


def _starts(data: bytes) -> Iterator[int]:
    at = 0 if data.startswith(_KEY) else data.find(b"\n" + _KEY) + 1
    for _ in range(_LOOKS):
        if at == 0 and not data.startswith(_KEY):
            return
        yield at
        following = data.find(b"\n" + _KEY, at)
        if following < 0:
            return
        at = following + 1


def _digest(data: bytes, start: int, length: int) -> bytes:
    with memoryview(data) as view:
        return hashlib.sha256(view[start : start + length]).digest()
