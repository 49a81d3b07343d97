"""The patterns of tiers: names in which `*` stands for any characters.

In: patterns, a name. Out: whether one matches. Workers match with code of their own (`src/snapshot/policy/tier.rs`); this is for the check.
"""

import re
from collections.abc import Iterable


class Names:
    """The names that some patterns stand for. Each pattern is compiled once: 600 tiers of 600 models ask 720,000 times."""

    def __init__(self, patterns: Iterable[str]) -> None:
        listed = set(patterns)
        self._plain = frozenset(pattern for pattern in listed if "*" not in pattern)
        self._wild = [
            re.compile(".*".join(map(re.escape, pattern.split("*")))) for pattern in sorted(listed - self._plain)
        ]

    def __contains__(self, name: str) -> bool:
        return name in self._plain or any(pattern.fullmatch(name) for pattern in self._wild)
