"""`aigw usage --rerate`: recorded tokens at the prices of another file, and the words about entries that it cannot price."""

import json
from pathlib import Path
from typing import Any

import pytest

from aigw.cli import main
from aigw.ledger.source import COSTED, COUNTED, PRICED
from ledgers import NOON, Ledger, entry

FILE = """
models:
  model-1: {upstreams: [{url: "http://h/v1"}], cost: {input: 1, output: 2, above: {tokens: 100, input: 3}}}
  model-2: {upstreams: [{url: "http://h/v1"}]}
tiers:
  tier-1: {price: {input: 10, output: 20, audio_input: 50, request: 0.001, service_tiers: {flex: 0.5}}}
  tier-2: {}
"""


@pytest.fixture
def data(ledger: Ledger) -> Path:
    """Calls of three tiers and three models, a call of a route, an attempt that did not count, a reservation, a crash."""
    known = COUNTED | PRICED | COSTED
    for fields in (
        {"input": 1000, "output": 10},  # above 100 tokens
        {"input": 20, "output": 0, "audio_input": 5, "service_tier": 4},
        {"source": 3, "input": 20, "output": 10},
        {"outcome": 5, "source": 2, "input": 20, "output": 10},
        {
            "flags": PRICED | COSTED,
            "status": 503,
            "outcome": 4,
            "source": 0,
            "input": 0,
            "output": 0,
            "cost": 0,
            "price": 0,
        },
        {"model": 2},
        {"tier": 2},
        {"tier": 3},
        {"model": 3},
        {"model": 0, "tier": 0, "route": 1, "flags": COUNTED, "input": 0, "output": 0, "cost": 0, "price": 0},
    ):
        ledger.source.append(entry(**{"at": NOON, "flags": known, "consumer": 1} | fields))
    ledger.round()
    return ledger.path.parents[1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "new.yaml"
    path.write_text(FILE)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["usage", *words])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def rerated(
    capsys: pytest.CaptureFixture[str], data: Path, file: Path, *words: str
) -> tuple[list[dict[str, Any]], str]:
    code, out, err = run(capsys, "--data", str(data), "--rerate", str(file), "--output", "json", *words)
    assert code == 0, err
    return json.loads(out), err


def test_each_entry_is_priced_as_its_worker_would(data: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, err = rerated(capsys, data, file, "--group-by", "tier", "model")
    request = 1_000_000
    flex = (15 * 10_000 + 5 * 50_000 + request) // 2
    held = 20 * 50_000 + 10 * 20_000 + request  # of the dearest class, at the dearest factor
    prices = {
        ("tier-1", "model-1"): 1000 * 10_000 + 10 * 20_000 + request + flex + 2 * held,
        ("tier-1", "model-2"): 10 * 10_000 + 5 * 20_000 + request,
        ("tier-1", "model-3"): 10 * 10_000 + 5 * 20_000 + request,
        ("tier-2", "model-1"): 0,
        ("tier-3", "model-1"): 700,
        (None, None): 0,
    }
    costs = {
        ("tier-1", "model-1"): 1000 * 3000 + 10 * 2000 + 20 * 1000 + 2 * (20 * 1000 + 10 * 2000),
        ("tier-1", "model-2"): 0,
        ("tier-1", "model-3"): 300,
        ("tier-2", "model-1"): 10 * 1000 + 5 * 2000,
        ("tier-3", "model-1"): 10 * 1000 + 5 * 2000,
        (None, None): 0,
    }
    found = {(row["group"]["tier"], row["group"]["model"]): row for row in rows}
    assert {key: row["rerated_price_nanodollars"] for key, row in found.items()} == prices
    assert {key: row["rerated_cost_nanodollars"] for key, row in found.items()} == costs
    for row in rows:
        for of in ("price", "cost"):
            difference = row[f"rerated_{of}_nanodollars"] - row[f"{of}_nanodollars"]
            assert row[f"{of}_difference_nanodollars"] == difference
    assert (found["tier-1", "model-2"]["unpriced"], found["tier-1", "model-2"]["rerated_unpriced"]) == (0, 1)
    assert {key for key, row in found.items() if row["kept"]} == {("tier-1", "model-3"), ("tier-3", "model-1")}
    assert f"{file} has no model 'model-3': its 1 entry keeps its recorded cost" in err
    assert f"{file} has no tier 'tier-3': its 1 entry keeps its recorded price" in err


def test_groups_and_filters_are_those_of_usage(data: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, _ = rerated(capsys, data, file, "--group-by", "day", "--tier", "tier-1")
    assert [(row["group"], row["requests"]) for row in rows] == [({"day": "2026-09-21"}, 7)]
    assert rerated(capsys, data, file, "--before", "2026-09-21")[0] == []
    where = ("--data", str(data), "--rerate", str(file), "--output", "csv")
    header = run(capsys, *where)[1].splitlines()[0]
    assert run(capsys, *where, "--before", "2026-09-21")[1] == f"{header}\n"
    assert rerated(capsys, data, file, "--before", "9999-12-31") == rerated(capsys, data, file)
    assert "no call and no refusal of a consumer 'alcie'" in rerated(capsys, data, file, "--consumer", "alcie")[1]
    code, out, _ = run(capsys, "--data", str(data), "--rerate", str(file), "--group-by", "tier")
    assert code == 0 and out.splitlines()[0].split()[:5] == ["TIER", "REQUESTS", "COST", "USD", "RERATED"]
    assert out.splitlines()[-1].startswith("total")


def test_entries_that_are_deleted_are_said(
    ledger: Ledger, data: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ledger.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE n <= 4")
    assert "4 older entries are deleted (ledger.events)" in rerated(capsys, data, file)[1]


def test_keys_and_addresses_of_the_file_are_not_needed(
    data: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = rerated(capsys, data, file)
    text = (
        FILE.replace("http://h/v1", "${UPSTREAM}/v1")
        .replace("output: 20", 'output: "${OUTPUT}"')
        .replace("{url:", '{api_key: "${file:key}", tls_ca: ca.pem, url:')
    )
    file.write_text(
        text
        + "consumers: [{username: a, keyauth_credentials: [{key: '${A_KEY}'}]}]\nconsumer_groups: [{name: tier-3}]\n"
    )
    code, _, err = run(capsys, "--data", str(data), "--rerate", str(file))
    assert code == 2 and "the variable OUTPUT is not set" in err and "UPSTREAM" not in err and "A_KEY" not in err
    monkeypatch.setenv("OUTPUT", "20")
    rows, err = rerated(capsys, data, file)
    assert "no tier" not in err and "has no model 'model-3'" in err
    assert [row["rerated_cost_nanodollars"] for row in rows] == [row["rerated_cost_nanodollars"] for row in known[0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tiers: {tier-1: {prize: {input: 1}}}", "unknown field"),
        ("tier: {tier-1: {price: {input: 1}}}", "did you mean 'tiers'?"),
        ("[]", "expected a mapping"),
        ("5", "expected a mapping"),
        ("tiers: {tier-1: {price: {}}}", "names no price"),
        ("models: {model-1: {costs: {input: 1}}}", "unknown field"),
        ("models: {model-1: {cost: {inputs: 1}}}", "unknown field"),
        ("models: {model-1: 5}", "expected a record"),
        ("tiers: []", "expected a map"),
        ("tiers: {tier-1: {price: 5}}", "expected a record"),
        ("tiers: {tier-1: {price: {input: x}}}", "expected a number"),
        ("tiers: [", "1:"),
    ],
)
def test_a_fault_of_a_price_is_refused(
    data: Path, file: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    file.write_text(text)
    code, out, err = run(capsys, "--data", str(data), "--rerate", str(file))
    assert (code, out) == (2, "") and f"{file}:1:" in err and words in err


@pytest.mark.parametrize("words", [("--events",), ("--denials",), ("--group-by", "reason")])
def test_what_cannot_be_priced_again_is_refused(
    data: Path, file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(capsys, "--data", str(data), "--rerate", str(file), *words)[0] == 2
    file.write_text("tiers: {a: {price: {input: -1}}}")
    code, _, err = run(capsys, "--data", str(data), "--rerate", str(file))
    assert code == 2 and "new.yaml:1:28" in err
