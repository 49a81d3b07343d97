"""Segments that are no gateway's to read: they are told with a repair, nothing is deleted, and everything else is stored."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.ends import ask
from tests.support.processes import AIGW, PATIENCE_S, Gateway, start_gateway, wait_until
from tests.support.surface import Json

New = Callable[..., Gateway]
CALLS = 3


def calls(gateway: Gateway, times: int = CALLS) -> None:
    assert [ask(gateway.proxy, "GET", "/e/get").status for _ in range(times)] == [200] * times


def status(gateway: Gateway) -> Json:
    ledger: Json = httpx.get(gateway.admin + "/status", trust_env=False).json()["ledger"]
    return ledger


def events(gateway: Gateway) -> list[Json]:
    found: list[Json] = httpx.get(gateway.admin + "/usage/events", trust_env=False).json()["data"]
    return found


def killed(data: Path, echo: str, *, stored: bool) -> Path:
    """The segment of a gateway that was killed. `stored`: its entries were in the ledger; else they are in the segment alone."""
    gateway = start_gateway(data)
    gateway.route(echo, "/e")
    children = gateway.children()
    if not stored:
        os.kill(children["control"], signal.SIGSTOP)
    calls(gateway)
    if stored:
        wait_until(lambda: status(gateway)["entries"] == CALLS, "the calls are in the ledger")
    for pid in (gateway.pid, *children.values()):
        os.kill(pid, signal.SIGKILL)
    gateway.process.end()
    (segment,) = data.glob("ledger/*-00-00000000.segment")
    return segment


def crc32c(data: bytes) -> int:
    found = 0xFFFFFFFF
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (0x82F63B78 if found & 1 else 0)
    return found ^ 0xFFFFFFFF


def told(gateway: Gateway, event: str, segment: str) -> Json:
    """The line of the log about this segment, which may stand before the gateway serves."""

    def found() -> list[Json]:
        lines = [json.loads(line) for line in gateway.process.lines if line.startswith("{")]
        return [line for line in lines if (line["event"], line.get("segment")) == (event, segment)]

    wait_until(lambda: bool(found()), f"the log has {event} of {segment}")
    (line,) = found()
    return line


def content(file: Path) -> str:
    """Everything in a database."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return "\n".join(connection.iterdump())


def newer(segment: Path) -> None:
    """The same segment in the layout of a later version."""
    data = bytearray(segment.read_bytes())
    data[8] = 99
    data[64:72] = crc32c(bytes(data[:64])).to_bytes(8, "little")
    segment.write_bytes(data)


def test_segment_of_another_gateway_or_of_a_later_version_is_told_and_stays(
    new_gateway: New, tmp_path: Path, echo: str
) -> None:
    foreign = killed(tmp_path / "other", echo, stored=False)
    data = tmp_path / "data"
    own = killed(data, echo, stored=False)
    late = own.with_name(own.name.replace("-00-", "-05-"))
    shutil.copy(own, late)
    newer(late)
    shutil.copy(foreign, own.parent)
    gateway = new_gateway(data=data)
    for name, why in ((foreign.name, "another store"), (late.name, "layout 99")):
        line = told(gateway, "ledger_segment_unreadable", name)
        assert why in line["error"] and "nothing was changed" in line["error"], line
    wait_until(lambda: status(gateway)["entries"] == CALLS, "the entries of the killed gateway are stored")
    assert "2 segment(s) cannot be read, the others are stored" in status(gateway)["error"]
    calls(gateway)
    wait_until(lambda: status(gateway)["entries"] == 2 * CALLS, "new entries are stored")
    kept = {file.name for file in (data / "ledger").iterdir()}
    assert {foreign.name, late.name} <= kept and own.name not in kept
    # The repair that the error names.
    (own.parent / foreign.name).unlink()
    late.unlink()
    wait_until(lambda: status(gateway)["error"] is None, "all is well")
    assert status(gateway)["entries"] == 2 * CALLS


def test_missing_segment_is_told_until_it_returns(new_gateway: New, tmp_path: Path, echo: str) -> None:
    data = tmp_path / "data"
    segment = killed(data, echo, stored=True)
    backup = segment.rename(tmp_path / segment.name)
    gateway = new_gateway(data=data)
    told(gateway, "ledger_segment_missing", segment.name)
    assert f"1 segment(s) are missing ({segment.name})" in status(gateway)["error"]
    assert "Restore them from a backup" in status(gateway)["error"]
    calls(gateway)
    wait_until(lambda: status(gateway)["entries"] == 2 * CALLS, "new entries are stored")
    shutil.copy(backup, segment)
    wait_until(lambda: status(gateway)["error"] is None, "all is well")
    assert status(gateway)["entries"] == 2 * CALLS, "nothing is stored twice"


@pytest.mark.parametrize("stored", [True, False])
def test_missing_segment_that_is_lost_for_good_can_be_accepted(
    new_gateway: New, tmp_path: Path, echo: str, stored: bool
) -> None:
    data = tmp_path / "data"
    segment = killed(data, echo, stored=stored)
    segment.rename(tmp_path / segment.name)
    gateway = new_gateway(data=data)
    told(gateway, "ledger_segment_missing", segment.name)
    audit = [*AIGW, "audit", "--data", str(data), "--output", "json"]
    assert subprocess.run(audit, capture_output=True, text=True, check=False).returncode == 1
    word = data / "ledger" / "accept-loss"
    assert f"touch {word}" in status(gateway)["error"]
    word.touch()
    wait_until(lambda: status(gateway)["error"] is None, "all is well")
    lines = [line for line in gateway.process.lines if "ledger_loss_accepted" in line]
    assert len(lines) == 1 and segment.name in lines[0] and '"missing"' in lines[0], lines
    assert not word.exists()
    found = json.loads(subprocess.run(audit, capture_output=True, text=True, check=True).stdout)
    (loss,) = found["accepted_losses"]
    assert loss["file"] == segment.name
    assert ("record" in loss["message"]) == stored and "in the ledger" in loss["message"]
    assert gateway.process.end() == 0
    gateway = new_gateway(data=data)
    assert status(gateway)["error"] is None, "an accepted loss stays one"


def refused(data: Path, file: Path, code: int) -> str:
    """The last line of a start that this file of the data folder ends."""
    command = [
        *AIGW,
        "serve",
        "--data",
        str(data),
        "--proxy",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--workers",
        "1",
    ]
    end = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert end.returncode == code, end.stderr
    last = end.stderr.splitlines()[-1]
    assert str(file) in last and "Traceback" not in end.stderr, end.stderr
    return last


@pytest.mark.parametrize("fault", ["another gateway's", "a later version's"])
def test_ledger_that_is_not_this_gateways_ends_the_start(tmp_path: Path, echo: str, fault: str) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data, other) if fault == "another gateway's" else (data,):
        assert start_gateway(folder).process.end() == 0
    file = data / "ledger" / "ledger.db"
    if fault == "another gateway's":
        shutil.copy(other / "ledger" / "ledger.db", file)
    else:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
            connection.commit()
    before = content(file)
    last = refused(data, file, 2)
    repair = "move the folder" if fault == "another gateway's" else "use the version that made it"
    assert repair in last, last
    assert content(file) == before


def test_lost_ledger_ends_the_start_until_it_is_back_or_an_empty_one_is_wanted(
    new_gateway: New, tmp_path: Path, echo: str
) -> None:
    data = tmp_path / "data"
    killed(data, echo, stored=True)
    file = data / "ledger" / "ledger.db"
    backup = file.rename(tmp_path / "backup.db")
    for _ in range(2):
        last = refused(data, file, 1)
        assert "restore it from a backup" in last and f"touch {file}" in last
        assert not file.exists(), "nothing is made in its place"
    shutil.copy(backup, file)
    gateway = new_gateway(data=data)
    assert len(events(gateway)) == CALLS
    assert gateway.process.end() == 0
    file.unlink()
    file.touch()
    gateway = new_gateway(data=data)
    assert events(gateway) == [] and status(gateway)["error"] is None


def test_older_copy_of_the_ledger_is_told_until_its_loss_is_accepted(
    new_gateway: New, tmp_path: Path, echo: str
) -> None:
    data = tmp_path / "data"
    file, audit = data / "ledger" / "ledger.db", [*AIGW, "audit", "--data", str(data)]
    for run in range(2):
        gateway = new_gateway(data=data)
        if run == 0:
            gateway.route(echo, "/e")
        calls(gateway)
        assert gateway.process.end() == 0
        if run == 0:
            backup = shutil.copy(file, tmp_path)
    assert subprocess.run(audit, capture_output=True, check=False).returncode == 0
    shutil.copy(backup, file)
    found = subprocess.run(audit, capture_output=True, text=True, check=False)
    assert found.returncode == 1 and f"at least {CALLS} entries" in found.stdout, found.stdout
    gateway = new_gateway(data=data)
    calls(gateway, 2 * CALLS)
    wait_until(lambda: status(gateway)["entries"] == 3 * CALLS, "new entries are stored")
    assert f"at least {CALLS} entries that were stored before are not in it" in status(gateway)["error"]
    assert subprocess.run(audit, capture_output=True, check=False).returncode == 1
    (data / "ledger" / "accept-loss").touch()
    wait_until(lambda: status(gateway)["error"] is None, "the loss is accepted")
    found = subprocess.run(audit, capture_output=True, text=True, check=False)
    assert "as lost: ledger.db: at least" in found.stdout, found.stdout


def test_ledger_that_goes_away_while_the_gateway_runs_loses_no_entry(
    new_gateway: New, tmp_path: Path, echo: str
) -> None:
    data = tmp_path / "data"
    gateway = new_gateway(data=data)
    gateway.route(echo, "/e")
    calls(gateway)
    wait_until(lambda: status(gateway)["entries"] == CALLS, "the calls are in the ledger")
    file = data / "ledger" / "ledger.db"
    away = file.rename(tmp_path / "away.db")
    calls(gateway)
    wait_until(lambda: status(gateway)["error"] is not None, "the loss is told")
    assert "was removed or replaced" in status(gateway)["error"]
    away.rename(file)
    wait_until(lambda: status(gateway)["entries"] == 2 * CALLS, "the entries have waited in their segment")
    assert status(gateway)["error"] is None


def test_missing_segment_of_which_nothing_was_stored_is_told_by_the_one_behind_it(
    new_gateway: New, tmp_path: Path, echo: str
) -> None:
    data = tmp_path / "data"
    segment = killed(data, echo, stored=False)
    assert segment.with_name(segment.name.replace("-00000000.", "-00000001.")).exists(), "its spare"
    backup = segment.rename(tmp_path / segment.name)
    audit = subprocess.run([*AIGW, "audit", "--data", str(data)], capture_output=True, text=True, check=False)
    assert audit.returncode == 1 and segment.name in audit.stdout
    gateway = new_gateway(data=data)
    told(gateway, "ledger_segment_missing", segment.name)
    calls(gateway)
    wait_until(lambda: status(gateway)["entries"] == CALLS, "new entries are stored")
    assert f"1 segment(s) are missing ({segment.name})" in status(gateway)["error"]
    shutil.copy(backup, segment)
    wait_until(lambda: status(gateway)["entries"] == 2 * CALLS, "the entries of the backup are stored")
    wait_until(lambda: status(gateway)["error"] is None, "all is well")


def test_killed_workers_leave_no_segments(new_gateway: New, tmp_path: Path, echo: str) -> None:
    data = tmp_path / "data"
    gateway = new_gateway(data=data)
    gateway.route(echo, "/e")
    for _ in range(3):
        worker = gateway.children()["worker-1"]
        calls(gateway)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda worker=worker: gateway.children().get("worker-1") not in (None, worker), "a new worker")
        wait_until(lambda: httpx.get(gateway.admin + "/readyz", trust_env=False).status_code == 200, "it serves")
    wait_until(lambda: len(list(data.glob("ledger/*-00-*.segment"))) <= 2, "segments of the killed workers are removed")
    assert status(gateway)["entries"] == 3 * CALLS


READERS = (("audit",), ("usage",), ("usage", "--group-by", "consumer"), ("prices",), ("usage", "--rerate"))


def offline(data: Path, reader: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    file = data.with_suffix(".rates.yaml")
    file.write_text("models: {}\n")
    given = [*reader, str(file)] if reader[-1] == "--rerate" else reader
    return subprocess.run([*AIGW, *given, "--data", str(data)], capture_output=True, text=True, timeout=60)


def test_no_reader_takes_the_ledger_of_another_gateway_as_its_own(new_gateway: New, tmp_path: Path, echo: str) -> None:
    """The file itself, stopped cleanly, and then segments alone."""
    one, other = killed(tmp_path / "one", echo, stored=True), killed(tmp_path / "other", echo, stored=True)
    for reader in READERS:
        assert offline(tmp_path / "other", reader).returncode == 0, offline(tmp_path / "other", reader).stderr
    shutil.copy(one, other.parent)
    for reader in READERS:
        done = offline(tmp_path / "other", reader)
        assert done.returncode == 2 and done.stdout == "", done.stdout + done.stderr
        assert one.name in done.stderr and "move the ledger folder" in done.stderr and "[Errno" not in done.stderr
    (other.parent / one.name).unlink()
    kept = [file.rename(tmp_path / file.name) for file in sorted(other.parent.iterdir())]
    for file in one.parent.glob("ledger.db*"):
        shutil.copy(file, other.parent)
    for reader in READERS:
        done = offline(tmp_path / "other", reader)
        assert done.returncode == 2 and done.stdout == "", done.stdout + done.stderr
        assert "belongs to the gateway" in done.stderr and "move the folder" in done.stderr
    for file in other.parent.iterdir():
        file.unlink()
    for file in kept:
        file.rename(other.parent / file.name)
    assert offline(tmp_path / "other", ("audit",)).returncode == 0


def test_texts_about_segments_are_said_once_with_a_repair_that_harms_none(tmp_path: Path, echo: str) -> None:
    data = tmp_path / "data"
    segment = killed(data, echo, stored=False)
    copy = segment.with_name(segment.name.replace("-00000000.", "-00000001."))
    shutil.copy(segment, copy)
    done = offline(data, ("audit",))
    assert done.returncode == 2 and "[Errno" not in done.stderr
    assert f"copy of {segment.name}" in done.stderr and "move this file out of the folder" in done.stderr
    copy.unlink()
    copy.mkdir()
    done = offline(data, ("audit",))
    assert done.returncode == 2 and "move that folder away" in done.stderr and copy.name in done.stderr, done.stderr
    copy.rmdir()
    os.truncate(segment, 8192)
    done = offline(data, ("audit",))
    assert done.returncode == 1 and done.stdout.count("are missing at its end") == 1, done.stdout
