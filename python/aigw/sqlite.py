"""The common parts of the files that this program keeps in SQLite: WAL mode, readable errors, and migrations.

In: a path, tables, and a folder of migrations. Out: an engine whose transactions SQLAlchemy begins, a file at the newest schema, and
errors that name the file and the repair. Each store adds its own tables and queries.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from aigw.errors import ConfigError, StoreError
from aigw.sqlite_log import is_doubtful, log_of

BUSY_SECONDS: Final = 5
KEPT_LOG: Final = 16 << 20
"""Bytes that the write-ahead log keeps on the disk after a large transaction."""
UNLOCK: Final = "end that one (`fuser` with the file names it), then try again"
_REPAIRS: Final = {
    "SQLITE_FULL": "; free some space on that disk",
    # SQLite's word for the index of the log, `-shm`, which finds no room: the first reader makes it after an end in order.
    "SQLITE_IOERR_SHMSIZE": "; free some space on that disk",
    "SQLITE_CORRUPT": "; restore it from a backup",
    "SQLITE_NOTADB": "; restore it from a backup",
    "SQLITE_BUSY": f"; another process has locked it: {UNLOCK}",
    "SQLITE_LOCKED": f"; another process has locked it: {UNLOCK}",
}


@contextmanager
def readable_errors(path: Path, called: str) -> Iterator[None]:
    """Raise StoreError for errors of SQLAlchemy and of the driver. `called`: `the store` or another name of the file."""
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise StoreError(f"{called} {path} is busy: all of its connections wait; try again") from error
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        # A statement that is sent to the driver directly raises the driver's own error.
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        repair = _REPAIRS.get(getattr(cause, "sqlite_errorname", ""), "")
        raise StoreError(f"{called} {path} cannot be used: {cause}; nothing of this was changed{repair}") from error


def is_busy(error: Exception) -> bool:
    """Whether an error of SQLAlchemy or the driver says that another one has the lock."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return getattr(cause, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


class Place:
    """The place of an open file: whether its path still names it."""

    def __init__(self, path: Path, called: str) -> None:
        self._path, self._called = path, called
        self._file = _identity(path)

    def check(self) -> None:
        """Raise StoreError if the file was removed, moved or replaced: writes to the open one would be lost."""
        if _identity(self._path) != self._file:
            raise StoreError(
                f"{self._called} {self._path} was removed or replaced while the gateway runs, and nothing of this was changed: "
                "put the data folder back, or stop the gateway, restore the folder from a backup and start it again"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_log(path: Path, called: str) -> None:
    """Refuse a file that was put beside the log of another one, before the log is taken over. Raises StoreError."""
    try:
        doubtful = is_doubtful(path)
    except OSError:
        return  # SQLite reports it better
    if not doubtful:
        return
    engine = open_read_only(path)
    try:
        with readable_errors(path, called), engine.connect() as connection:
            broken = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok"
    finally:
        engine.dispose()
    if broken:
        log = log_of(path)
        raise StoreError(
            f"{called} {path} and the log beside it are not of one file: after a restore from a backup, move {log.name} and"
            f" {path.name}-shm away from it, which are the lost file's, then start again; nothing of this was changed"
        )


def open_engine(path: Path, pragmas: Mapping[str, str | int]) -> sa.Engine:
    """An engine on a file of the owner's alone, in WAL mode and with `pragmas` on each connection."""
    _ours_alone(path)
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # FULL: a commit survives a power loss.
        every = {**pragmas, "journal_mode": "WAL", "synchronous": "FULL", "temp_store": "MEMORY"}
        for name, value in {**every, "journal_size_limit": KEPT_LOG}.items():
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    sa.event.listen(engine, "connect", configure)
    # SQLAlchemy begins transactions, not the driver: savepoints need that.
    sa.event.listen(engine, "begin", _begin)
    return engine


def open_read_only(path: Path) -> sa.Engine:
    """An engine that reads a file, also while another process writes it."""
    query = {"mode": "ro", "uri": "true"}
    url = sa.URL.create("sqlite", database=f"file:{quote(str(path.resolve()))}", query=query)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})
    sa.event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    """Begin as a reader, or with the option `immediate` as the one writer: a reader that writes later may find the file changed."""
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _ours_alone(path: Path) -> None:
    """Let only the owner read the file, its log and its index: SQLite makes the first by the umask, and the others with the mode of
    the first. An older version left all three readable. Errors are ignored here: SQLite reports them better."""
    with contextlib.suppress(OSError):
        # Only a new file: closing an existing store would drop the locks of our own connections on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with contextlib.suppress(OSError):
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


def raw(connection: sa.Connection) -> Any:
    """The connection of the driver. Using it begins no transaction."""
    return connection.connection.driver_connection


def prepare(connection: sa.Connection, path: Path, tables: sa.MetaData, head: str, migrations: Path) -> None:
    """Make the tables of a new file, or migrate an older one, in the caller's transaction. Raises ConfigError."""
    names = set(sa.inspect(connection).get_table_names())
    found = (
        connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if "alembic_version" in names
        else None
    )
    if found == head:
        return
    if names:
        migrate(connection, path, found, migrations)
        return
    # A new store gets the newest tables without the migrations: importing alembic takes half a second.
    tables.create_all(connection)
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (head,))


def migrate(connection: sa.Connection, path: Path, found: str | None, migrations: Path) -> None:
    """Bring an older file to the newest schema. Raises ConfigError when a newer version made it."""
    from alembic import command  # noqa: PLC0415  (half a second that a store at the newest schema need not pay)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"{path} is at schema revision {found}, which this version does not know: use the version that made it ({error})"
        ) from error
