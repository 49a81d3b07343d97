"""The store: both descriptions of its schema agree, numbers stay unique, and errors name their cause."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from aigw.control.group_commit import LOGGED_CHANGES
from aigw.control.store import tables
from aigw.control.store.database import MIGRATIONS, Store
from aigw.errors import ConfigError, StoreError
from aigw.sqlite import migrate
from conftest import Gateway


def schema(path: Path) -> list[tuple[str, str]]:
    found = sqlite3.connect(path)
    rows = found.execute(
        "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name != 'alembic_version'"
    )
    shapes = []
    for name, sql in rows:
        columns = found.execute(
            f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{name}') ORDER BY name"
        ).fetchall()
        unique = found.execute(f"SELECT \"unique\", origin FROM pragma_index_list('{name}') ORDER BY 1, 2").fetchall()
        foreign = found.execute(
            f'SELECT "table", "from", on_delete FROM pragma_foreign_key_list(\'{name}\') ORDER BY 2'
        ).fetchall()
        shapes.append((name, f"{columns} {unique} {foreign} {sql if sql.startswith('CREATE INDEX') else ''}"))
    found.close()
    return sorted(shapes)


def test_migrations_make_the_tables(tmp_path: Path) -> None:
    Store(tmp_path / "new.db").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with engine.begin() as connection:
        migrate(connection, tmp_path / "migrated.db", None, MIGRATIONS)
    engine.dispose()
    assert schema(tmp_path / "new.db") == schema(tmp_path / "migrated.db")
    stamped = sqlite3.connect(tmp_path / "migrated.db")
    assert stamped.execute("SELECT version_num FROM alembic_version").fetchall() == [(tables.HEAD,)]
    stamped.close()
    Store(tmp_path / "migrated.db").close()


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ConfigError, match=r"9999"):
        Store(path)


def test_the_store_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database, but long enough to have a header " * 40)
    with pytest.raises(StoreError, match=r"store.db"):
        Store(path)


def test_keep_stores_a_fact_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    assert store.keep("proof", "a") and store.keep("proof", "a") and not store.keep("proof", "b")
    store.close()
    again = Store(tmp_path / "store.db")
    assert again.keep("proof", "a") and again.keep("other", "b")
    again.close()


def test_the_store_survives_and_keeps_its_id(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/consumers", username="bob")
    key = gateway.post("/consumers/bob/key-auth")
    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 3})
    before = gateway.publisher
    gateway.close()
    gateway.open()
    after = gateway.publisher
    assert after is not before
    assert after.store_id == before.store_id
    assert (after.policy, after.consumers, after.credentials) == (before.policy, before.consumers, before.credentials)
    assert after.columns == before.columns
    assert gateway.call("GET", f"/key-auths/{key['id']}")["key_hint"] == key["key_hint"]


def test_only_the_owner_may_read_the_store(tmp_path: Path) -> None:
    def modes() -> dict[str, int]:
        return {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("store.db*")}

    before = os.umask(0)
    try:
        store = Store(tmp_path / "store.db")
        assert store.keep("proof", "a")
        assert modes() == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
        for path in tmp_path.glob("store.db*"):
            path.chmod(0o644)  # the modes that an older version left when it was killed
        again = Store(tmp_path / "store.db")
        assert set(modes().values()) == {0o600}
        again.close()
        store.close()
    finally:
        os.umask(before)


def test_a_new_data_folder_is_private_and_an_existing_one_keeps_its_mode(tmp_path: Path) -> None:
    def mode_of(data: Path) -> int:
        gateway = Gateway(data).open()
        gateway.close()
        return data.stat().st_mode & 0o777

    assert mode_of(tmp_path / "new") == 0o700
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    assert mode_of(tmp_path / "shared") == 0o755


def log_of(gateway: Gateway) -> int:
    """Bytes of the store's log."""
    return (gateway.data / "store.db-wal").stat().st_size


def test_checkpoint_frees_the_space_of_a_large_log(gateway: Gateway) -> None:
    store = gateway.control.store  # type: ignore[union-attr]
    gateway.post("/consumers", username="bob")
    with store.reading() as reader:
        assert reader.get("consumers", "username", "bob", 0)
        gateway.post("/consumers", username="eve")
        store.checkpoint(truncate=True)  # a reader is open: the checkpoint neither waits nor fails
        assert log_of(gateway) > 0
    store.checkpoint(truncate=True)
    assert log_of(gateway) == 0
    assert gateway.call("GET", "/consumers/eve")["username"] == "eve"


def test_the_writer_copies_the_log_between_changes(gateway: Gateway) -> None:
    for number in range(8 * LOGGED_CHANGES):
        gateway.post("/consumers", username=f"c-{number}")
    assert log_of(gateway) < 12 * LOGGED_CHANGES * 4096, "else a commit does it, at 1000 pages"


def test_a_look_at_the_lock_fails_no_write(tmp_path: Path) -> None:
    """A write that has read something waits for the lock, too."""
    store, stop = Store(tmp_path / "store.db"), threading.Event()

    def look() -> None:
        while not stop.is_set():
            store.is_locked()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(300):
            with store.writing() as session:
                session.connection.scalar(sa.select(tables.meta.c.value))
                session.connection.execute(sa.update(tables.meta).values(value=tables.meta.c.value))
    finally:
        stop.set()
        looking.join()
        store.close()
