"""The open store: SQLite in WAL mode, by SQLAlchemy Core.

In: a path. Out: `StoreReader`, a consistent view on a connection of its own, and `WriteSession`, the one transaction of the writer
thread. Opening makes the tables of a new store and migrates an older one. API keys reach the store as HMACs only.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa

from aigw.control.store import tables
from aigw.control.store.read import StoreReader
from aigw.control.store.write import WriteSession
from aigw.errors import ConfigError, StoreError

BUSY_SECONDS: Final = 5
KEPT_LOG: Final = 16 << 20
"""Bytes that the write-ahead log keeps on the disk after a large transaction."""
_REPAIRS: Final = {
    "SQLITE_FULL": "; free some space on that disk",
    "SQLITE_CORRUPT": "; restore it from a backup",
    "SQLITE_NOTADB": "; restore it from a backup",
}


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        # A statement that is sent to the driver directly raises the driver's own error.
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        repair = _REPAIRS.get(getattr(cause, "sqlite_errorname", ""), "")
        raise StoreError(f"the store {path} cannot be used: {cause}; nothing of this was changed{repair}") from error


class Store:
    """The open store. Any thread may read; only one thread may enter `writing`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _ours_alone(path)
        url = sa.URL.create("sqlite", database=str(path))
        self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(self._engine, "connect", _configure)
        # SQLAlchemy begins transactions, not the driver: savepoints need that.
        sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        with _readable_errors(path):
            self._prepare()
            with self._engine.connect() as connection:
                query = sa.select(tables.meta.c.value).where(tables.meta.c.key == "store_id")
                self.store_id: Final = str(connection.scalar(query))

    def _prepare(self) -> None:
        with self._engine.connect() as connection, _unlinked(connection), connection.begin():
            names = set(sa.inspect(connection).get_table_names())
            found = (
                connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
                if "alembic_version" in names
                else None
            )
            if found == tables.HEAD:
                return
            if not names:
                # A new store gets the newest tables without the migrations: importing alembic takes half a second.
                tables.metadata.create_all(connection)
                connection.exec_driver_sql(
                    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
                )
                connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (tables.HEAD,))
            else:
                migrate(connection, self._path, found)
            connection.execute(sqlite_insert_or_ignore(tables.meta, {"key": "store_id", "value": str(uuid4())}))

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Copy the pages of the write-ahead log into the store. `truncate` also frees the log's space now: the next commit would free
        it otherwise, and a gigabyte takes most of a second. Readers do not delay this; no write session may be open. Raises
        StoreError."""
        with _readable_errors(self._path), self._engine.connect() as connection:
            raw = _raw(connection)
            if not truncate:
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)")
                return
            raw.execute("PRAGMA busy_timeout = 0")
            try:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                raw.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")

    @contextmanager
    def reading(self) -> Iterator["StoreReader"]:
        """A consistent view. Raises StoreError."""
        with _readable_errors(self._path), self._engine.connect() as connection:
            yield StoreReader(connection)

    @contextmanager
    def writing(self) -> Iterator["WriteSession"]:
        """One transaction, durable when the block ends without an exception. Raises StoreError."""
        with _readable_errors(self._path), self._engine.connect() as connection:
            session = WriteSession(connection)
            try:
                yield session
                session.commit()
            finally:
                session.release_cache()

    def keep(self, key: str, value: str) -> bool:
        """Store a fact of this folder, once. False if the store has another value. Raises StoreError."""
        meta = tables.meta.c
        with _readable_errors(self._path), self._engine.begin() as connection:
            known = connection.scalar(sa.select(meta.value).where(meta.key == key))
            if known is None:
                connection.execute(sa.insert(tables.meta).values(key=key, value=value))
        return known in (None, value)

    def close(self) -> None:
        """Close the files."""
        self._engine.dispose()


def _ours_alone(path: Path) -> None:
    """Let only the owner read the store, its log and its index: SQLite makes the first by the umask, and the others with the mode of
    the first. An older version left all three readable. Errors are ignored here: SQLite reports them better."""
    with contextlib.suppress(OSError):
        # Only a new file: closing an existing store would drop the locks of our own connections on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with contextlib.suppress(OSError):
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


@contextmanager
def _unlinked(connection: sa.Connection) -> Iterator[None]:
    """Switch foreign keys off while tables are made. SQLite takes the setting between transactions only."""
    _raw(connection).execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        _raw(connection).execute("PRAGMA foreign_keys=ON")


def _raw(connection: sa.Connection) -> Any:
    """The connection of the driver. Using it begins no transaction."""
    return connection.connection.driver_connection


def _configure(raw: sqlite3.Connection, _: object) -> None:
    raw.isolation_level = None
    cursor = raw.cursor()
    # FULL: an answered write survives a power loss; the group commit shares its fsync.
    keep = f"journal_size_limit={KEPT_LOG}"
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", keep):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(connection: sa.Connection, path: Path, found: str | None) -> None:
    """Bring an older store to HEAD. Raises ConfigError when it was made by a newer version."""
    from alembic import command  # noqa: PLC0415  (half a second that a store at HEAD need not pay)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"{path} is at schema revision {found}, which this version does not know: use the version that made it ({error})"
        ) from error


def sqlite_insert_or_ignore(table: sa.Table, values: Mapping[str, Any]) -> sa.Insert:
    """An INSERT that keeps an existing row."""
    return sa.insert(table).prefix_with("OR IGNORE").values(**values)
