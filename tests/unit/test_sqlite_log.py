"""The log beside a file of SQLite: its own is never doubted, and another file's is refused before it does harm."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw.errors import StoreError
from aigw.ledger.database import LedgerStore
from aigw.sqlite_log import is_doubtful

STEPS = st.tuples(
    st.sampled_from(["insert", "delete", "vacuum", "PASSIVE", "FULL", "TRUNCATE", "RESTART", "read", "end", "open"]),
    st.integers(1, 60),
)


class File:
    """A file in WAL mode with a writer, and a reader that may hold checkpoints back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()
        self.run("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, body BLOB)")

    def open(self) -> None:
        self.writer, self.reader = (sqlite3.connect(self.path, isolation_level=None) for _ in range(2))
        for pragma in ("auto_vacuum=INCREMENTAL", "page_size=1024", "journal_mode=WAL", "wal_autocheckpoint=20"):
            self.run(f"PRAGMA {pragma}")

    def run(self, sql: str) -> None:
        self.writer.execute(sql).fetchall()

    def step(self, what: str, amount: int) -> None:
        if what == "insert":
            self.run(f"WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s WHERE x < {amount})"
                     " INSERT INTO t (body) SELECT randomblob(700) FROM s")  # fmt: skip
        elif what == "delete":
            self.run(f"DELETE FROM t WHERE n IN (SELECT n FROM t LIMIT {amount})")
        elif what == "vacuum":
            self.run(f"PRAGMA incremental_vacuum({amount})")
        elif what == "read":
            if not self.reader.in_transaction:
                self.reader.execute("BEGIN")
            self.reader.execute("SELECT count(*) FROM t").fetchall()
        elif what == "end":
            self.reader.rollback()
        elif what == "open":
            self.close()
            self.open()
        else:
            self.writer.execute("PRAGMA busy_timeout=0")
            with contextlib.suppress(sqlite3.OperationalError):
                self.run(f"PRAGMA wal_checkpoint({what})")

    def killed(self, folder: Path) -> Path:
        """The files as a kill leaves them now."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for end in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{self.path}{end}", folder)
        return folder / self.path.name

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=30))
def test_a_files_own_log_is_never_doubted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    one = File(folder / "one.db")
    for what, amount in steps:
        one.step(what, amount)
        left = one.killed(folder / "killed")
        assert not is_doubtful(left), what
        with contextlib.closing(
            sqlite3.connect(left)
        ) as again:  # the next process takes the log over, and is killed, too
            again.execute("INSERT INTO t (body) VALUES (randomblob(3000))")
            again.commit()
            assert not is_doubtful(left), what
    one.close()


def test_a_log_that_is_cut_anywhere_in_its_last_frames_is_not_doubted(tmp_path: Path) -> None:
    """A kill or a full disk cuts it between two writes. Both frames are of the first page, with the change counter."""
    one = File(tmp_path / "one.db")
    one.step("insert", 5)
    for version in (7, 8):
        one.run(f"PRAGMA user_version={version}")
    left = one.killed(tmp_path / "killed")
    log = left.with_name("one.db-wal")
    whole = log.read_bytes()
    frame = 24 + int.from_bytes(whole[8:12])
    assert [whole[at : at + 4] for at in (len(whole) - 2 * frame, len(whole) - frame)] == [(1).to_bytes(4)] * 2
    for end in range(len(whole) - 2 * frame, len(whole) + 1):
        log.write_bytes(whole[:end])
        assert not is_doubtful(left), end
    for at, version in ((2 * frame - 1, 0), (frame + 27, 0), (frame - 27, 7), (1, 7), (0, 8)):
        log.write_bytes(whole[: len(whole) - at])
        assert not is_doubtful(left)
        with contextlib.closing(sqlite3.connect(f"file:{left}?mode=ro", uri=True)) as cut:
            assert cut.execute("PRAGMA user_version").fetchone() == (version,)
        left.with_name("one.db-shm").unlink(missing_ok=True)
    one.close()


def test_a_backup_beside_the_log_of_the_lost_file_is_refused_and_stays(tmp_path: Path) -> None:
    one = File(tmp_path / "one.db")
    one.step("insert", 60)
    with contextlib.closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        one.writer.backup(backup)
    for _ in range(9):
        one.step("insert", 60)
    left = one.killed(tmp_path / "killed")
    shutil.copy(tmp_path / "backup.db", left)
    with pytest.raises(StoreError, match=r"not of one file: .* move one.db-wal and one.db-shm away"):
        LedgerStore(left, "node")
    assert left.read_bytes() == (tmp_path / "backup.db").read_bytes(), "nothing was mixed into it"
    # The repair that the error names.
    for end in ("-wal", "-shm"):
        left.with_name(left.name + end).unlink()
    with contextlib.closing(sqlite3.connect(left)) as whole:
        assert whole.execute("SELECT count(*) FROM t").fetchone() == (60,)
    one.close()
