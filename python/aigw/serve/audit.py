"""The audit of a data folder: its ledger, its counters and its store, opened for reading.

In: the folder, whether its gateway runs or not. Out: a `Report`. `aigw audit` and `GET /audit/ledger` are both this function.
"""

from collections.abc import Callable
from pathlib import Path

from aigw import sqlite
from aigw._native import Counters
from aigw.control.publish.numbers import LIMIT_SETS
from aigw.control.store.read import StoreReader
from aigw.errors import ConfigError, StoreError, explain
from aigw.ledger.audit.report import Report
from aigw.ledger.audit.run import audit
from aigw.ledger.database import STORE, open_for_reading


def audit_folder(data: Path, progress: Callable[[str, int, int], None] = lambda text, done, of: None) -> Report:
    """Compare entries, rollups and counters. Raises ConfigError where the folder has no ledger, StoreError where it cannot be read."""
    ledger = open_for_reading(data)
    path = data / STORE
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: --data names the data folder of a gateway (aigw serve --data)")
    store = sqlite.open_read_only(path)

    def limit_sets() -> dict[str, int]:
        with sqlite.readable_errors(path, "the store"), store.connect() as connection:
            return StoreReader(connection).numbers(LIMIT_SETS)

    try:
        counters = Counters(str(data))
        return audit(ledger, counters.ledger(), counters, limit_sets, progress)
    except OSError as error:
        raise StoreError(f"the counters or segments of {data} cannot be read: {explain(error)}") from error
    finally:
        store.dispose()
        ledger.close()
