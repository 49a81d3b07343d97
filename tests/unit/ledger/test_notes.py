"""Notes of answers: a range that is longer than the one asked for, deleted entries and refusals, and names that nobody has."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from aigw.ledger.query import NS
from aigw.ledger.questions import ANSWERS
from aigw.ledger.retention import Retention
from ledgers import NOON, Ledger, entry

DAY = 86400


def ask(ledger: Ledger, question: str, **query: str | int) -> Mapping[str, Any]:
    with ledger.store.reading() as connection:
        return ANSWERS[question](connection, {name: str(value) for name, value in query.items()})


@pytest.fixture
def old(ledger: Ledger) -> Ledger:
    """Two days with a call each minute of two hours, and a refusal each minute."""
    for minute in range(120):
        for day in (0, 1):
            ledger.source.append(entry(at=NOON + day * DAY + minute * 60 + 30))
            ledger.source.append((NOON + day * DAY + minute * 60, 1, 1, 1, 1, 1))
    ledger.round()
    return ledger


def delete(ledger: Ledger, **keep: float) -> None:
    ledger.now, ledger.retention = NOON + 30.0 * DAY, Retention(**keep)
    ledger.tidy()


def test_answer_without_a_remark_has_no_notes(old: Ledger) -> None:
    for question in ("usage", "denials", "events"):
        assert ask(old, question, after=NOON, before=NOON + 60, consumer="consumer-1")["notes"] == []
        assert ask(old, question, before="9999-12-31")["notes"] == []


@pytest.mark.parametrize(
    ("keep", "span", "grown", "words"),
    [
        ({"events_s": 60}, (30, 90), (0, 120), ("entries of that time", "whole minutes", "(ledger.events)")),
        (
            {"events_s": 60, "minutes_s": 60},
            (1800, 5400),
            (0, 7200),
            ("sums by minute of that time", "whole hours", "(ledger.minutes)"),
        ),
        (
            {"events_s": 60, "minutes_s": 60, "hours_s": 3600},
            (0, 3600),
            (-DAY // 2, DAY // 2),
            ("sums by hour of that time", "whole days", "(ledger.hours)"),
        ),
    ],
)
def test_longer_range_is_named(
    old: Ledger, keep: dict[str, float], span: tuple[int, int], grown: tuple[int, int], words: tuple[str, ...]
) -> None:
    delete(old, **keep)
    found = ask(old, "usage", after=NOON + span[0], before=NOON + span[1])
    note, *rest = found["notes"]
    assert all(word in note for word in words) and "longer than asked for" in note
    assert found["after"] in note and found["before"] in note
    whole = ask(old, "usage", after=NOON + grown[0], before=NOON + grown[1])
    assert (whole["after"], whole["before"], whole["data"]) == (found["after"], found["before"], found["data"])
    # Whole hours or days, as the note says, have no such note.
    assert whole["notes"] == rest and not any("longer" in text for text in rest)


def test_deleted_days_and_refusals_are_named(old: Ledger) -> None:
    delete(old, events_s=60, minutes_s=60, hours_s=3600, days_s=29 * DAY)
    first, second = ask(old, "usage")["notes"]
    assert "calls before 2026-09-22T00:00:00.000000Z are not in these sums" in first and "(ledger.days)" in first
    assert "refusals before 2026-10-2" in second and "(ledger.hours)" in second
    assert ask(old, "denials")["notes"] == [second]
    assert (
        ask(old, "usage", after=NOON + 31 * DAY)["notes"] == ask(old, "denials", after=NOON + 31 * DAY)["notes"] == []
    )


def test_deleted_entries_are_named_to_those_who_lack_them(old: Ledger) -> None:
    before = ask(old, "events", size=100)["offset"]
    delete(old, events_s=60)
    (note,) = ask(old, "events")["notes"]
    assert "entries of this range are deleted (ledger.events" in note and "admitted before 2026-09-22T13:59:30" in note
    whole = ask(old, "events")
    assert len(whole["data"]) == 1 and ask(old, "events", offset=whole["offset"])["notes"] == []
    assert ask(old, "events", offset=before)["notes"] == [note], "a program that polled too seldom"
    assert ask(old, "events", after=NOON + 31 * DAY)["notes"] == []


def test_unknown_names_are_named(old: Ledger) -> None:
    for question in ("usage", "events", "denials"):
        notes = ask(old, question, consumer="alcie", tier="tier-1", model="gtp")["notes"]
        assert notes == [
            "the ledger has no call and no refusal of a consumer 'alcie': check the name",
            "the ledger has no call and no refusal of a model 'gtp': check the name",
        ]
    (note,) = ask(old, "prices", tier="gold")["notes"]
    assert note == "the ledger has no price of a tier 'gold': check the name"


@pytest.mark.parametrize("step", [20, 45, 61, 90, 3600])
def test_refusals_of_neighbouring_ranges_add_up(old: Ledger, step: int) -> None:
    begin, end = NOON - 11, NOON + 2 * 3600 + 11
    edges = [*range(begin, end, step), end]
    for question in ("usage", "denials"):
        sums = [
            sum(row["denials"] for row in ask(old, question, after=low, before=high)["data"])
            for low, high in pairwise(edges)
        ]
        assert sum(sums) == 120, question
    assert ask(old, "usage", after=NOON + 30, before=NOON + 90)["data"][0]["denials"] == 1
    assert ask(old, "usage", after=f"{NOON}.5", before=NOON + 60)["data"][0]["denials"] == 0


def test_refusals_name_the_minutes_that_they_are_of(old: Ledger) -> None:
    found = ask(old, "denials", after=NOON + 30, before=NOON + 90)
    assert (found["after"], found["before"]) == ("2026-09-21T12:01:00.000000Z", "2026-09-21T12:02:00.000000Z")
    (note,) = found["notes"]
    assert found["after"] in note and found["before"] in note and "counted by minute" in note
    assert ask(old, "denials", after=NOON + 60, before=NOON + 120)["data"] == found["data"]


def test_times_of_any_year_are_answered(old: Ledger) -> None:
    delete(old, events_s=60, minutes_s=60)
    for question, everything in (("usage", 240), ("events", 1), ("denials", 240)):
        for before in ("9999-12-31", "9999-12-31T23:59:59.999999Z", "2262-04-12", "2263-01-01", "253402300799"):
            found = ask(old, question, before=before, after="0001-01-01")
            rows = found["data"]
            count = len(rows) if question == "events" else rows[0]["requests" if question == "usage" else "denials"]
            assert count == everything and found.get("before") is None, before
            later = ask(old, question, after=before)["data"]
            assert later == [] or not any(value for name, value in later[0].items() if name != "group")
            assert ask(old, question, before="1900-01-01")["data"] in ([], later)
    assert ask(old, "prices", at="9999-12-31")["data"] == ask(old, "prices", at="0001-01-01")["data"] == []
    assert NS * 253402300799 > 2**63, "the ledger cannot hold the year 9999"


def test_a_range_without_an_end_has_none_in_its_note(old: Ledger) -> None:
    (note,) = ask(old, "denials", after=NOON + 30)["notes"]
    assert note == "refusals are counted by minute: these are of the minutes from 2026-09-21T12:01:00.000000Z on"


def test_calls_of_a_deleted_consumer_are_named_as_such(old: Ledger) -> None:
    del old.directory.named["consumer"][1]
    old.directory.changes += 1
    old.tidy()
    (note,) = ask(old, "usage", consumer="consumer-1")["notes"]
    assert "'consumer-1' of these calls is deleted (its id was id-consumer-1)" in note
    assert ask(old, "usage", consumer="id-consumer-1")["notes"] == []
