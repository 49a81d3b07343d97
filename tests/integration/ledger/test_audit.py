"""`aigw audit`: entries, rollups and counters of a gateway that served calls of every kind are equal, and a change of any of them is named."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aigw.ledger.audit.compare import PATIENCE_S
from tests.support.clock import Clock
from tests.support.processes import AIGW, Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, start_configured

PRICE: Json = {"input": 0.5, "output": 1, "request": 0.001}
LIMITS: Json = [
    {"requests": 1000, "per": "day"},
    {"tokens": 1_000_000, "per": "day"},
    {"input_tokens": 1_000_000, "per": "month"},
    {"output_tokens": 1_000_000, "per": "day", "scope": "credential"},
    {"tokens": 1_000_000, "per": "day", "scope": "model"},
    {"spend": 100, "per": "month"},
    {"spend": 1, "per": "month", "mode": "shadow"},
    {"requests": 100, "per": "second", "burst": 100},
    {"concurrency": 8},
]


def audited(data: Path, *arguments: str) -> tuple[int, Json]:
    """Exit code and report."""
    done = subprocess.run(
        [*AIGW, "audit", "--data", str(data), "--output", "json", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def served(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Caller]]:
    """A gateway that has served plain calls, streams, a failure, and a call of a route."""
    models = {
        name: {"upstreams": [{"url": f"{url}/v1", "model": "mock-small"}], "max_output_tokens": 64}
        for name, url in (("small-chat", mock_llm), ("other", mock_llm), ("away", "http://127.0.0.1:9"))
    }
    tiers = {
        "t": {"limits": LIMITS, "price": PRICE},
        "later": {"limits": [*LIMITS, {"tokens": 500_000, "per": "hour"}], "price": PRICE},
    }
    gateway = start_configured(tmp_path_factory.mktemp("audit") / "data", {"models": models, "tiers": tiers}, workers=2)
    try:
        one = caller(gateway, "t")
        for turn in range(6):
            model = "other" if turn % 2 else "small-chat"
            assert one.post(chat(model, stream=turn > 3)).status_code == 200
        assert one.post(chat("away")).status_code == 502
        yield gateway, one
    finally:
        gateway.process.end()


def test_books_of_a_running_gateway_balance(served: tuple[Gateway, Caller]) -> None:
    gateway, one = served
    code, report = audited(gateway.data)
    assert (code, report["differences"]) == (0, [])
    # The limits by window, and one more: that of a model counts for each of two models.
    assert report["checked"]["counters"] == 8
    done = subprocess.run(
        [*AIGW, "audit", "--admin", gateway.admin.removeprefix("http://")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "The books balance" in done.stdout, done.stdout + done.stderr
    assert {row["meter"]: row["used"] for row in one.limits() if row["per"] == "month"}["spend"] > 0


def test_a_limit_that_is_new_to_a_consumer_counts_from_then_on(served: tuple[Gateway, Caller]) -> None:
    gateway, one = served
    one.join("later")
    assert one.post(chat()).status_code == 200
    code, report = audited(gateway.data)
    assert (code, report["differences"]) == (0, []), "the hourly limit has counted one call of seven"
    one.join("t")


def test_audit_names_unpriced_entries(served: tuple[Gateway, Caller]) -> None:
    _, report = audited(served[0].data)
    assert {row["model"] for row in report["unpriced"]} == {"small-chat", "other"}
    assert report["notes"]["unpriced"] == sum(row["entries"] for row in report["unpriced"]) >= 6


TAMPERED = {
    "an entry's tokens": ("UPDATE events SET output = output + 1 WHERE n = 2", {"rollups", "counters"}),
    "an entry is deleted": ("DELETE FROM events WHERE n = 3", {"ids", "rollups", "counters"}),
    "the newest entry is deleted": (
        "DELETE FROM events WHERE n = (SELECT MAX(n) FROM events)",
        {"rollups", "counters"},
    ),
    "a sum of a minute": ("UPDATE rollups_minute SET price = price + 1", {"rollups"}),
    "a sum of a day": ("UPDATE rollups_day SET requests = requests - 1", {"rollups"}),
    "a day is deleted": ("DELETE FROM rollups_day", {"rollups"}),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_audit_names_a_change_of_the_ledger(served: tuple[Gateway, Caller], tmp_path: Path, name: str) -> None:
    statement, checks = TAMPERED[name]
    copy = tmp_path / "data"
    shutil.copytree(served[0].data, copy, ignore=shutil.ignore_patterns("*.sock"))
    with sqlite3.connect(copy / "ledger" / "ledger.db") as connection:
        connection.execute(statement)
    code, report = audited(copy)
    assert code == 1 and {row["check"] for row in report["differences"]} >= checks, report
    for row in report["differences"]:
        sides = [
            value
            for key, value in row.items()
            if key.startswith(("ledger", "expected", "events", "rollups", "totals", "counters"))
        ]
        assert len(sides) == 2 and sides[0] != sides[1], row


def test_audit_names_a_counter_that_is_lost(served: tuple[Gateway, Caller], tmp_path: Path) -> None:
    gateway, one = served
    copy = tmp_path / "data"
    shutil.copytree(gateway.data, copy, ignore=shutil.ignore_patterns("*.sock"))
    with sqlite3.connect(copy / "store.db") as connection:
        columns = dict(connection.execute("SELECT key, n FROM columns"))
    number = columns["tokens:tier:consumer:day"]
    file = copy / "cells" / f"column-{number}"
    header = 4096
    file.write_bytes(file.read_bytes()[:header] + bytes(file.stat().st_size - header))
    code, report = audited(copy)
    assert code == 1, report
    assert {(row["check"], row.get("consumer", one.name)) for row in report["differences"]} == {("counters", one.name)}


@pytest.mark.parametrize("ahead", [3600, 86_400, -14 * 3600])
def test_a_clock_that_was_wrong_for_a_moment_is_no_difference(mock_llm: str, tmp_path: Path, ahead: int) -> None:
    """One call with the clock ahead or behind, then it is right again: beside the gateway and at rest, at once."""
    clock = Clock(tmp_path)
    limits = [{"requests": 1000, "per": per} for per in ("second", "hour", "day", "month")]
    models = {"small-chat": {"upstreams": [{"url": f"{mock_llm}/v1", "model": "mock-small"}], "max_output_tokens": 64}}
    configuration = {"models": models, "tiers": {"t": {"limits": [*limits, {"tokens": 100_000, "per": "day"}]}}}
    gateway = start_configured(tmp_path / "data", configuration, env=clock.environment)
    try:
        one = caller(gateway, "t")
        for step in (0, ahead, 0):
            clock.step(step)
            for _ in range(2):
                assert one.post(chat()).status_code == 200
        begin = time.monotonic()
        live = _report_of(gateway.data, clock)
        beside = time.monotonic() - begin
    finally:
        gateway.process.end()
    begin = time.monotonic()
    resting = _report_of(gateway.data, clock)
    assert beside - (time.monotonic() - begin) < PATIENCE_S, "it waits for no entry"
    for report in (live, resting):
        assert report["differences"] == [] and report["checked"]["entries"] + report["notes"]["unread"] == 6
        told = " ".join(report["not_compared"])
        assert f"requests per {'hour' if abs(ahead) < 86_400 else 'day'}" in told and "ledger" in told, report
    with sqlite3.connect(gateway.data / "ledger" / "ledger.db") as connection:
        connection.execute("UPDATE events SET output = output + 1000 WHERE n = 1")
    assert {row["check"] for row in _report_of(gateway.data, clock)["differences"]} >= {"rollups"}


def _report_of(data: Path, clock: Clock) -> Json:
    done = subprocess.run(
        [*AIGW, "audit", "--data", str(data), "--output", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **clock.environment},
    )
    assert done.stderr == "", done.stderr
    report: Json = json.loads(done.stdout)
    return report


def test_a_folder_without_a_ledger_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run([*AIGW, "audit", "--data", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "does not exist" in done.stderr
    done = subprocess.run([*AIGW, "audit", "--admin", "127.0.0.1:9"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("aigw: error:")


def test_books_balance_after_a_gateway_was_killed(mock_llm: str, tmp_path: Path) -> None:
    models = {"small-chat": {"upstreams": [{"url": f"{mock_llm}/v1", "model": "mock-small"}], "max_output_tokens": 64}}
    gateway = start_configured(
        tmp_path / "data", {"models": models, "tiers": {"t": {"limits": LIMITS, "price": PRICE}}}, workers=2
    )
    try:
        one = caller(gateway, "t")
        for turn in range(4):
            assert one.post(chat(stream=turn > 1)).status_code == 200
    finally:
        os.kill(gateway.pid, signal.SIGKILL)
        gateway.process.end()
    wait_until(lambda: audited(gateway.data)[0] == 0, "the entries of the last second are in segments, and balance")
