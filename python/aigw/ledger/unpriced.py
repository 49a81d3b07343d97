"""The count of calls whose model has no cost: nobody knows what the fleet paid for them.

In: batches of entries that were stored. Out: samples of `aigw_unpriced_total` by tier and model. It counts from the start of the control
process; the ledger's sums (`unpriced` of `GET /usage`) count from its beginning.
"""

from collections import Counter

from aigw.errors import StoreError
from aigw.ledger.batch import Batch
from aigw.ledger.database import LedgerReader
from aigw.ledger.labels import Labels


class Unpriced:
    """Entries of models without a cost, by tier and model. One thread adds, any thread reads."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, int]] = Counter()

    def add(self, stored: Batch) -> None:
        """Count a batch, after its transaction."""
        if stored.unpriced:
            self._counts = self._counts + Counter(stored.unpriced)

    def samples(self, ledger: LedgerReader) -> list[tuple[dict[str, str], int]]:
        """(labels, count). Nothing while the ledger cannot be read."""
        counts, texts = self._counts, Counter[tuple[str, str]]()
        if not counts:
            return []
        try:
            with ledger.reading() as connection:
                labels = Labels(connection)
                for (tier, model), count in counts.items():
                    texts[labels.of("tier", tier) or "", labels.of("model", model) or ""] += count
        except StoreError:
            return []
        return [({"tier": tier, "model": model}, count) for (tier, model), count in texts.items()]
