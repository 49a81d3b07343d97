"""Retention: old rows go in small steps, sums stay exact, numbers never return, and space goes back to the file system."""

import math
import random
from datetime import datetime

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigw.ledger import retention as module
from aigw.ledger.audit.report import Report
from aigw.ledger.audit.rollups import check_ids, check_rollups
from aigw.ledger.database import put_meta
from aigw.ledger.forgotten import Forgotten
from aigw.ledger.query import BadQuery
from aigw.ledger.retention import Retention, future_days, kept_since
from aigw.ledger.tables import blocks, cursors, events, minutes
from aigw.ledger.unread import unread
from aigw.ledger.usage import usage
from ledgers import LIFE, NOON, Filters, Ledger, entry, random_entry, sums_of

DAY = 86400
Steps = list[tuple[str, int]]


def count(ledger: Ledger, table: sa.Table) -> int:
    with ledger.store.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def test_old_events_go_and_sums_stay(ledger: Ledger) -> None:
    rnd = random.Random(5)
    entries = [random_entry(rnd) for _ in range(9000)]
    for one in entries[:8192]:
        ledger.source.append(one)
    ledger.round()
    before = ledger.usage("consumer,model,day")
    ledger.now = NOON + 30 * DAY
    recent = [entry(at=int(ledger.now)) for _ in range(808)]
    ledger.source.die()
    for one in recent:
        ledger.source.append(one, slot=1)
    ledger.round()  # removes the files of slot 0
    ledger.round()
    ledger.retention = Retention(events_s=20 * DAY, minutes_s=14 * DAY)
    ledger.tidy()
    left = ledger.events(size=1000)
    assert len(left) == 808 + 1, "whole blocks of 4096 numbers go, and numbers begin with 1"
    assert count(ledger, minutes) == 1 and count(ledger, blocks) == 1
    assert [row for row in ledger.usage("consumer,model,day") if row["group"]["day"] < "2026-10"] == before
    (total,) = ledger.usage()
    want = sums_of([*entries[:8192], *recent])
    assert {name: total[name] for name in want} == want
    assert count(ledger, cursors) == 4, "those of a life go together, and its newest event is there"


@pytest.mark.parametrize("dies", [False, True])
def test_segments_whose_events_are_deleted_are_not_read_again(ledger: Ledger, dies: bool) -> None:
    """A living worker keeps its last segments, and a restart of the control process asks for the place in each again."""
    for _ in range(2 * 4095):
        ledger.source.append(entry())
    ledger.round()
    total = ledger.usage()
    ledger.source.append(entry(at=NOON + 30 * DAY), slot=1)
    ledger.round()
    ledger.now, ledger.retention = NOON + 30 * DAY, Retention(events_s=DAY)
    ledger.tidy()
    assert count(ledger, events) == 2 * 4095 + 1 - 4095, "a whole block"
    if dies:
        ledger.source.die()
    ledger.crash()
    assert unread(ledger.store, ledger.source).entries == 0
    assert ledger.round() == 0
    assert ledger.usage()[0]["requests"] == total[0]["requests"] + 1
    assert unread(ledger.store, ledger.source).faults == {}


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["append", "sweep", "crash", "die"]), st.integers(0, 1)), max_size=16))
@example(steps=[("append", 0)] * 3 + [("append", 1), ("sweep", 0)])
def test_each_entry_is_counted_once_whatever_is_deleted(tmp_path_factory: pytest.TempPathFactory, steps: Steps) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    lives, count, ledger.now = [LIFE] * 3, 0, NOON
    ledger.retention = Retention(events_s=DAY)
    for what, slot in steps:
        if what == "append":
            for _ in range(3000):
                ledger.source.append(entry(at=int(ledger.now)), slot=slot, life=lives[slot])
            count += 3000
            ledger.now += DAY
            ledger.round()
        elif what == "sweep":
            ledger.tidy()
        elif what == "crash":
            ledger.crash()
            ledger.round()
        else:
            ledger.source.die(slot)
            lives[slot] += 1
            ledger.round()
    ledger.crash()
    ledger.round()
    assert [row["requests"] for row in ledger.usage()] == [count]
    found = unread(ledger.store, ledger.source)
    assert (found.entries, found.faults) == (0, {})
    ledger.store.close()


def test_the_newest_event_stays_so_that_no_number_returns(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.source.append(entry())
    ledger.source.die()
    ledger.round()
    ledger.now, ledger.retention = NOON + 999 * DAY, Retention(1, 1, 1, 1)
    ledger.tidy()
    (last,) = ledger.events()
    ledger.crash()
    ledger.source.append(entry(), slot=5)
    ledger.round()
    with ledger.store.reading() as connection:
        assert sorted(connection.scalars(sa.select(events.c.n))) == [3, 4]
    assert last["id"].endswith("0002") and ledger.usage()[0]["requests"] == 1, "the sums before are gone, too"


def test_a_file_above_its_bound_loses_its_oldest_events(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FREE_PAGES", 4)
    for n in range(3 * 4096):
        ledger.source.append(entry(at=NOON + n // 100))
    ledger.round()
    total = ledger.usage()
    ledger.retention = Retention(max_bytes=600_000)
    ledger.tidy()
    with ledger.store.reading() as connection:
        assert module._used_bytes(connection) <= 600_000
    with ledger.store.reading() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert ledger.events() and ledger.path.stat().st_size <= 700_000
    assert ledger.usage() == total


def test_nothing_is_deleted_without_a_bound(ledger: Ledger) -> None:
    ledger.source.append(entry())
    ledger.source.append((NOON, 1, 1, 1, 1, 1))
    ledger.round()
    ledger.now = NOON + 9999 * DAY
    ledger.tidy()
    assert len(ledger.events()) == 1 and ledger.usage("minute")[0]["requests"] == 1


def test_refusals_stay_as_long_as_hours(ledger: Ledger) -> None:
    for day in (0, 1):
        ledger.source.append((NOON + day * DAY, 1, 1, 1, 1, 1))
    ledger.round()
    ledger.now, ledger.retention = NOON + 2.5 * DAY, Retention(hours_s=2 * DAY)
    ledger.tidy()
    assert [row["denials"] for row in ledger.refusals("reason")] == [1]
    with pytest.raises(BadQuery, match="ledger.hours"):
        ledger.refusals("hour")


def test_a_kill_between_steps_of_deletion_leaves_exact_sums(ledger: Ledger) -> None:
    for n in range(5000):
        ledger.source.append(entry(at=NOON + n))
    ledger.round()
    total = ledger.usage()
    ledger.now, ledger.retention = NOON + 99 * DAY, Retention(events_s=DAY, minutes_s=DAY)
    while ledger.sweeper.step(ledger.store, ()):
        ledger.crash()
        assert ledger.usage() == total
    assert len(ledger.events()) == 1


def test_a_file_that_comes_back_after_its_events_are_deleted_is_not_billed_again(ledger: Ledger) -> None:
    for _ in range(2 * 4095 + 10):
        ledger.source.append(entry())
    ledger.source.die()
    copies = dict(ledger.source.files)
    ledger.round()
    for day in (0, 30):
        for _ in range(5000):
            ledger.source.append(entry(at=NOON + day * DAY), slot=1)
        ledger.round()
    ledger.now, ledger.retention = NOON + 30 * DAY, Retention(events_s=DAY)
    ledger.tidy()
    with ledger.store.reading() as connection:
        forgotten = Forgotten.read(connection)
    places = {(slot, number): (LIFE, slot, number) in forgotten for slot, number in ((0, 0), (0, 2), (0, 3), (1, 0))}
    assert places == {(0, 0): True, (0, 2): True, (0, 3): False, (1, 0): False}
    total = ledger.usage()
    ledger.source.files |= copies
    ledger.crash()
    assert unread(ledger.store, ledger.source)[::2] == (0, {})
    assert ledger.round() == 0
    assert ledger.usage() == total and ledger.compactor.status().error is None
    assert not copies.keys() & ledger.source.files.keys(), "the files go again"


def differences(ledger: Ledger) -> list[str]:
    report = Report()
    with ledger.store.reading() as connection:
        check_ids(connection, report)
        check_rollups(connection, report)
    return [row["check"] for row in report.differences]


@pytest.mark.parametrize("bound", ["age", "size"])
@pytest.mark.parametrize("ahead", [3, 25 * 365])
def test_a_call_from_the_future_holds_up_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, bound: str, ahead: int
) -> None:
    """A wrong clock has dated one call days or years ahead."""
    monkeypatch.setattr(module, "FREE_PAGES", 4)
    at = [NOON + n for n in range(9000)]
    at[2500] = NOON + ahead * DAY
    for one in at:
        ledger.source.append(entry(at=one))
    ledger.round()
    total = ledger.usage()
    if bound == "age":
        ledger.now, ledger.retention = NOON + 2.5 * DAY, Retention(events_s=2 * DAY)
    else:
        ledger.now, ledger.retention = NOON + DAY / 8, Retention(max_bytes=250_000)
    ledger.tidy()
    assert count(ledger, events) < 1000 and ledger.usage() == total
    assert differences(ledger) == []
    ledger.now += 30 * DAY  # beyond the time of the nearer call
    for slot in (2, 3):
        ledger.source.append(entry(at=int(ledger.now)), slot=slot)
    ledger.round()
    assert differences(ledger) == []
    with ledger.store.writing() as connection:
        connection.exec_driver_sql("UPDATE events SET input = input + 1 WHERE n = (SELECT max(n) FROM events)")
    assert "rollups" in differences(ledger), "the audit sees entries from behind the deleted ones"


def test_a_whole_block_from_the_future_hides_no_other_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of the file deletes it; its days alone are not compared then."""
    monkeypatch.setattr(module, "FREE_PAGES", 4)
    for n in range(9000):
        ledger.source.append(entry(at=NOON + (9999 * DAY if n < 4200 else n)))
    ledger.round()
    ledger.now, ledger.retention = NOON + DAY / 8, Retention(max_bytes=1)
    ledger.tidy()
    with ledger.store.reading() as connection:
        since, days = kept_since(connection)["events"], future_days(connection)
    assert days == [NOON // DAY + 9999] and since <= ledger.now * 10**9
    ledger.now += 3600
    ledger.source.append(entry(at=int(ledger.now)), slot=1)
    ledger.round()
    assert differences(ledger) == []
    with ledger.store.writing() as connection:
        connection.exec_driver_sql("UPDATE events SET input = input + 1 WHERE n = (SELECT max(n) FROM events)")
    assert "rollups" in differences(ledger), "the audit sees entries of now"


@pytest.mark.parametrize("low, high", [(10, 130), (60, 130), (10, 120), (10, 50), (60, 120), (10, None), (None, 50)])
def test_sums_of_a_future_day_with_deleted_calls_are_of_whole_minutes(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, low: int | None, high: int | None
) -> None:
    monkeypatch.setattr(module, "FREE_PAGES", 4)
    future = NOON + 9999 * DAY
    for n in range(5000):
        ledger.source.append(entry(at=future + n if n < 200 else NOON))
    ledger.round()
    ledger.now, ledger.retention = NOON + DAY / 8, Retention(max_bytes=1)
    ledger.tidy()
    asked = [None if end is None else (future + end) * 10**9 for end in (low, high)]
    with ledger.store.reading() as connection:
        answer = usage(connection, Filters(None, None, None, *asked), ())
    whole = [None if low is None else low - low % 60, None if high is None else high + -high % 60]
    got = [None if answer[end] is None else _seconds(answer[end]) - future for end in ("after", "before")]
    assert got == whole
    of_now = 4800 if low is None else 0
    assert answer["data"][0]["requests"] == of_now + (whole[1] or 200) - (whole[0] or 0)
    assert any("longer than asked" in note for note in answer["notes"]) == (whole != [low, high])


def test_a_clock_that_is_behind_deletes_nothing(ledger: Ledger) -> None:
    """A machine that starts in 1970 takes all entries for ones from the future."""
    for n in range(5000):
        ledger.source.append(entry(at=NOON + n))
    ledger.round()
    ledger.now, ledger.retention = 86400.0, Retention(events_s=DAY)
    ledger.tidy()
    assert count(ledger, events) == 5000
    ledger.now = NOON + 7200.0
    ledger.tidy()
    assert count(ledger, events) == 5000 and differences(ledger) == []


@settings(max_examples=60, deadline=None)
@given(
    at=st.lists(st.integers(0, 10_000), min_size=20, max_size=60),
    kept=st.tuples(*[st.integers(0, 10_000)] * 3),
    asked=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 5_000)), min_size=1, max_size=20),
    whole=st.sampled_from([1, 60, 3600]),
)
def test_sums_are_those_of_the_range_that_they_name(
    tmp_path_factory: pytest.TempPathFactory,
    at: list[int],
    kept: tuple[int, int, int],
    asked: list[tuple[int, int]],
    whole: int,
) -> None:
    """The range has the one asked for in it, and a note where it is longer, whatever finer sums are deleted."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    first, ledger.now = NOON - NOON % DAY - 5_000, NOON + 3 * DAY  # around midnight
    for second in at:
        ledger.source.append(entry(at=first + second))
    ledger.round()
    events_s, minutes_s, hours_s = (ledger.now - first - seconds for seconds in kept)
    ledger.retention = Retention(minutes_s=minutes_s, hours_s=hours_s)
    ledger.tidy()
    gone = int(ledger.now - events_s) * 10**9
    with ledger.store.writing() as connection:  # retention deletes blocks of 4,096 events
        connection.execute(sa.delete(events).where(events.c.admitted_at < gone))
        put_meta(connection, "events_from", str(gone))
    for start, length in asked:
        after = first + start - start % whole
        before = after + length + -length % whole
        for bounds in ((after, None), (None, before), (after, before)):
            wanted = Filters(None, None, None, *(bound and bound * 10**9 for bound in bounds))
            with ledger.store.reading() as connection:
                answer = usage(connection, wanted, ())
            low, high = bounds[0] or -math.inf, bounds[1] or math.inf
            begin = _seconds(answer["after"]) if bounds[0] else low
            end = _seconds(answer["before"]) if bounds[1] else high
            assert begin <= low and high <= end
            assert any("longer" in note for note in answer["notes"]) == ((begin, end) != (low, high))
            assert answer["data"][0]["requests"] == sum(begin <= first + second < end for second in at), wanted
    ledger.store.close()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
