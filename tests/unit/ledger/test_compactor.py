"""The compactor: each entry becomes one event, whatever is killed when; damage and gaps are named, and their files stay."""

import contextlib
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw.errors import StoreError
from aigw.ledger.audit.report import Report
from aigw.ledger.audit.rollups import check_height, check_ids
from aigw.ledger.compactor import HEIGHT_S
from aigw.ledger.database import height_of
from aigw.ledger.forgotten import forget
from aigw.ledger.losses import FILE
from aigw.ledger.retention import Retention
from aigw.ledger.unread import unread
from aigw.telemetry.families import text as text_of
from ledgers import LIFE, MOST, NOON, Ledger, Segment, entry, random_entry, sums_of


def test_entries_become_events_in_order(ledger: Ledger) -> None:
    for n in range(5):
        ledger.source.append(entry(input=n))
    assert ledger.round() == 5
    found = ledger.events()
    assert [e["input_tokens"] for e in found] == [0, 1, 2, 3, 4]
    assert found[3]["id"] == f"{LIFE:016x}-00-00000000-0003"
    assert ledger.round() == 0 and len(ledger.events()) == 5


def test_unsynced_entries_of_a_live_worker_wait(ledger: Ledger) -> None:
    ledger.source.append(entry())
    ledger.source.append(entry(), sync=False)
    assert ledger.round() == 1
    assert ledger.compactor.status()[2:4] == (1, 1)
    ledger.source.die()
    assert ledger.round() == 1


def test_a_segment_is_removed_after_its_entries_are_stored(ledger: Ledger) -> None:
    for _ in range(25):
        ledger.source.append(entry(), room=10)
    ledger.round()
    assert ledger.source.removed == [(LIFE, 0, 0)], "the newest two of a live worker stay"
    ledger.source.die()
    ledger.round()
    assert ledger.source.files == {} and len(ledger.events()) == 25
    ledger.crash()
    assert ledger.round() == 0


def test_a_segment_that_returns_from_a_backup_is_not_counted_twice(ledger: Ledger) -> None:
    for _ in range(25):
        ledger.source.append(entry(), room=10)
    kept = dict(ledger.source.files)
    ledger.source.die()
    ledger.round()
    ledger.source.files = kept
    assert ledger.round() == 0 and len(ledger.events()) == 25
    assert ledger.source.files == {}, "removed again"


def test_a_backlog_takes_several_transactions(ledger: Ledger) -> None:
    record = entry()
    for slot in range(3):
        for _ in range(MOST // 2):
            ledger.source.append(record, slot=slot)
    commits = []
    sa.event.listen(ledger.store._writer, "commit", lambda connection: commits.append(1))
    assert ledger.round() == 3 * (MOST // 2)
    assert len(commits) == 2
    assert ledger.usage()[0]["requests"] == 3 * (MOST // 2)


def test_a_round_is_bounded_and_the_next_one_goes_on(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigw.ledger.compactor.MOST_COMMITS", 1)
    monkeypatch.setattr("aigw.ledger.compactor.MOST", 10)
    for n in range(40):
        ledger.source.append(entry(), slot=n % 2, room=10)
    ledger.source.die(0)
    ledger.source.die(1)
    ledger.now += 5
    stored = []
    while not stored or ledger.compactor.is_behind:
        stored.append(ledger.round())
        if ledger.compactor.is_behind:
            assert ledger.compactor.status().lag_seconds == 5
    assert stored == [10, 10, 10, 10] and ledger.source.files == {}
    assert ledger.compactor.status().lag_seconds == 0


def test_amounts_beyond_any_call_are_cut(ledger: Ledger) -> None:
    ledger.source.append(entry(input=2**64 - 1, price=2**63))
    ledger.source.append(entry(input=1, price=1))
    ledger.round()
    assert [e["input_tokens"] for e in ledger.events()] == [2**48 - 1, 1]
    assert ledger.usage()[0]["price_nanodollars"] == 2**48


def test_a_damaged_segment_keeps_its_file_and_its_prefix(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.source.append(entry())
    ledger.source.die()
    ledger.source.files[LIFE, 0, 0].damage = "record 3 has a wrong checksum, 7 records follow"
    ledger.round()
    assert len(ledger.events()) == 3 and ledger.source.removed == []
    error = ledger.compactor.status().error
    assert error is not None and "record 3 has a wrong checksum" in error and "Move the file out" in error
    ledger.crash()
    ledger.round()
    assert "record 3" in str(ledger.compactor.status().error) and len(ledger.events()) == 3
    ledger.source.files.clear()
    ledger.round()
    assert ledger.compactor.status().error is None


def test_records_after_a_gap_are_stored(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigw.ledger.compactor.MOST", 4)
    for n in range(12):
        ledger.source.append(entry(input=n))
    ledger.source.die()
    ledger.source.files[LIFE, 0, 0].lost = {1, 2, 9}
    ledger.round()
    assert [e["input_tokens"] for e in ledger.events()] == [0, 3, 4, 5, 6, 7, 8, 10, 11]
    assert ledger.source.removed == [], "the file stays"
    assert "2 records cannot be read; 1 records cannot be read" in str(ledger.compactor.status().error)


def test_a_segment_that_cannot_be_read_stops_no_other(ledger: Ledger) -> None:
    for slot in range(3):
        ledger.source.append(entry(input=slot), slot=slot)
    ledger.source.files[LIFE, 1, 0].fault = OSError(5, "a later version wrote it")
    ledger.now += 3
    ledger.round()
    assert [e["input_tokens"] for e in ledger.events()] == [0, 2]
    status = ledger.compactor.status()
    assert (
        status.lag_seconds == 3
        and "00-00000000.segment" not in str(status.error)
        and "a later version" in str(status.error)
    )
    ledger.source.files[LIFE, 1, 0].fault = None
    ledger.round()
    assert len(ledger.events()) == 3 and ledger.compactor.status().error is None


def test_an_entry_without_a_request_is_stored(ledger: Ledger) -> None:
    ledger.source.append(entry(request_id=None))
    ledger.round()
    assert ledger.events()[0]["request_id"] == "0" * 32


def test_a_missing_segment_is_named_and_the_rest_is_stored(ledger: Ledger) -> None:
    for _ in range(25):
        ledger.source.append(entry(), room=10)
    lost = ledger.source.files.pop((LIFE, 0, 1))
    ledger.source.die()
    ledger.round()
    assert len(ledger.events()) == 15
    error = str(ledger.compactor.status().error)
    assert f"{LIFE:016x}-00-00000001.segment" in error and "Restore them from a backup" in error
    ledger.round()
    ledger.source.files[LIFE, 0, 1] = lost
    lost.live = False
    ledger.round()
    assert len(ledger.events()) == 25 and ledger.compactor.status().error is None


def test_segment_behind_a_missing_one_stays_to_tell_of_it(ledger: Ledger) -> None:
    for _ in range(10):
        ledger.source.append(entry(), room=10)
    # The spare of a worker that died: nobody else knows that a segment was before it.
    ledger.source.files[LIFE, 0, 1] = Segment()
    ledger.source.files.pop((LIFE, 0, 0))
    ledger.source.die()
    for _ in range(2):
        ledger.round()
        assert f"{LIFE:016x}-00-00000000.segment" in str(ledger.compactor.status().error)
    assert (LIFE, 0, 1) in ledger.source.files
    found = unread(ledger.store, ledger.source)
    assert found.faults == {(LIFE, 0, 0): "the file is missing, and nothing of it is in the ledger"}


def test_refusals_are_summed_by_minute_and_reason(ledger: Ledger) -> None:
    for minute, reason, count in ((NOON, 1, 5), (NOON + 10, 1, 2), (NOON + 60, 2, 1), (NOON, 99, 1)):
        ledger.source.append((minute, 1, 1, 1, reason, count))
    ledger.round()
    found = {
        (r["group"]["reason"], r["group"]["minute"][11:16]): r["denials"] for r in ledger.refusals("reason,minute")
    }
    assert found == {("rate_limited", "12:00"): 7, ("budget_exhausted", "12:01"): 1, ("reason 99", "12:00"): 1}
    assert ledger.refusals() == [{"group": {}, "denials": 9}]
    assert ledger.usage("consumer")[0]["denials"] == 9
    assert ledger.refusals("consumer", consumer="nobody") == []


def test_names_follow_entities_and_outlive_them(ledger: Ledger) -> None:
    ledger.source.append(entry(consumer=1, model=39))
    ledger.source.append(entry(consumer=77))
    ledger.round()
    assert [e["consumer"] for e in ledger.events()] == ["consumer-1", "consumer 77"]
    ledger.directory.named["consumer"][1] = ("id-consumer-1", "alice")
    ledger.directory.changes += 1
    ledger.tidy()
    assert ledger.events()[0]["consumer"] == "alice"
    del ledger.directory.named["consumer"][1]
    ledger.directory.changes += 1
    ledger.tidy()
    assert ledger.events(consumer="alice")[0]["consumer"] == "alice"
    assert ledger.events(consumer="id-consumer-1")[0]["model"] == "model-39"


def test_a_credential_that_moved_has_its_new_id(ledger: Ledger) -> None:
    for key in ("old", "new"):  # a credential's name is its id
        ledger.directory.named["credential"][2] = (key, key)
        ledger.directory.changes += 1
        ledger.source.append(entry(credential=2))
        ledger.round()
        ledger.tidy()
        assert {event["credential"] for event in ledger.events()} == {key}


class Killed(BaseException):
    """The end of the process at one point."""


def killer(ledger: Ledger, at: int) -> Callable[[], None]:
    """Raise `Killed` at the `at`-th statement, commit or call of the source."""
    left = [at]

    def step(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    ledger.source.before = step
    for engine in (ledger.store._engine, ledger.store._writer):
        for event in ("before_cursor_execute", "commit"):
            sa.event.listen(engine, event, step)
    return step


@pytest.mark.parametrize("seed", range(2))
def test_a_kill_at_every_step_loses_nothing_and_counts_nothing_twice(seed: int, tmp_path: Path) -> None:
    rnd = random.Random(seed)
    for at in range(1, 200):
        ledger = Ledger(tmp_path / str(at))
        entries = [random_entry(rnd) for _ in range(30)]
        for one in entries:
            ledger.source.append(one, slot=rnd.randrange(2), room=8)
            if rnd.random() < 0.2:
                ledger.source.append((NOON, 1, 1, 1, 1, 1), slot=0, room=8)
        refused = sum(kind == "denials" for f in ledger.source.files.values() for kind, _ in f.records)
        ledger.round() if rnd.random() < 0.3 else None
        ledger.source.append(extra := random_entry(rnd))
        ledger.source.die(0)
        ledger.source.die(1)
        killer(ledger, at)
        killed = False
        try:
            ledger.round()
        except Killed:
            killed = True
        ledger.source.before = lambda: None
        ledger.crash()
        ledger.round()
        ledger.round()
        (total,) = ledger.usage()
        want = {**sums_of([*entries, extra]), "denials": refused}
        assert {name: total[name] for name in want} == want, f"killed at step {at}"
        ids = Counter(e["id"] for e in ledger.events())
        assert len(ids) == 31 and max(ids.values()) == 1 and ledger.source.files == {}
        ledger.store.close()
        if not killed:
            return
    raise AssertionError("more steps than expected")


def test_a_round_that_fails_is_repeated_by_the_thread(ledger: Ledger) -> None:
    ledger.source.append(entry())
    faults = [OSError(28, "No space left on device")]

    def fail() -> None:
        if faults:
            raise faults.pop()

    ledger.source.before = fail
    with pytest.raises(OSError, match="No space"):
        ledger.round()
    assert "free some space" in str(ledger.compactor.status().error)
    ledger.now += 7
    assert ledger.compactor.status().lag_seconds == 7
    assert ledger.round() == 1
    assert ledger.compactor.status() == (1, 0, 0, 1, None)


def test_the_thread_outlives_faults_and_counts_the_unexpected_ones(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigw.ledger.compactor.AGAIN_S", 0.01)
    faults = [KeyError("a defect"), OSError(28, "No space"), OSError(28, "No space")]
    gone = threading.Event()

    def fail() -> None:
        if faults:
            raise faults.pop()
        gone.set()

    ledger.source.append(entry())
    ledger.source.before = fail
    ledger.compactor.start()
    assert gone.wait(20)
    ledger.compactor.close()
    assert len(ledger.events()) == 1
    assert [event for event, _ in ledger.lines] == ["ledger_failed"]
    assert 'aigw_control_faults_total{thread="ledger"} 1' in text_of(ledger.faults.families())


def test_the_thread_stores_the_rest_when_it_ends(ledger: Ledger) -> None:
    ledger.compactor.start()
    ledger.source.append(entry())
    ledger.compactor.close()
    assert len(ledger.events()) == 1


def test_an_older_copy_of_a_segment_is_damage(ledger: Ledger) -> None:
    for _ in range(10):
        ledger.source.append(entry())
    ledger.round()
    (key, file), *_ = ledger.source.files.items()
    del file.records[5:]
    ledger.source.die()
    assert list(unread(ledger.store, ledger.source).faults) == [key]
    ledger.round()
    assert key in ledger.source.files, "the file stays for its operator"
    assert "an older copy" in (ledger.compactor.status().error or "")
    assert ledger.usage()[0]["requests"] == 10


def test_a_rename_whose_commit_failed_is_read_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.source.append(entry(consumer=1))
    ledger.round()
    ledger.directory.named["consumer"][1] = ("id-consumer-1", "renamed")
    ledger.directory.changes += 1

    def locked() -> Any:
        raise StoreError("the ledger is locked")

    with monkeypatch.context() as context, pytest.raises(StoreError):
        context.setattr(ledger.store, "writing", locked)
        ledger.compactor._tidy()
    ledger.round()
    ledger.tidy()
    assert ledger.events()[0]["consumer"] == "renamed"


def lose(ledger: Ledger, kind: str) -> tuple[int, int, int]:
    """Two segments of a dead worker; the first one is lost in part, wholly, or damaged."""
    for _ in range(15):
        ledger.source.append(entry(), room=10)
    key = (LIFE, 0, 0)
    if kind == "in part":
        ledger.source.files[key].synced = 4
        ledger.source.files[key].end = None
        spare = ledger.source.files.pop((LIFE, 0, 1))
        assert ledger.round() == 4
        ledger.source.files[LIFE, 0, 1] = spare
        ledger.source.files.pop(key)
    elif kind == "wholly":
        ledger.source.files.pop(key)
    else:
        ledger.source.files[key].damage = "record 9 has a wrong checksum"
    ledger.source.die()
    return key


@pytest.mark.parametrize("kind", ["in part", "wholly", "damaged"])
def test_a_loss_is_told_until_an_operator_accepts_it(ledger: Ledger, kind: str) -> None:
    lose(ledger, kind)
    ledger.round()
    word = ledger.path.parent / FILE
    assert f"touch {word}" in str(ledger.compactor.status().error)
    ledger.tidy()
    ledger.round()
    assert ledger.compactor.status().error is not None, "nobody has said a word"
    word.touch()
    ledger.tidy()
    assert not word.exists(), "it speaks of no later loss"
    for _ in range(2):
        ledger.round()
        assert ledger.compactor.status().error is None
        ledger.crash()
    assert [event for event, _ in ledger.lines][-1] == "ledger_loss_accepted"
    assert unread(ledger.store, ledger.source).faults == {}
    with ledger.store.reading() as connection:
        check_ids(connection, report := Report())
    assert report.differences == []
    (loss,) = report.accepted_losses
    assert loss["file"] == f"{LIFE:016x}-00-00000000.segment"
    assert {"in part": "record 4 on", "wholly": "none of its entries", "damaged": "wrong checksum"}[kind] in loss[
        "message"
    ]


@pytest.mark.parametrize("kind", ["in part", "wholly"])
def test_an_accepted_loss_that_comes_back_is_stored_once(ledger: Ledger, kind: str) -> None:
    for _ in range(15):
        ledger.source.append(entry(), room=10)
    backup = dict(ledger.source.files)
    ledger.source = type(ledger.source)()
    ledger.crash()
    key = lose(ledger, kind)
    ledger.round()
    (ledger.path.parent / FILE).touch()
    ledger.tidy()
    ledger.round()
    ledger.source.files[key] = backup[key]
    ledger.source.die()
    ledger.round()
    assert len(ledger.events()) == 15 and ledger.compactor.status().error is None
    with ledger.store.reading() as connection:
        check_ids(connection, report := Report())
    assert (report.differences, report.accepted_losses) == ([], [])
    assert unread(ledger.store, ledger.source).faults == {}
    ledger.source.append(entry(at=NOON + 40 * 86400), slot=1)
    ledger.round()
    with ledger.store.writing() as connection:  # retention deletes the cursors of a life that is stored whole
        forget(connection, 1000, [(LIFE, 1)])
    with ledger.store.reading() as connection:
        check_ids(connection, report := Report())
    assert report.accepted_losses == []


def test_a_later_loss_is_not_accepted(ledger: Ledger) -> None:
    lose(ledger, "wholly")
    ledger.round()
    (ledger.path.parent / FILE).touch()
    ledger.tidy()
    for _ in range(15):
        ledger.source.append(entry(), slot=1, room=10)
    ledger.source.files.pop((LIFE, 1, 0))
    ledger.round()
    ledger.tidy()
    assert "-01-00000000.segment" in str(ledger.compactor.status().error)


def test_a_word_before_the_start_waits_until_all_losses_are_known(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage in a late segment and an older copy show once the backlog is stored."""
    monkeypatch.setattr("aigw.ledger.compactor.MOST_COMMITS", 1)
    monkeypatch.setattr("aigw.ledger.compactor.MOST", 10)
    for _ in range(35):
        ledger.source.append(entry(), slot=1, room=10)
    ledger.source.die(1)
    ledger.source.files[LIFE, 1, 2].damage = "record 9 has a wrong checksum"
    ledger.store.height.write(50)
    word = ledger.path.parent / FILE
    word.touch()
    ledger.round()
    ledger.compactor._tidy()
    assert word.exists() and ledger.compactor.is_behind
    while ledger.compactor.is_behind:
        ledger.round()
        ledger.compactor._tidy()
    ledger.round()
    assert not word.exists() and ledger.compactor.status().error is None
    report = report_of(ledger)
    assert report.differences == [] and len(report.accepted_losses) == 2


def copy_of(ledger: Ledger) -> bytes:
    """`ledger.db` as a backup has it."""
    copy = ledger.path.with_suffix(".copy")
    with contextlib.closing(sqlite3.connect(ledger.path)) as source, contextlib.closing(sqlite3.connect(copy)) as to:
        source.backup(to)
    return copy.read_bytes()


def restore(ledger: Ledger, copy: bytes) -> None:
    """Put a backup in the place of `ledger.db`, as for a start of the gateway."""
    ledger.store.close()
    for end in ("-wal", "-shm"):
        ledger.path.with_name(ledger.path.name + end).unlink(missing_ok=True)
    ledger.path.write_bytes(copy)
    ledger.open()


def report_of(ledger: Ledger) -> Report:
    """The audit's part about numbers and segments."""
    rest, report = unread(ledger.store, ledger.source), Report()
    with ledger.store.reading() as connection:
        check_ids(connection, report)
        check_height(connection, report, height_of(ledger.store, connection), rest.entries)
    return report


def test_an_older_copy_of_the_ledger_is_told_until_its_loss_is_accepted(ledger: Ledger) -> None:
    """Lives of workers that began and ended behind the backup leave no other trace."""
    for life in range(3):
        ledger.source.append(entry(), life=LIFE + life)
        ledger.source.die()
        ledger.round()
        if life == 0:
            copy = copy_of(ledger)
    ledger.now += HEIGHT_S
    ledger.tidy()
    assert report_of(ledger).differences == [] and ledger.source.files == {}
    restore(ledger, copy)
    (told,) = report_of(ledger).differences
    assert (told["ledger"], told["expected"]) == (1, 3), "before a gateway starts"
    for _ in range(5):  # workers serve before the first round
        ledger.source.append(entry(), life=LIFE + 9, slot=9)
    for n in range(4):  # as many new events as were lost make nothing good
        ledger.round()
        assert "at least 2 entries that were stored before are not in it" in str(ledger.compactor.status().error)
        (told,) = report_of(ledger).differences
        assert (told["ledger"], told["expected"]) == (1, 3)
        ledger.source.append(entry(), life=LIFE + 9, slot=n)
        ledger.crash()
    (ledger.path.parent / FILE).touch()
    ledger.round()
    ledger.tidy()
    for _ in range(2):
        ledger.round()
        assert ledger.compactor.status().error is None
        report = report_of(ledger)
        assert report.differences == []
        assert [loss["file"] for loss in report.accepted_losses] == ["ledger.db"]
        ledger.crash()
    assert ledger.lines.count(("ledger_older_copy", {"entries": 1, "entries_before": 3})) == 1


def test_an_older_copy_whose_entries_are_still_in_segments_lacks_nothing(ledger: Ledger) -> None:
    ledger.source.append(entry())
    ledger.round()
    copy = copy_of(ledger)
    for _ in range(5):
        ledger.source.append(entry())
    ledger.round()
    ledger.now += HEIGHT_S
    ledger.tidy()
    assert ledger.store.height.read() == 6
    ledger.source.die()
    restore(ledger, copy)
    assert report_of(ledger).differences == []
    ledger.round()
    assert ledger.compactor.status().error is None and report_of(ledger).differences == []


def test_the_newest_copy_ends_the_alarm_of_an_older_one(ledger: Ledger) -> None:
    copies = []
    for life in range(3):
        ledger.source.append(entry(), life=LIFE + life)
        ledger.source.die()
        ledger.round()
        copies.append(copy_of(ledger))
    ledger.now += HEIGHT_S
    ledger.tidy()
    restore(ledger, copies[0])
    ledger.round()
    assert "restored from a backup" in str(ledger.compactor.status().error)
    ledger.now += HEIGHT_S
    ledger.tidy()
    restore(ledger, copies[2])
    ledger.round()
    assert ledger.compactor.status().error is None and report_of(ledger).differences == []


def test_calls_that_an_older_copy_stored_are_missed_in_the_newest_one(ledger: Ledger) -> None:
    copies = {}
    for life, count in enumerate((10, 10, 5)):
        if life == 2:
            ledger.now += HEIGHT_S
            ledger.tidy()
            restore(ledger, copies[0])
            ledger.round()
            assert "it lacks the calls that were stored since then" in str(ledger.compactor.status().error)
        for _ in range(count):
            ledger.source.append(entry(), life=LIFE + life)
        ledger.source.die()
        ledger.round()
        copies[life] = copy_of(ledger)
    ledger.now += HEIGHT_S
    ledger.tidy()
    assert ledger.store.height.read() == 25, "those that the copy lacks, too"
    (told,) = report_of(ledger).differences
    assert (told["ledger"], told["expected"]) == (10, 20)
    restore(ledger, copies[1])
    (told,) = report_of(ledger).differences
    assert (told["ledger"], told["expected"]) == (20, 25), "before a gateway starts"
    ledger.round()
    assert "at least 5 entries that were stored before are not in it" in str(ledger.compactor.status().error)
    (ledger.path.parent / FILE).touch()
    ledger.tidy()
    restore(ledger, copies[2])
    ledger.round()
    assert "at least 10 entries" in str(ledger.compactor.status().error), "the mark of that copy itself"
    assert ledger.store.height.read() == 25
    assert [row["expected"] for row in report_of(ledger).differences] == [20]


@given(days=st.lists(st.integers(1, 40), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_retention_is_no_older_copy(tmp_path_factory: pytest.TempPathFactory, days: list[int]) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    ledger.retention = Retention(events_s=86400)
    for day in days:
        ledger.now += day * 86400  # more than HEIGHT_S
        for _ in range(3000):
            ledger.source.append(entry(at=int(ledger.now)))
        ledger.round()
        ledger.tidy()
        ledger.crash()
        ledger.round()
        assert ledger.compactor.status().error is None and report_of(ledger).differences == []
    ledger.store.close()
