"""A whole audit of one data folder. In: its ledger, segments, counters and sets of limits. Out: a `Report`. It changes nothing, so it may run
next to a gateway that serves.
"""

from collections.abc import Callable, Mapping

from aigw.ledger.audit.compare import check_counters
from aigw.ledger.audit.recount import Counters
from aigw.ledger.audit.report import Report
from aigw.ledger.audit.rollups import check_height, check_ids, check_rollups, note_entries
from aigw.ledger.database import LedgerReader, height_of
from aigw.ledger.source import Source, segment_name
from aigw.ledger.unread import unread

STEPS = ("numbers of events", "rollups", "counters of limits")
"""The parts of an audit, for people who wait."""


def audit(
    store: LedgerReader,
    source: Source,
    counters: Counters,
    limit_sets: Callable[[], Mapping[str, int]],
    progress: Callable[[str, int, int], None] = lambda text, done, of: None,
) -> Report:
    """Compare everything. `limit_sets`: the columns of each set of limits as a text, with the set's number. Raises StoreError; OSError, which
    names every segment that cannot be read."""
    report = Report()

    def sets() -> dict[int, frozenset[int]]:
        return {n: frozenset(map(int, text.split(","))) for text, n in limit_sets().items()}

    with store.reading() as connection:
        had = height_of(store, connection)  # before the view: it grows behind each commit
    with store.reading() as connection:
        progress(STEPS[0], 0, len(STEPS))
        check_ids(connection, report)
        progress(STEPS[1], 1, len(STEPS))
        check_rollups(connection, report)
        note_entries(connection, report)
    rest = unread(store, source)
    report.notes["unread"] = rest.entries
    if rest.unreadable:
        # Entries behind the store may be missing from every sum, so a comparison would only list their absence.
        raise OSError(rest.unreadable_text())
    with store.reading() as connection:
        check_height(connection, report, had, rest.entries)
    for key, fault in rest.faults.items():
        report.differ({"check": "segments", "segment": segment_name(key), "message": fault})
    progress(STEPS[2], 2, len(STEPS))
    check_counters(store, source, counters, sets, report)
    return report
