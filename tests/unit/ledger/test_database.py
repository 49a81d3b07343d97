"""The file of the ledger: both descriptions of its schema agree; another node's or a newer version's is refused and stays."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from aigw.errors import ConfigError, StoreError
from aigw.ledger import tables
from aigw.ledger.database import MIGRATIONS, LedgerStore, open_for_reading
from aigw.sqlite import migrate
from ledgers import Ledger, entry


def schema(path: Path) -> list[tuple[str, str]]:
    found = sqlite3.connect(path)
    names = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name != 'alembic_version'"
    shapes = []
    for name, sql in found.execute(names).fetchall():
        columns = found.execute(
            f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{name}') ORDER BY cid"
        ).fetchall()
        rowid = "WITHOUT ROWID" in sql.upper()
        index = sql if sql.startswith("CREATE INDEX") else ""
        shapes.append((name, f"{columns} {rowid} {index}"))
    found.close()
    return sorted(shapes)


def test_migrations_make_the_tables(tmp_path: Path) -> None:
    LedgerStore(tmp_path / "new.db", "node").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with engine.begin() as connection:
        migrate(connection, tmp_path / "migrated.db", None, MIGRATIONS)
    engine.dispose()
    assert schema(tmp_path / "new.db") == schema(tmp_path / "migrated.db")
    stamped = sqlite3.connect(tmp_path / "migrated.db")
    assert stamped.execute("SELECT version_num FROM alembic_version").fetchall() == [(tables.HEAD,)]
    stamped.close()
    LedgerStore(tmp_path / "migrated.db", "node").close()


def test_the_ledger_of_another_node_is_refused_and_stays(ledger: Ledger) -> None:
    ledger.source.append(entry())
    ledger.round()
    with pytest.raises(ConfigError, match="belongs to the gateway node-1, and this data folder to node-2: move"):
        LedgerStore(ledger.path, "node-2")
    assert len(ledger.events()) == 1


def test_the_ledger_of_another_gateway_is_not_read(ledger: Ledger) -> None:
    data = ledger.path.parents[1]
    for own in ("node-2", "node-1"):
        with contextlib.closing(sqlite3.connect(data / "store.db")) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)")
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('store_id', ?)", (own,))
        if own == "node-2":
            with pytest.raises(
                ConfigError, match="belongs to the gateway node-1, and this data folder to node-2: move"
            ):
                open_for_reading(data)
    open_for_reading(data).close()


def test_the_ledger_of_a_newer_version_is_refused_and_stays(ledger: Ledger) -> None:
    ledger.source.append(entry())
    ledger.round()
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(
        ConfigError, match="revision 9999, which this version does not know: use the version that made it"
    ):
        LedgerStore(ledger.path, "node-1")
    newer = "revision 9999, .*: a newer version made it, so read it with that one, or restore"
    with pytest.raises(ConfigError, match=newer):
        open_for_reading(ledger.path.parents[1])
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    with pytest.raises(ConfigError, match="revision 0001, .*: start this version's gateway on the folder once"):
        open_for_reading(ledger.path.parents[1])
    assert len(ledger.events()) == 1


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"x" * 9000)
    with pytest.raises(StoreError, match="the ledger .* cannot be used: .*restore it from a backup"):
        LedgerStore(tmp_path / "ledger.db", "node")
    assert (tmp_path / "ledger.db").read_bytes() == b"x" * 9000


def test_a_folder_without_a_ledger_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ledger.db does not exist: --data names the data folder"):
        open_for_reading(tmp_path)


def test_a_ledger_that_is_gone_is_told_by_its_segments(tmp_path: Path) -> None:
    segment = tmp_path / "ledger" / "18d5f7a3c2b10000-00-00000000.segment"
    segment.parent.mkdir()
    segment.touch()
    with pytest.raises(
        ConfigError, match="is gone, and with it the calls that were stored in it: restore it from a backup"
    ):
        open_for_reading(tmp_path)


def test_the_ledger_is_readable_during_its_writer_and_after_it(ledger: Ledger) -> None:
    ledger.source.append(entry())
    ledger.round()
    for _ in range(2):
        reader = open_for_reading(ledger.path.parents[1])
        with reader.reading() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(tables.events)) == 1
            with pytest.raises(sa.exc.OperationalError, match="readonly"):
                connection.exec_driver_sql("DELETE FROM events")
        reader.close()
        ledger.store.close()


def test_a_backup_beside_the_log_of_the_lost_ledger_is_not_read(ledger: Ledger, tmp_path: Path) -> None:
    data = tmp_path / "restored"
    path = data / "ledger" / "ledger.db"
    path.parent.mkdir(parents=True)

    def calls(count: int) -> None:
        for _ in range(count):
            ledger.source.append(entry())
        ledger.round()

    calls(10)
    with contextlib.closing(sqlite3.connect(ledger.path)) as lost:
        with contextlib.closing(sqlite3.connect(path)) as backup:
            lost.backup(backup)
        calls(4096)
        lost.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    calls(4096)
    log = path.with_name("ledger.db-wal")
    log.write_bytes(ledger.path.with_name(log.name).read_bytes())
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match="the ledger .* and the log beside it are not of one file: .* move ledger.db-wal"
    ):
        open_for_reading(data)
    assert path.read_bytes() == before
    for file in path.parent.glob("ledger.db-*"):
        file.unlink()
    reader = open_for_reading(data)
    with reader.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.events)) == 10
    reader.close()


def test_an_event_takes_less_than_200_bytes(ledger: Ledger) -> None:
    for n in range(20_000):
        ledger.source.append(entry(consumer=1 + n % 39, input=n, output=n, price=n * 1000, cost=n * 999))
    ledger.round()
    with ledger.store.reading() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert ledger.path.stat().st_size / 20_000 < 200
    assert oct(ledger.path.stat().st_mode)[-3:] == "600"


def test_an_empty_file_is_refused_with_the_repair(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "ledger.db").touch()
    with pytest.raises(ConfigError, match="is empty: start the gateway on the folder once"):
        open_for_reading(tmp_path)
