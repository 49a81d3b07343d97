"""The patterns of tiers: names in which `*` stands for any characters.

In: a pattern, a name. Out: whether it matches. Workers match with code of their own (`src/snapshot/policy/tier.rs`); this is for the check.
"""

import re


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern stands for this name."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
