"""The file at start: an incomplete file is waited for, and refused after a bound."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aigw.config import InTheMaking, being_written
from aigw.control.file import read
from aigw.control.file.read import read_at_start
from aigw.control.file.stamp import peek


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "gateway.yaml"
    made.write_text("tiers: {free: {}}\n")
    if being_written([made]) is None:
        pytest.skip("the kernel does not tell who writes on this disk")
    return made


def test_a_start_waits_until_the_file_is_complete(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = file.open("a")

    def sleep(_: float) -> None:
        writer.write("default_tier: free\n")
        writer.close()

    monkeypatch.setattr(read.time, "sleep", sleep)
    found = read_at_start(file, file.with_name("store.db"), must=True)
    assert writer.closed and found.file is not None and found.file.default_tier == "free"


def test_a_first_start_waits_up_to_a_bound_and_a_restart_never(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "WAIT_FOR_WRITER_S", 0.0)
    with file.open("a"):
        with pytest.raises(InTheMaking, match="is being written at this moment"):
            read_at_start(file, file.with_name("store.db"), must=True)
        assert isinstance(read_at_start(file, file.with_name("store.db"), must=False).errors, InTheMaking)


def test_the_start_ignores_the_stamp_of_another_version(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db")) as store, store:
        store.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        newer = json.dumps({"version": "9.9.9/9999", "a word of that version": 1})
        store.execute("INSERT INTO meta VALUES ('configuration', ?)", [newer])
    assert peek(tmp_path / "store.db") is None
