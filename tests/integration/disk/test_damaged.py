"""Damaged files in the data folder: the gateway names the file and its repair, or rebuilds it from other files.

It never panics and never fails open: with any damage, a call without a key is refused, and a nearly exhausted limit admits no more
than its rest, unless its counter itself is lost.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import AIGW, PATIENCE_S, Gateway, start_gateway, wait_until

New = Callable[..., Gateway]

KEY = "a-key-that-is-only-used-in-tests"
LIMIT, USED = 5, 3
HEADER = 4096  # of every file of counters


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def removed(file: Path) -> None:
    file.unlink()


def garbled(file: Path) -> None:
    """Every byte of its head is another."""
    data = file.read_bytes()
    file.write_bytes(bytes(byte ^ 0xA5 for byte in data[:HEADER]) + data[HEADER:])


def garbled_inside(file: Path) -> None:
    """Its first words, by which it is known, are as they were; all after them is ones."""
    data = file.read_bytes()
    file.write_bytes(data[:32] + b"\xff" * (min(len(data), HEADER) - 32) + data[HEADER:])


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


# Each start compiles the snapshot from the store again, so damaged snapshot files cannot do harm.
MADE_GOOD = [
    ("snapshot/policy-", cut),
    ("snapshot/policy-", garbled_inside),
    ("snapshot/keys-base-", garbled_inside),
    ("snapshot/keys-base-", removed),
    ("snapshot/keys-delta-", cut),
    ("snapshot/keys-delta-", garbled),
    ("cells/control", removed),
    ("cells/slot-00", garbled_inside),
    ("cells/column-1048574", removed),
]

NAMED = [
    *[("cells/control", how) for how in (cut, garbled, garbled_inside)],
    *[("cells/column-1", how) for how in (cut, garbled_inside, zeroed)],
    ("cells/column-1048574", garbled),
    *[("cells/slot-00", how) for how in (emptied, zeroed)],
    *[("cells/open", how) for how in (cut, garbled_inside)],
    *[("store.db", how) for how in (cut, emptied, removed, garbled)],
    *[("secret", how) for how in (cut, removed, garbled)],
]


def named(case: object) -> str:
    return getattr(case, "__name__", str(case))


@dataclass(frozen=True)
class Kept:
    """A data folder as a gateway left it, to be copied; and the upstream of its route."""

    data: Path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, echo: str) -> Kept:
    data = tmp_path_factory.mktemp("damaged") / "data"
    gateway = start_gateway(data, workers=1)
    gateway.route(echo, "/ai")
    gateway.make("/services/s1/plugins", name="key-auth")
    gateway.make("/services/s1/plugins", name="rate-limiting", config={"year": LIMIT, "policy": "local"})
    gateway.make("/consumers", username="x")
    gateway.make("/consumers/x/key-auth", key=KEY)
    assert [call(gateway) for _ in range(USED)] == [200] * USED
    assert gateway.process.end() == 0
    return Kept(data)


def call(gateway: Gateway, key: str | None = KEY, path: str = "/ai/get") -> int:
    headers = {"apikey": key} if key else {}
    return httpx.get(gateway.proxy + path, headers=headers, trust_env=False, timeout=PATIENCE_S).status_code


def test_a_worker_without_a_configuration_is_not_ready(kept: Kept, new_gateway: New, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(kept.data, data)
    gateway = new_gateway(workers=1, data=data)
    for file in (data / "snapshot").iterdir():
        file.unlink()
    os.kill(gateway.children()["worker-1"], signal.SIGKILL)
    gateway.wait_event("snapshot_unreadable")
    gateway.wait_event("ready", child="worker-1")
    assert call(gateway, None) == 401  # never a 404
    assert gateway.process.end() == 0


def copy(kept: Kept, tmp_path: Path, name: str, how: Callable[[Path], None]) -> tuple[Path, list[Path]]:
    """A copy with this file (or these, where the name is a beginning) damaged."""
    data = tmp_path / "data"
    shutil.copytree(kept.data, data)
    files = sorted(data.glob(name + "*" if name.endswith("-") else name))
    assert files, f"there is no {name}"
    for file in files:
        how(file)
    return data, files


@pytest.mark.parametrize(("name", "how"), MADE_GOOD, ids=named)
def test_the_gateway_makes_replaceable_files_again(
    kept: Kept, new_gateway: New, tmp_path: Path, name: str, how: Callable[[Path], None]
) -> None:
    data, _ = copy(kept, tmp_path, name, how)
    gateway = new_gateway(workers=1, data=data)
    assert call(gateway, None) == 401
    assert call(gateway, "another key") == 401
    assert [call(gateway) for _ in range(3)] == [200, 200, 429]
    assert gateway.process.end() == 0
    assert "panicked" not in "".join(gateway.process.lines)


@pytest.mark.parametrize(("name", "how"), NAMED, ids=named)
def test_the_gateway_names_a_damaged_file_it_cannot_replace(
    kept: Kept, tmp_path: Path, name: str, how: Callable[[Path], None]
) -> None:
    data, (file,) = copy(kept, tmp_path, name, how)
    command = [
        *AIGW,
        "serve",
        "--data",
        str(data),
        "--workers",
        "1",
        "--proxy",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]
    end = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert end.returncode == 1, end.stderr
    last = end.stderr.splitlines()[-1]
    assert last.startswith("aigw: the gateway cannot start: ")
    assert str(file) in last
    assert any(repair in last for repair in ("move it away", "remove it", "restore it from a backup")), last
    assert "Traceback" not in end.stderr and "panicked" not in end.stderr


def test_after_the_repair_that_was_told_it_starts(kept: Kept, new_gateway: New, tmp_path: Path) -> None:
    data, (file,) = copy(kept, tmp_path, "cells/column-1", garbled)
    with pytest.raises(AssertionError, match="move it away and start again"):
        start_gateway(data, workers=1)
    file.rename(tmp_path / "moved away")
    gateway = new_gateway(workers=1, data=data)
    assert [call(gateway) for _ in range(LIMIT + 1)] == [200] * LIMIT + [429]  # the count is lost with the counter


def failures(gateway: Gateway) -> int:
    page = httpx.get(gateway.admin + "/metrics", trust_env=False).text
    lines = [line for line in page.splitlines() if line.startswith("aigw_snapshot_load_failures_total ")]
    return int(lines[0].rpartition(" ")[2])


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("policy", cut),
        ("policy", removed),
        ("keys-delta", garbled),
    ],
    ids=named,
)
def test_the_gateway_publishes_a_damaged_file_again(
    kept: Kept, new_gateway: New, tmp_path: Path, name: str, how: Callable[[Path], None]
) -> None:
    data, _ = copy(kept, tmp_path, "lock", lambda file: None)
    gateway = new_gateway(workers=2, data=data)
    assert call(gateway) == 200

    def status() -> tuple[int, set[int]]:
        told = httpx.get(gateway.admin + "/status", trust_env=False).json()
        return told["configuration"]["generation"], {worker["generation"] for worker in told["workers"]}

    def both(path: str, key: str | None = KEY) -> set[int]:
        """The answers of so many new connections that each worker has had some."""
        return {call(gateway, key, path) for _ in range(24)}

    both("/nothing")
    before, seen = status()
    assert seen == {before}
    # No request comes between the change and the damage: workers load a generation at their first request after it. A
    # revoked key must not stay valid in a worker.
    gateway.make("/services/s1/routes", name="second", paths=["/second"])
    httpx.delete(f"{gateway.admin}/consumers/x", trust_env=False).raise_for_status()
    for file in snapshot_files(data, name):
        how(file)
    assert both("/ai/get", None) == {401}
    wait_until(lambda: both("/second/get") == {401}, "what was damaged is in force all the same")
    assert both("/ai/get") == both("/ai/get", None) == {401}
    now, seen = status()
    assert now > before + 2 and seen == {now}
    assert 1 <= failures(gateway) <= 4
    wait_until(lambda: "snapshot_renewed" in "".join(gateway.process.lines), "the log tells of it")
    # Nothing is left to be made good, and the next change is one like any other.
    gateway.make("/services/s1/routes", name="third", paths=["/third"])
    assert both("/third/get") == {401}
    assert status() == (now + 1, {now + 1})
    assert gateway.process.end() == 0
    assert "panicked" not in "".join(gateway.process.lines)


def snapshot_files(data: Path, name: str) -> list[Path]:
    """The newest of that kind."""
    found = (data / "snapshot").glob(f"{name}-*")
    return sorted(found, key=lambda file: int(file.name.rpartition("-")[2]))[-1:]


def test_a_worker_that_starts_on_a_damaged_base_gets_a_new_one(kept: Kept, new_gateway: New, tmp_path: Path) -> None:
    data, _ = copy(kept, tmp_path, "lock", lambda file: None)
    gateway = new_gateway(workers=1, data=data)
    assert call(gateway) == 200
    for file in snapshot_files(data, "keys-base"):
        garbled_inside(file)
    (worker,) = httpx.get(gateway.admin + "/status", trust_env=False).json()["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: answered(gateway) == 200, "the new worker knows the key")
    assert call(gateway, None) == 401
    wait_until(lambda: "snapshot_renewed" in "".join(gateway.process.lines), "the log tells of it")


def answered(gateway: Gateway) -> int:
    """As `call`; 0 while no worker is there."""
    try:
        return call(gateway)
    except httpx.TransportError:
        return 0
