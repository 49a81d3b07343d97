"""`aigw audit`: the words and columns of a report."""

import csv
import io
from typing import Any

import pytest

from aigw.cli import main
from aigw.ledger.audit.report import Report

DIFFERENCES: list[dict[str, Any]] = [
    {"check": "rollups", "minute": "2026-11-29T12:00:00.000000Z", "consumer": "=alice, inc", "model": "m", "sum": "price",
     "events": 1_234_567, "rollups_minute": 0},
    {"check": "counters", "consumer": "bob", "meter": "tokens", "per": "day", "scope": "consumer", "after": "2026-11-29T00:00:00.000000Z",
     "before": "2026-11-30T00:00:00.000000Z", "ledger": 5, "counters": 6, "held": 1},
    {"check": "segments", "segment": "a-00-00000001.segment", "message": "the file was never read: it is missing"},
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, report: Report, form: str) -> str:
    monkeypatch.setattr("aigw.cli.verbs.audit._of_folder", lambda data: report.json())
    with pytest.raises(SystemExit) as end:
        main(["audit", "--data", "folder", "--output", form])
    assert (end.value.code or 0) == (0 if report.equal else 1)
    return capsys.readouterr().out


def some(count: int) -> Report:
    """A report in which everything is there `count` times."""
    report = Report(notes=dict.fromkeys(("overruns", "crashed", "unpriced", "in_doubt", "unread"), count))
    report.checked = dict.fromkeys(("entries", "segments", "rollups", "counters"), count)
    report.unpriced = [{"model": "m1", "entries": count}]
    return report


def test_csv_has_a_column_for_each_side_with_plain_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = some(1)
    report.differences = DIFFERENCES
    text = run(capsys, monkeypatch, report, "csv")
    rollup, counter, segment = csv.DictReader(io.StringIO(text))
    assert (rollup["events"], rollup["rollups_minute"], rollup["ledger"]) == ("1234567", "0", "")
    assert (rollup["consumer"], rollup["model"], rollup["amount"]) == ("'=alice, inc", "m", "price")
    assert (counter["ledger"], counter["counters"], counter["held"]) == ("5", "6", "1")
    assert (counter["amount"], counter["time"]) == ("tokens day", "2026-11-29T00:00:00.000000Z")
    assert segment["segment"] == "a-00-00000001.segment" and segment["message"]
    assert run(capsys, monkeypatch, some(1), "csv") == text.splitlines()[0] + "\n"


def test_every_side_of_the_checks_has_a_column() -> None:
    from aigw.cli.verbs.audit import _SIDES
    from aigw.ledger.audit.rollups import _UNITS

    assert {f"rollups_{unit}" for unit in _UNITS.values()} | {"totals_minute", "events", "ledger", "expected"} < {
        *_SIDES
    }


def test_table_counts_one_as_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(capsys, monkeypatch, some(1), "table")
    assert "The books balance: 1 entry of 1 segment, 1 rollup, 1 counter compared." in one
    assert (
        "1 call whose worker died" in one
        and "1 entry lies in a segment, on top of those: a running gateway stores it" in one
    )
    assert "model m1 had no cost at admission: 1 entry\n" in one
    more = run(capsys, monkeypatch, some(2000), "table")
    assert "2,000 entries of 2,000 segments, 2,000 rollups, 2,000 counters compared." in more
    assert "model m1 had no cost at admission: 2,000 entries" in more and "2,000 entries lie in segments" in more
    report = some(2)
    report.differences = DIFFERENCES
    assert "events 1,234,567, rollups_minute 0" in run(capsys, monkeypatch, report, "table")
