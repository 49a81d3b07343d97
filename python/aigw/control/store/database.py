"""The open store: SQLite in WAL mode, by SQLAlchemy Core.

In: a path. Out: `StoreReader`, a consistent view on a connection of its own, and `WriteSession`, the one transaction of the writer
thread. Opening makes the tables of a new store and migrates an older one. API keys reach the store as HMACs only.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa

from aigw import sqlite
from aigw.control.store import tables
from aigw.control.store.read import StoreReader
from aigw.control.store.write import WriteSession

MIGRATIONS: Final = Path(__file__).parent / "migrations"
CALLED: Final = "the store"


class Store:
    """The open store. Any thread may read; only one thread may enter `writing`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writes = self._was_locked = False
        sqlite.check_log(path, CALLED)
        self._engine = sqlite.open_engine(path, {"foreign_keys": "ON"})
        with sqlite.readable_errors(path, CALLED):
            self._prepare()
            with self._engine.connect() as connection:
                query = sa.select(tables.meta.c.value).where(tables.meta.c.key == "store_id")
                self.store_id: Final = str(connection.scalar(query))
        self._place = sqlite.Place(path, CALLED)

    def _prepare(self) -> None:
        with self._engine.connect() as connection, _unlinked(connection), connection.begin():
            sqlite.prepare(connection, self._path, tables.metadata, tables.HEAD, MIGRATIONS)
            connection.execute(sqlite_insert_or_ignore(tables.meta, {"key": "store_id", "value": str(uuid4())}))

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Copy the pages of the write-ahead log into the store. `truncate` also frees the log's space now: the next commit would free
        it otherwise, and a gigabyte takes most of a second. Readers do not delay this; no write session may be open. Raises
        StoreError."""
        with sqlite.readable_errors(self._path, CALLED), self._engine.connect() as connection:
            raw = sqlite.raw(connection)
            if not truncate:
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)")
                return
            raw.execute("PRAGMA busy_timeout = 0")
            try:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                raw.execute(f"PRAGMA busy_timeout = {sqlite.BUSY_SECONDS * 1000}")

    @contextmanager
    def reading(self) -> Iterator["StoreReader"]:
        """A consistent view. Raises StoreError."""
        with sqlite.readable_errors(self._path, CALLED), self._engine.connect() as connection:
            yield StoreReader(connection)

    @contextmanager
    def writing(self) -> Iterator["WriteSession"]:
        """One transaction, durable when the block ends without an exception. Raises StoreError."""
        with sqlite.readable_errors(self._path, CALLED), self._engine.connect() as reader:
            self._place.check()
            # A reader that writes later does not wait for a lock of another connection, not even for that of `is_locked`.
            connection = reader.execution_options(immediate=True)
            session = WriteSession(connection, self._place.check)
            self._writes = True
            try:
                yield session
                session.commit()
                self._was_locked = False
            except sa.exc.OperationalError as error:
                self._was_locked = sqlite.is_busy(error)
                raise
            finally:
                self._writes = False
                session.release_cache()

    def is_locked(self) -> bool:
        """Whether another process keeps this one from writing. It takes the lock for a moment; during a write of this process the end
        of its last one counts. Raises StoreError."""
        with sqlite.readable_errors(self._path, CALLED), self._engine.connect() as connection:
            raw = sqlite.raw(connection)
            raw.execute("PRAGMA busy_timeout = 0")
            try:
                raw.execute("BEGIN IMMEDIATE")
                raw.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                if not sqlite.is_busy(error):
                    raise
                return self._was_locked if self._writes else True
            finally:
                raw.execute(f"PRAGMA busy_timeout = {sqlite.BUSY_SECONDS * 1000}")
        return False

    def must_be_there(self) -> None:
        """Raise StoreError if the file was removed, moved or replaced: writes to the open one would be lost."""
        self._place.check()

    def keep(self, key: str, value: str) -> bool:
        """Store a fact of this folder, once. False if the store has another value. Raises StoreError."""
        meta = tables.meta.c
        with sqlite.readable_errors(self._path, CALLED), self._engine.begin() as connection:
            known = connection.scalar(sa.select(meta.value).where(meta.key == key))
            if known is None:
                connection.execute(sa.insert(tables.meta).values(key=key, value=value))
        return known in (None, value)

    def kept(self, key: str) -> str | None:
        """A fact that was stored by `keep`; None before. Raises StoreError."""
        meta = tables.meta.c
        with sqlite.readable_errors(self._path, CALLED), self._engine.connect() as connection:
            found = connection.scalar(sa.select(meta.value).where(meta.key == key))
            return None if found is None else str(found)

    def close(self) -> None:
        """Close the files."""
        self._engine.dispose()


@contextmanager
def _unlinked(connection: sa.Connection) -> Iterator[None]:
    """Switch foreign keys off while tables are made. SQLite takes the setting between transactions only."""
    sqlite.raw(connection).execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        sqlite.raw(connection).execute("PRAGMA foreign_keys=ON")


def sqlite_insert_or_ignore(table: sa.Table, values: Mapping[str, Any]) -> sa.Insert:
    """An INSERT that keeps an existing row."""
    return sa.insert(table).prefix_with("OR IGNORE").values(**values)
