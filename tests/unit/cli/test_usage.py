"""`aigw usage` over the ledger of a data folder: every form, and errors that exit with 2."""

import csv
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from aigw.cli import main
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


def test_refusals_are_listed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--data", str(data), "--denials")
    assert [line.split() for line in out.splitlines()] == [
        ["CONSUMER", "TIER", "MODEL", "REASON", "DENIALS"],
        ["consumer-1", "tier-1", "model-1", "rate_limited", "2"],
    ]


def test_an_empty_answer_is_valid_in_every_form(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--data", str(ledger.path.parents[1]), "--events", "--output")
    assert [run(capsys, *where, form)[1] for form in ("json", "jsonl", "csv")] == ["[]\n", "", ""]


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


def test_a_gateway_that_does_not_answer_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--admin", "127.0.0.1:1")
    assert code == 1 and "no Admin API answers" in err
