"""Data folders that an older version wrote open, keep every entity, and count on from where they were.

In: the two folders of `tests/golden/data-folders` and the state that their gateways told before the end. The wall clock of
the gateway under test starts a minute after the making, so that every window of then still runs.
"""

import json
import struct
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import clock_at
from tests.support.data_folders import AWAY, HOME, KEYS, MADE, admin, answer, call, model, settled, state, upstream
from tests.support.processes import Gateway, start_gateway
from tests.support.surface import metric

GOLDEN = Path(__file__).parents[1] / "golden" / "data-folders"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
LATER_S = 60
LEFT = "x-ratelimit-remaining-year"


@contextmanager
def opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Iterator[Gateway]:
    """A gateway on a copy of the folder `name`, with one worker and the upstream that the folder names."""
    with tarfile.open(GOLDEN / "data-folders.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    for slot in (tmp_path / name / "data" / "cells").glob("slot-*"):
        run_on_this_machine(slot)
    monkeypatch.chdir(tmp_path / name)
    keys = {key.replace("-", "_").upper(): value for key, value in KEYS.items()}
    clock = clock_at(MADE + LATER_S, tmp_path)
    with upstream():
        gateway = start_gateway(tmp_path / name / "data", *arguments, env={**clock, **keys})
        try:
            yield gateway
            assert admin(gateway, "GET", "/status")["configuration"]["error"] is None
        finally:
            assert gateway.process.end() == 0


def run_on_this_machine(slot: Path) -> None:
    """Let a slot's owner be a process of this start of this machine: permits of before a restart all stay counted. The seventh word of a slot
    is the begin of the machine's boot id (`src/io/cells/slots.rs`)."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")[:16]
    with slot.open("r+b") as file:
        file.seek(6 * 8)
        file.write(struct.pack("=Q", int(boot, 16)))


def without_buckets(limits: dict[str, Any]) -> dict[str, Any]:
    """The rows whose numbers do not change as time goes by."""
    return {name: [row for row in rows if row["limit"] != 50] for name, rows in limits.items()}


def rows_of_today(limits: dict[str, Any]) -> dict[str, Any]:
    """The rows of the older version, whose scope had its name behind it: `model small-chat`."""

    def row_of_today(row: dict[str, Any]) -> dict[str, Any]:
        scope, _, name = row["scope"].partition(" ")
        names = {kind: name if kind == scope else None for kind in ("model", "credential", "service")}
        return {**row, "scope": scope, **names}

    return {name: [row_of_today(row) for row in rows] for name, rows in limits.items()}


def assert_kept(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Every entity of `before` is there with all its fields; later versions may add fields."""
    for collection, entities in before["entities"].items():
        assert set(now["entities"][collection]) == set(entities), collection
        for key, entity in entities.items():
            found = now["entities"][collection][key]
            steady = {field: value for field, value in entity.items() if field != "ttl"}
            if collection == "key-auths":  # null in the older version's answers
                steady["key"] = f"{{vault://aigw/{entity['id']}}}"
            if collection == "plugins":  # deprecated fields stand beside the ones that replace them
                found = {**found, "config": {field: found["config"][field] for field in entity["config"]}}
            assert {field: found[field] for field in steady} == steady, (collection, key)
            if entity.get("ttl"):  # seconds that a key still has
                assert LATER_S - 10 < entity["ttl"] - found["ttl"] < 2 * LATER_S


def test_a_folder_of_a_stopped_gateway_keeps_entities_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = EXPECTED["stopped"]
    with opened("stopped", tmp_path, monkeypatch, "--config", "gateway.yaml") as gateway:
        now = state(gateway)
        assert_kept(before, now)
        assert without_buckets(now["limits"]) == without_buckets(rows_of_today(before["limits"]))
        (bucket,) = [row for row in now["limits"]["ann"] if row["limit"] == 50]
        assert bucket["used"] == 12 and bucket["remaining"] == 38
        assert not [event for event in gateway.events if event.get("event") == "slots_reclaimed"]


def test_counts_of_a_stopped_gateway_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("stopped", tmp_path, monkeypatch, "--config", "gateway.yaml") as gateway:
        # 10 calls on the route and 2 of the model before; the tier's own headers show the strictest limits.
        call(gateway, "/file/get", "ann-2")
        call(gateway, *model("ann-2"))
        rows = {(row["per"], row["scope"], row["credential"]): row["used"] for row in settled(gateway)["limits"]["ann"]}
        assert rows["day", "consumer", None] == rows["month", "consumer", None] == 14, rows
        by_key = sorted(used for (_, scope, _), used in rows.items() if scope == "credential")
        assert by_key == [5, 9]
        assert rows["hour", "model", None] == 3
        assert metric(gateway, "aigw_model_requests_total", outcome="completed") == 3
        assert call(gateway, "/file/get", "ben")["x-ratelimit-remaining-month"] == "994"  # 5 before
        assert call(gateway, "/ip/get", "eve")[LEFT] == "993"  # 6 before
        assert call(gateway, "/ip/get", "eve", AWAY)[LEFT] == "998"  # 1 before
        assert call(gateway, "/ip/get", "eve", "127.0.0.4")[LEFT] == "999"
        for tenant, left in (("red", "995"), ("blue", "997"), ("new", "999")):  # 4, 2 and 0 before
            assert call(gateway, "/header/get", "eve", **{"x-tenant": tenant})[LEFT] == left
        assert call(gateway, "/path/get", "eve")[LEFT] == "996"  # 3 before
        assert call(gateway, "/service/get", "kim")[LEFT] == "991"  # 8 before
        assert answer(gateway, "/service/get", "ben")[0] == 403, "ben is not in the group staff"


def test_a_folder_of_a_killed_gateway_resolves_its_permits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = EXPECTED["killed"]
    (row,) = before["limits"]["eve"]
    assert (row["used"], row["reserved"]) == (3, 6)
    with opened("killed", tmp_path, monkeypatch) as gateway:
        now = state(gateway)
        assert_kept(before, now)
        # 3 answered, and 4 that the upstream had received: those count. 2 had reached no upstream: those came back.
        (row,) = now["limits"]["eve"]
        assert (row["used"], row["reserved"], row["remaining"]) == (7, 0, 993)
        assert call(gateway, "/web/get", "eve", HOME)[LEFT] == "992"
