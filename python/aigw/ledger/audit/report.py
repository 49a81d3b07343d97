"""The answer of an audit. In: differences and counts, as the checks find them. Out: JSON, the same for `aigw audit` and `GET /audit/ledger`."""

from dataclasses import dataclass, field
from typing import Final

from aigw.types import JsonDict

MOST_ROWS: Final = 1000
"""Differences that are listed; the others are counted."""


@dataclass(slots=True)
class Report:
    """Differences are faults of the books. Notes are entries that people should know of: they are right, and no difference."""

    differences: list[JsonDict] = field(default_factory=list)
    unlisted: int = 0
    checked: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("entries", "segments", "rollups", "counters"), 0)
    )
    notes: dict[str, int] = field(default_factory=dict)
    unpriced: list[JsonDict] = field(default_factory=list)
    """Models without a cost, and the number of their calls."""
    not_compared: list[str] = field(default_factory=list)
    accepted_losses: list[JsonDict] = field(default_factory=list)
    """Losses that an operator has accepted: `{file, accepted_at, message}`."""

    def differ(self, row: JsonDict) -> None:
        """Add a difference."""
        if len(self.differences) < MOST_ROWS:
            self.differences.append(row)
        else:
            self.unlisted += 1

    def accept(self, file: str, at: str, message: str) -> None:
        """Add an accepted loss."""
        self.accepted_losses.append({"file": file, "accepted_at": at, "message": message})

    @property
    def equal(self) -> bool:
        """Whether the books balance."""
        return not self.differences

    def json(self) -> JsonDict:
        """`{equal, checked, differences, unlisted_differences, notes, unpriced, not_compared, accepted_losses}`."""
        return {
            "equal": self.equal,
            "checked": self.checked,
            "differences": self.differences,
            "unlisted_differences": self.unlisted,
            "notes": self.notes,
            "unpriced": self.unpriced,
            "not_compared": self.not_compared,
            "accepted_losses": self.accepted_losses,
        }
