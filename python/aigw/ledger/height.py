"""The number of events that the ledger had, kept beside it: a `ledger.db` that has fewer is an older copy.

In: the number of the newest event and of all that older copies lost, every few seconds. Out: a small file in the data folder, outside of the
folder `ledger`, so a restore of the ledger leaves it alone. It follows each commit and is never ahead of one. Whoever loses it loses this check
and nothing else, so its own faults are no faults of the ledger.
"""

import contextlib
from pathlib import Path
from typing import Final

FILE: Final = "ledger-entries"
"""The file in the data folder: the store's id, and the number."""


class Height:
    """The file. Raises nothing."""

    def __init__(self, ledger: Path, store_id: str) -> None:
        """`ledger`: the path of `ledger.db`."""
        self._path = ledger.parent.parent / FILE
        self._store_id = store_id

    def read(self) -> int:
        """The number; 0 where nobody knows it."""
        try:
            store_id, _, number = self._path.read_text("ascii").partition(" ")
        except (OSError, UnicodeDecodeError):
            return 0
        return int(number) if store_id == self._store_id and number.isdecimal() else 0

    def write(self, number: int) -> None:
        """Keep the number in the place of the one before."""
        draft = self._path.with_name(f"{FILE}.new")
        with contextlib.suppress(OSError):
            draft.write_text(f"{self._store_id} {number}", "ascii")
            draft.replace(self._path)
