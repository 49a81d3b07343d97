"""The audit against ledgers that balance, and against each kind of fault: it names every one, and nothing else."""

import random
from collections.abc import Iterable
from typing import Any

import pytest

from aigw.ledger.audit import compare
from aigw.ledger.audit.report import MOST_ROWS, Report
from aigw.ledger.audit.run import audit
from aigw.ledger.audit.turns import Turn, turns
from aigw.ledger.retention import Retention
from ledgers import LIFE, NOON, NS, Ledger, entry, random_entry

DAY = NOON - NOON % 86400
TOKENS, REQUESTS, SPEND, OF_MODEL, OF_CREDENTIAL = 1, 2, 3, 4, 5
COLUMNS = [
    (TOKENS, "tokens", "day", "consumer", 0, DAY, DAY + 86400, False),
    (REQUESTS, "requests", "hour", "consumer", 0, NOON, NOON + 3600, False),
    (SPEND, "spend", "day", "consumer", 0, DAY, DAY + 86400, False),
    (OF_MODEL, "output_tokens", "day", "model", 2, DAY, DAY + 86400, False),
    (OF_CREDENTIAL, "input_tokens", "day", "credential", 0, DAY, DAY + 86400, False),
]
SETS = {"1,2,3,4,5": 1, "2": 2}


class FakeCounters:
    """Counters as the entries would leave them; `held` and `taken` are changed by tests."""

    def __init__(self) -> None:
        self.taken: dict[tuple[int, int], int] = {}
        self.held: dict[tuple[int, int], int] = {}
        self.later: dict[tuple[int, int], tuple[int, int]] = {}
        self.columns = list(COLUMNS)

    def count(self, one: dict[str, Any]) -> None:
        """Count an entry, as a worker does after it wrote it."""
        if not one["flags"] & 1:
            return
        amounts = {
            TOKENS: (
                one["input"] + one["cached_input"] + one["cache_write"] + one["output"] + one["reasoning"],
                "consumer",
            ),
            REQUESTS: (1, "consumer"),
            SPEND: (one["price"], "consumer"),
            OF_MODEL: (one["output"] + one["reasoning"] if one["model"] == 2 else 0, "consumer"),
            OF_CREDENTIAL: (one["input"] + one["cached_input"] + one["cache_write"], "credential"),
        }
        for column, _, _, _, _, start, end, _ in COLUMNS:
            amount, row = amounts[column]
            counts = column in ({1: range(1, 6), 2: (2,)}.get(one["limit_set"], ()))
            if counts and amount and start <= one["admitted_at"] // NS < end:
                place = column, one[row]
                self.taken[place] = self.taken.get(place, 0) + amount

    def read(self, now_ns: int) -> Any:
        window = {column[0]: column[5:7] for column in self.columns}
        return self.columns, [
            (*place, taken, self.held.get(place, 0), *self.later.get(place, window[place[0]]))
            for place, taken in self.taken.items()
            if taken
        ]


@pytest.fixture
def counters() -> FakeCounters:
    return FakeCounters()


def audited(ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch) -> Report:
    """An audit at half past noon, in no time."""
    monkeypatch.setattr(compare, "PATIENCE_S", 0.0)
    monkeypatch.setattr("time.time", lambda: NOON + 1800.0)
    found: list[Report] = []

    def check(*given: Any) -> None:
        original(*given, now=lambda: NOON + 1800.0, sleep=lambda _: None)

    original = compare.check_counters
    monkeypatch.setattr("aigw.ledger.audit.run.check_counters", check)
    found.append(audit(ledger.store, ledger.source, counters, lambda: SETS))
    monkeypatch.setattr("aigw.ledger.audit.run.check_counters", original)
    return found[0]


def served(ledger: Ledger, counters: FakeCounters, entries: Iterable[dict[str, Any]]) -> None:
    for one in entries:
        ledger.source.append(one)
        counters.count(one)


def many(seed: int = 3, count: int = 400) -> list[dict[str, Any]]:
    """Random entries up to now, most of them of today, in the order of their times."""
    rnd = random.Random(seed)
    made: list[dict[str, Any]] = []
    while len(made) < count:
        one = random_entry(rnd, 86400) | {"limit_set": rnd.randrange(3), "credential": rnd.randrange(1, 4)}
        if one["admitted_at"] < (NOON + 1800) * NS:
            made.append(one)
    return sorted(made, key=lambda one: int(one["admitted_at"]))


def ordered(rows: list[Any]) -> set[str]:
    return {row["check"] for row in rows}


def test_a_segment_whose_events_retention_deleted_is_no_loss(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments of two workers overlap: the younger one's events may all be gone while the older one has some."""
    for slot, count in ((0, 10), (1, 4095), (0, 50), (2, 4000), (0, 20)):
        for _ in range(count):
            ledger.source.append(entry(), slot=slot)
        ledger.round()
    ledger.now, ledger.retention = NOON + 40 * 86400, Retention(events_s=86400)
    assert all(ledger.sweeper.step(ledger.store, ()) for _ in range(3))
    ledger.retention = Retention()
    ledger.crash()
    report = audited(ledger, counters, monkeypatch)
    assert 4000 <= report.checked["entries"] < 4100 and report.differences == []
    with ledger.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE n IN (SELECT max(n) - 30 FROM events)")
    assert "ids" in ordered(audited(ledger, counters, monkeypatch).differences)


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_ledger_balances(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    first, rest = many(seed)[:300], many(seed)[300:]
    served(ledger, counters, first)
    ledger.round()
    served(ledger, counters, rest)  # still in their segment
    report = audited(ledger, counters, monkeypatch)
    assert report.differences == [] and report.equal
    assert report.checked["entries"] == 300 and report.checked["counters"] > 5


def test_a_sound_ledger_balances_after_retention(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in many(8, 9000):
        ledger.source.append(one)
    while ledger.round():
        pass
    ledger.retention = ledger.retention._replace(minutes_s=86400 * 1, hours_s=86400 * 2, max_bytes=1)
    ledger.tidy()
    report = audited(ledger, counters, monkeypatch)
    assert [row for row in report.differences if row["check"] != "counters"] == []
    assert report.checked["entries"] < 9000
    assert any("events are deleted" in text for text in report.not_compared)


@pytest.mark.parametrize(
    ("statement", "checks"),
    [
        ("UPDATE events SET reasoning = reasoning + 1 WHERE n = 7", {"rollups"}),
        ("DELETE FROM events WHERE n = 7", {"ids", "rollups"}),
        ("UPDATE rollups_hour SET cost = cost + 1", {"rollups"}),
        ("UPDATE rollups_minute SET unpriced = unpriced + 1", {"rollups"}),
        ("UPDATE totals_minute SET price = price + 1", {"rollups"}),
        ("DELETE FROM rollups_day WHERE start = (SELECT MIN(start) FROM rollups_day)", {"rollups"}),
        ("UPDATE cursors SET segment = 5", {"ids"}),
        ("UPDATE cursors SET damage = 'record 3 is torn'", {"segments"}),
    ],
)
def test_a_changed_store_is_named(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch, statement: str, checks: set[str]
) -> None:
    served(ledger, counters, many())
    ledger.round()
    with ledger.store.writing() as connection:
        connection.exec_driver_sql(statement)
        if "segment = 5" in statement:  # two segments of one worker, and three between them that nobody has read
            connection.exec_driver_sql(
                "INSERT INTO cursors (n, life, slot, segment, next, done, entries) VALUES (9, ?, 0, 1, 0, 1, 3)",
                (LIFE,),
            )
    report = audited(ledger, counters, monkeypatch)
    assert ordered(report.differences) >= checks and not report.equal
    if "segment = 5" in statement:
        assert sum("never read" in row.get("message", "") for row in report.differences) == 3


def test_a_counter_that_differs_is_named_with_both_sides(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(ledger, counters, many())
    ledger.round()
    right = counters.taken[TOKENS, 1]
    for wrong in (right - 1, right + 1, 0):
        counters.taken[TOKENS, 1] = wrong
        (row,) = audited(ledger, counters, monkeypatch).differences
        assert (row["consumer"], row["meter"], row["per"]) == ("consumer-1", "tokens", "day")
        assert (row["ledger"], row["counters"], row["held"]) == (right, wrong, 0)


def test_amounts_of_calls_in_flight_are_no_difference(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(ledger, counters, many())
    ledger.round()
    counters.taken[TOKENS, 1] += 500
    counters.held[TOKENS, 1] = 500
    assert audited(ledger, counters, monkeypatch).equal
    # An entry that is written, and not settled yet.
    late = entry(limit_set=1, input=100, output=40, price=0)
    ledger.source.append(late)
    counters.taken[REQUESTS, 1] = counters.taken.get((REQUESTS, 1), 0) + 1
    counters.taken[OF_CREDENTIAL, 2] = counters.taken.get((OF_CREDENTIAL, 2), 0) + 100
    assert audited(ledger, counters, monkeypatch).equal
    counters.held[TOKENS, 1] = 100
    assert not audited(ledger, counters, monkeypatch).equal, "more is counted than calls hold"


def test_a_call_over_a_windows_end_may_count_in_the_later_window(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = entry(limit_set=1, at=NOON - 5, output=60) | {"ended_at": (NOON + 5) * NS}
    counters.count(over)
    ledger.source.append(over)
    counters.taken[REQUESTS, 1] = 1
    for _ in range(2):  # in its segment, then in the store
        assert audited(ledger, counters, monkeypatch).equal
        ledger.round()
    counters.taken[REQUESTS, 1] = 2
    assert not audited(ledger, counters, monkeypatch).equal


def test_minutes_that_end_inside_an_hour_are_no_difference(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second in range(0, 7200, 10):
        served(ledger, counters, [entry(at=NOON - 7200 + second)])
    ledger.round()
    for since in (NOON - 3600 - 60 * 17, NOON - 60 * 17):
        with ledger.store.writing() as connection:
            for table in ("rollups_minute", "totals_minute"):
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE start < {since}")
            connection.exec_driver_sql("INSERT OR REPLACE INTO meta VALUES ('from_60', ?)", (str(since),))
        assert audited(ledger, counters, monkeypatch).differences == []
    with ledger.store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE events SET output = output + 1 WHERE admitted_at < {(NOON - 3600) * NS}")
    assert ordered(audited(ledger, counters, monkeypatch).differences) == {"rollups"}


def test_a_spent_limit_in_shadow_mode_is_no_difference(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(ledger, counters, many())
    counters.columns = [(*column[:-1], True) for column in COLUMNS]
    counters.taken[TOKENS, 1] -= 7
    assert audited(ledger, counters, monkeypatch).equal
    counters.taken[TOKENS, 1] += 8
    assert not audited(ledger, counters, monkeypatch).equal


def test_a_segment_that_is_gone_before_it_was_read_is_named(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(ledger, counters, many(5, 20))
    ledger.round()
    ledger.source.append(entry(limit_set=0))
    assert audited(ledger, counters, monkeypatch).notes["unread"] == 1
    ledger.source.files.clear()
    (row,) = audited(ledger, counters, monkeypatch).differences
    assert row["check"] == "segments" and "record 20" in row["message"]


def test_records_behind_the_stored_end_of_a_segment_are_named_and_in_no_sum(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a living worker was away, was stored as an ended one, and came back longer."""
    served(ledger, counters, many(5, 20))
    file = ledger.source.files[LIFE, 0, 0]
    file.end = 20
    ledger.round()
    assert audited(ledger, counters, monkeypatch).equal
    served(ledger, counters, [entry(limit_set=1, input=10, output=5) for _ in range(5)])
    assert ledger.round() == 0
    report = audited(ledger, counters, monkeypatch)
    assert ordered(report.differences) == {"segments", "counters"}
    (text,) = (row["message"] for row in report.differences if row["check"] == "segments")
    assert "records from 20 on were never read" in text


def test_a_damaged_segment_is_named_before_it_is_stored(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(ledger, counters, many(5, 20))
    ledger.source.die()
    ledger.source.files[LIFE, 0, 0].damage = "record 20 is torn"
    (row,) = audited(ledger, counters, monkeypatch).differences
    assert row["check"] == "segments" and "torn" in row["message"]


def test_every_segment_that_cannot_be_read_is_named(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(ledger, counters, many(5, 20))
    for slot in (5, 6):
        ledger.source.append(entry(limit_set=0), slot=slot)
        ledger.source.files[LIFE, slot, 0].fault = OSError(f"segment {slot} belongs to another store")
    with pytest.raises(
        OSError, match=r"-05-00000000.segment: segment 5 belongs .*-06-00000000.segment: segment 6 belongs"
    ):
        audited(ledger, counters, monkeypatch)


def test_an_amount_in_doubt_may_be_counted(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(ledger, counters, many())
    counters.taken[TOKENS, 1] += 50
    ledger.source.append(("00ff", TOKENS, 1, DAY + 86400, 50))
    for _ in range(2):  # in its segment, then in the store
        assert audited(ledger, counters, monkeypatch).equal
        ledger.round()
    assert audited(ledger, counters, monkeypatch).notes["in_doubt"] == 1
    counters.taken[TOKENS, 1] += 1
    assert not audited(ledger, counters, monkeypatch).equal


def at_times(ledger: Ledger, *times: int) -> None:
    for at in times:
        ledger.source.append(entry(at=at, limit_set=2))


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("times", [(10, 20, 3620, 30), (10, 20, -60, 30), (10, 3620, 3650, 30, 3620, 40)])
def test_a_clock_that_was_set_back_hides_no_difference_and_makes_none(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch, times: tuple[int, ...], is_stored: bool
) -> None:
    """A window below a day has counted all calls, of whatever time the wall clock has dated them."""
    at_times(ledger, *(NOON + at for at in times))
    if is_stored:
        ledger.round()
    counters.taken[REQUESTS, 1] = len(times)
    report = audited(ledger, counters, monkeypatch)
    dated = sum(0 <= at < 3600 for at in times)
    assert report.differences == []
    (text,) = report.not_compared
    assert "requests per hour" in text and "set back" in text
    assert f"consumer{'-' if is_stored else ' '}1: ledger {dated}, counters {len(times)}" in text
    for wrong in (len(times) + 1, 0):
        counters.taken[REQUESTS, 1] = wrong
        (row,) = audited(ledger, counters, monkeypatch).differences
        assert (row["counters"], row["per"]) == (wrong, "hour")


def test_a_clock_that_was_set_back_within_a_window_is_compared(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_times(ledger, NOON + 10, NOON + 900, NOON + 20)
    counters.taken[REQUESTS, 1] = 3
    report = audited(ledger, counters, monkeypatch)
    assert report.equal and report.not_compared == []
    counters.taken[REQUESTS, 1] = 4
    assert not audited(ledger, counters, monkeypatch).equal


def test_a_clock_that_was_set_back_hundreds_of_times_is_compared(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite bounds the depth of an expression to 1,000."""
    for at in range(NOON - 4000, NOON - 4000 + 600 * 4, 4):
        at_times(ledger, at + 2, at)
    ledger.round()
    counters.columns = [(*COLUMNS[1][:5], DAY, DAY + 86400, False)]
    counters.taken[REQUESTS, 1] = 1201
    report = audited(ledger, counters, monkeypatch)
    (row,) = report.differences
    assert (row["ledger"], row["counters"]) == (1200, 1201) and report.not_compared == []


def test_a_time_that_two_workers_of_one_slot_told_is_known(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway restarts after the clock was set back; other slots are no sign of it."""
    at_times(ledger, NOON + 3620)
    ledger.round()
    ledger.source.append(entry(at=NOON + 10, limit_set=2), life=LIFE + 5)
    counters.columns = [(*COLUMNS[1][:5], NOON + 3600, NOON + 7200, False)]
    counters.taken[REQUESTS, 1] = 0
    report = audited(ledger, counters, monkeypatch)
    assert report.equal and "ledger 1, counters 0" in report.not_compared[0]


@pytest.mark.parametrize("commits, back", [(0, 0), *((n, back) for n in (1, 2, 3, 4, 99) for back in (0, 3600))])
def test_a_backlog_over_a_restart_is_no_clock_that_was_set_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, commits: int, back: int
) -> None:
    """The compactor stores the first segment of a slot's new life before the second one of its old life."""
    monkeypatch.setattr("aigw.ledger.compactor.MOST", 10)
    monkeypatch.setattr("aigw.ledger.compactor.MOST_COMMITS", commits)
    ledger.source.append(entry(at=NOON))
    if commits:
        ledger.round()
    for n in range(1, 25):
        ledger.source.append(entry(at=NOON + n * 10), room=10)
    ledger.source.die()
    new = LIFE + (-5 if back else 5)  # a life has the time of its start
    for n in range(25, 35):
        ledger.source.append(entry(at=NOON + n * 10 - back), room=10, life=new)
    if commits:
        ledger.round()
    found = turns(ledger.store, ledger.source, NOON - 2 * 3600, NOON + 7200)
    assert found == ([Turn(NOON + 250 - back, NOON + 241)] if back else [])


def test_a_worker_behind_another_is_no_clock_that_was_set_back(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_times(ledger, NOON + 10, NOON + 20)
    ledger.round()
    ledger.source.append(entry(at=NOON - 100, limit_set=2), slot=1)
    counters.taken[REQUESTS, 1] = 3
    assert not audited(ledger, counters, monkeypatch).equal


def test_a_window_that_a_clock_ahead_has_begun_is_told(
    ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of today count in tomorrow's window from then on."""
    counters.columns = [(*COLUMNS[0][:5], DAY, DAY + 86400, False)]
    counters.later[TOKENS, 1] = DAY + 86400, DAY + 2 * 86400
    for at in (NOON, NOON + 86400, NOON + 5):
        ledger.source.append(entry(at=at, limit_set=1, input=10, output=5))
    counters.taken[TOKENS, 1] = 30
    for _ in range(2):  # in its segment, then in the store
        report = audited(ledger, counters, monkeypatch)
        assert report.equal
        assert "tokens per day" in report.not_compared[0] and "ledger 15, counters 30" in report.not_compared[0]
        assert "was ahead" in report.not_compared[0]
        ledger.round()
    counters.taken[TOKENS, 1] = 14
    (row,) = audited(ledger, counters, monkeypatch).differences
    assert (row["ledger"], row["counters"]) == (15, 14), "less than tomorrow's own entries"


def test_differences_are_bounded(ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch) -> None:
    counters.taken = {(TOKENS, row): 1 for row in range(1, MOST_ROWS + 12)}
    report = audited(ledger, counters, monkeypatch)
    assert len(report.json()["differences"]) == MOST_ROWS and report.json()["unlisted_differences"] == 11


def test_notes_are_no_differences(ledger: Ledger, counters: FakeCounters, monkeypatch: pytest.MonkeyPatch) -> None:
    served(ledger, counters, [entry(flags=1 + 2 + 8, outcome=5), entry(flags=1 + 16), entry(model=0, flags=1)])
    ledger.round()
    report = audited(ledger, counters, monkeypatch)
    assert report.equal and report.notes == {"overruns": 1, "crashed": 1, "unpriced": 1, "in_doubt": 0, "unread": 0}
    assert report.unpriced == [{"model": "model-1", "entries": 1}]
