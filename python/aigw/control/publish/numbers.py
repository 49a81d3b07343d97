"""Numbers that outlive a configuration: of counter columns, of rows of metrics, and those that entries of the ledger name.

In: the stored numbers. Out: the number of a key; a new key gets the next one, and a number is never given twice.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

CALLS: Final = "calls"
LIMIT_SETS: Final = "limit_sets"


class Numbers:
    """Numbers by (kind, key), of counter columns or rows of metrics. A new key gets the next number, which stays in `fresh` until
    it is stored."""

    def __init__(self, known: dict[tuple[str, str], int]) -> None:
        self.known = known
        self.fresh: dict[tuple[str, str], int] = {}
        self._highest = max(known.values(), default=0)

    def of(self, key: str, kind: str) -> int:
        """The number."""
        n = self.known.get((kind, key))
        if n is None:
            n = self._highest = self._highest + 1
            self.known[kind, key] = self.fresh[kind, key] = n
        return n

    def take(self, more: Mapping[tuple[str, str], int], *, fresh: bool) -> None:
        """Add numbers; `fresh`: they are not stored yet."""
        self.known.update(more)
        if fresh:
            self.fresh.update(more)
        self.above(max(more.values(), default=0))

    def above(self, n: int) -> None:
        """Never give a number up to `n`."""
        self._highest = max(self._highest, n)

    def copy(self) -> "Numbers":
        """An independent copy."""
        numbers = Numbers(dict(self.known))
        numbers.above(self._highest)
        return numbers


class RowNumbers(NamedTuple):
    """Numbers that outlive every configuration and are named by entries of the ledger: of the upstreams of models, and of the sets of
    limits."""

    calls: Numbers
    limit_sets: Numbers

    @classmethod
    def empty(cls) -> "RowNumbers":
        """No number is given yet."""
        return cls(Numbers({}), Numbers({}))

    def take(self, calls: Mapping[str, int], limit_sets: Mapping[str, int]) -> None:
        """Add the stored numbers, by key."""
        for kind, numbers, stored in ((CALLS, self.calls, calls), (LIMIT_SETS, self.limit_sets, limit_sets)):
            numbers.take({(kind, key): n for key, n in stored.items()}, fresh=False)

    @property
    def fresh(self) -> dict[tuple[str, str], int]:
        """The numbers that are not stored yet."""
        return {key: n for numbers in self for key, n in numbers.fresh.items()}

    def keep(self) -> None:
        """The fresh numbers are stored."""
        for numbers in self:
            numbers.fresh.clear()
