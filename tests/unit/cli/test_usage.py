"""`aigw usage` over the ledger of a data folder: every form, and errors that exit with 2."""

import csv
import io
import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aigw.cli import main
from aigw.ledger.prices import PriceBook, version
from aigw.ledger.retention import Retention
from aigw.ledger.unread import Unread
from ledgers import NOON, Ledger, entry


@pytest.fixture
def data(ledger: Ledger) -> Path:
    """A folder with four calls of two consumers and two refusals."""
    for n in range(4):
        ledger.source.append(
            entry(at=NOON + n * 3600, consumer=1 + n % 2, input=10**n, price=26_000 * n, request_id=bytes([n]) * 16)
        )
    ledger.source.append((NOON, 1, 1, 1, 1, 2))
    ledger.round()
    return ledger.path.parents[1]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["usage", *words])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_the_table_has_sums_in_usd_and_a_total(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--data", str(data), "--group-by", "consumer")
    head, first, second, total = (line.split() for line in out.splitlines())
    assert code == 0 and head[:4] == ["CONSUMER", "REQUESTS", "ERRORS", "INPUT"]
    assert first[:4] == ["consumer-1", "2", "0", "101"] and second[:4] == ["consumer-2", "2", "0", "1,010"]
    assert total[0] == "total" and "0.000156" in total and total[-1] == "2"


def test_programs_get_json_lines_and_csv(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--data", str(data), "--group-by", "consumer", "hour", "--after", "2026-09-21T13:00:00Z")
    _, out, _ = run(capsys, *where, "--output", "json")
    rows = json.loads(out)
    assert [row["group"]["hour"][11:13] for row in rows] == ["13", "14", "15"]
    _, out, _ = run(capsys, *where, "--output", "jsonl")
    assert [json.loads(line) for line in out.splitlines()] == rows
    _, out, _ = run(capsys, *where, "--output", "csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert table[0] == {
        name: str(value) for name, value in ({**rows[0]["group"], **rows[0]} | {}).items() if name != "group"
    }


def test_cells_of_csv_are_no_formulas(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "a=1", '"=1')
    for n, name in enumerate(wild, 50):
        ledger.directory.named["consumer"][n] = (f"id-{n}", name)
        ledger.source.append(entry(consumer=n))
    ledger.round()
    _, out, _ = run(capsys, "--data", str(ledger.path.parents[1]), "--group-by", "consumer", "--output", "csv")
    names = {row["consumer"] for row in csv.DictReader(io.StringIO(out))}
    assert names == {"'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "a=1", '"=1'}


def test_entries_come_in_order_and_whole(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigw.cli.usage_source.PAGE", 3)
    _, out, _ = run(capsys, "--data", str(data), "--events", "--output", "jsonl")
    assert [json.loads(line)["input_tokens"] for line in out.splitlines()] == [1, 10, 100, 1000]
    _, out, _ = run(capsys, "--data", str(data), "--events", "--consumer", "consumer-2", "--output", "csv")
    (first, _) = csv.DictReader(io.StringIO(out))
    assert (first["model"], first["route"], first["stream"], first["request_id"]) == ("model-1", "", "false", "01" * 16)
    _, out, _ = run(capsys, "--data", str(data), "--events")
    assert out.splitlines()[1].split()[:4] == ["2026-09-21T12:00:00.000000Z", "consumer-1", "tier-1", "model-1"]


def test_terminal_shows_that_a_long_answer_is_awaited(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aigw.ledger import questions

    shown = threading.Event()
    answer = questions.ANSWERS["usage"]

    def slow(*asked: Any) -> Any:
        assert shown.wait(20)
        return answer(*asked)

    class Bar:
        def __init__(self, on: bool) -> None:
            assert on

        def __call__(self, stage: str, done: int, total: int) -> None:
            assert stage.startswith("read 0 rows, waiting ")
            shown.set()

        def clear(self) -> None: ...

    monkeypatch.setitem(questions.ANSWERS, "usage", slow)  # type: ignore[misc]
    monkeypatch.setattr("aigw.serve.progress.Bar", Bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, out, _ = run(capsys, "--data", str(data), "--group-by", "consumer", "--output", "jsonl")
    assert code == 0 and len(out.splitlines()) == 2 and shown.is_set()


def test_entries_that_no_gateway_has_stored_are_counted(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, words in ((1, "1 entry lies in a segment and is"), (2, "2 entries lie in segments and are")):
        faults = {(1, 0, n): "torn" for n in range(count)}
        monkeypatch.setattr("aigw.ledger.unread.unread", lambda *_, n=count, f=faults: Unread(n, False, f, []))
        monkeypatch.setattr("aigw._native.Counters", FakeFolder)
        err = run(capsys, "--data", str(data))[2]
        assert f"aigw: {words} not in these sums" in err
        assert ("1 segment is damaged" if count == 1 else "2 segments are damaged") in err


class FakeFolder:
    """A folder with segments."""

    def __init__(self, data: str) -> None:
        self.data = data

    def ledger(self) -> None: ...


def test_refusals_are_listed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--data", str(data), "--denials")
    assert [line.split() for line in out.splitlines()] == [
        ["CONSUMER", "TIER", "MODEL", "REASON", "DENIALS"],
        ["consumer-1", "tier-1", "model-1", "rate_limited", "2"],
    ]


def test_an_empty_answer_is_valid_in_every_form(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--data", str(ledger.path.parents[1]), "--events", "--output")
    assert [run(capsys, *where, form)[1] for form in ("json", "jsonl")] == ["[]\n", ""]


@pytest.mark.parametrize(
    "words",
    [("--group-by", "model", "hour"), ("--events",), ("--denials",), ("--denials", "--group-by", "tier", "day")],
)
def test_csv_without_rows_has_the_header_of_one_with_rows(
    data: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--data", str(data), "--output", "csv", *words)
    header = run(capsys, *where)[1].splitlines()[0]
    assert run(capsys, *where, "--after", "2030-01-01")[1:] == (f"{header}\n", "")


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_a_longer_range_and_an_unknown_name_are_said(
    ledger: Ledger, data: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.now, ledger.retention = NOON + 30.0 * 86400, Retention(events_s=60, minutes_s=60)
    ledger.tidy()
    half = ("--data", str(data), "--output", form, "--after", str(NOON), "--before", str(NOON + 1800))
    code, out, err = run(capsys, *half)
    whole = run(capsys, *half[:-1], str(NOON + 3600))
    assert code == 0 and (out, whole[2]) == (whole[1], "")
    assert "these sums are of 2026-09-21T12:00:00.000000Z up to 2026-09-21T13:00:00.000000Z" in err
    assert "Ask for whole hours, or keep sums by minute longer (ledger.minutes)" in err
    code, _, err = run(capsys, "--data", str(data), "--output", form, "--consumer", "consumer-1", "--model", "gtp")
    assert (code, err) == (0, "the ledger has no call and no refusal of a model 'gtp': check the name\n")
    code, _, err = run(capsys, "--data", str(data), "--output", form, "--events")
    assert code == 0 and "entries of this range are deleted (ledger.events" in err and err.count("\n") == 1


def test_prices_have_a_header_and_name_an_unknown_owner(
    ledger: Ledger, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def prices(*words: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as end:
            main(["prices", "--data", str(data), *words])
        assert not end.value.code
        return capsys.readouterr()

    assert prices("--output", "csv", "--at", "9999-12-31") == ("id,kind,owner,body,valid_from,valid_until\n", "")
    compiled = dict.fromkeys(("input", "cached_input", "cache_write", "output", "reasoning", "request"), 1)
    body = {"input": 1, "request": 2, "above": {"tokens": 9}, "service_tiers": {"flex": 0.5}}
    PriceBook(ledger.store).note({("price", "t"): version(body, {**compiled, "special": None})}, NOON)
    out, _ = prices("--output", "csv")
    assert out.splitlines()[0] == "id,kind,owner,body,valid_from,valid_until" and len(out.splitlines()) == 2
    out, _ = prices("--tier", "t")
    assert out.splitlines()[0].split()[-1] == "RATES"
    assert out.splitlines()[1].endswith("input=1 request=2 above.tokens=9 service_tiers.flex=0.5")
    assert prices("--model", "t")[1] == "the ledger has no cost of a model 't': check the name\n"


def test_years_that_the_ledger_cannot_hold_are_no_bound(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("--events",), ("--denials",)):
        where = ("--data", str(data), "--output", "jsonl", *words)
        everything = run(capsys, *where)
        assert everything[1] and run(capsys, *where, "--after", "0001-01-01", "--before", "9999-12-31") == everything


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--after", "soon"), "after: 'soon' is no time"),
        (("--group-by", "colour"), "group_by: 'colour' is no group"),
        (("--events", "--group-by", "day"), "Entries have no groups"),
        (("--events", "--denials"), "Give one of --events and --denials"),
        (("--admin", "127.0.0.1:1"), "Give one of --data and --admin"),
    ],
)
def test_a_wrong_option_exits_with_2(
    data: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "--data", str(data), *words)
    assert (code, out) == (2, "") and message in err


def test_a_folder_without_a_ledger_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--data", str(tmp_path))
    assert code == 2 and "ledger.db does not exist" in err


@pytest.mark.parametrize("verb", ["usage", "prices", "audit"])
def test_a_gateway_that_stands_still_is_named_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr("aigw.cli.admin_client.SAID_S", 0.05)
    for module in ("usage_source", "verbs.audit"):
        monkeypatch.setattr(f"aigw.cli.{module}.PATIENCE_S", 11)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def stand_still() -> None:
            connection, _ = server.accept()
            with connection:
                assert said.wait(10)

        said = threading.Event()
        standing = threading.Thread(target=stand_still)
        standing.start()
        write = sys.stderr.write

        def noted(text: str) -> int:
            if "has not answered" in text:
                said.set()
            return write(text)

        monkeypatch.setattr("sys.stderr.write", noted)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SystemExit) as end:
            main([verb, "--admin", address, "--output", "json" if verb == "audit" else "csv"])
        standing.join()
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == (2 if verb == "audit" else 1)
    assert lines[0] == f"aigw: the Admin API at {address} has not answered for 0.05 s: waiting up to 11 s"
    assert len([line for line in lines if "has not answered" in line]) == 1


def test_a_gateway_that_does_not_answer_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--admin", "127.0.0.1:1")
    assert code == 1 and "no Admin API answers" in err
