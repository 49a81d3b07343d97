"""The open ledger: SQLite in WAL mode. In: a path and the node's store id. Out: connections, each a consistent view, and the one write
transaction of the compactor.

Opening makes the tables of a new file and migrates an older one. The file of another node or of a newer version is refused and stays
unchanged: its row numbers mean other entities.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from aigw import sqlite
from aigw.errors import ConfigError, StoreError
from aigw.ledger import tables
from aigw.ledger.height import Height

CALLED: Final = "the ledger"
FILE: Final = Path("ledger") / "ledger.db"
"""The file below the data folder."""
STORE: Final = "store.db"
"""The gateway's store, next to the ledger's folder."""
MIGRATIONS: Final = Path(__file__).parent / "migrations"
_PRAGMAS: Final[Mapping[str, str | int]] = {
    "page_size": 8192,
    "auto_vacuum": "INCREMENTAL",
    "cache_size": -8192,  # KiB
    "wal_autocheckpoint": 2000,  # pages: 16 MiB
}
_WRITER_KIB: Final = 65536
"""The writer's cache: the newest pages of events, of their index and of the rollups, while a backlog is compacted."""


class LedgerReader:
    """The ledger of a data folder, for reading. Any thread may read."""

    def __init__(self, path: Path, engine: sa.Engine) -> None:
        self._path = path
        self._engine = engine
        self.folder: Final = path.parent
        """The folder of its file, where the segments are, too."""

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view. Raises StoreError."""
        with sqlite.readable_errors(self._path, CALLED), self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close the files."""
        self._engine.dispose()


class LedgerStore(LedgerReader):
    """The open ledger of a gateway. Two threads write: the compactor, and the publication of prices. One waits for the other."""

    def __init__(self, path: Path, store_id: str) -> None:
        """Raises ConfigError for the file of another node or of a newer version, else StoreError."""
        try:
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder of the ledger cannot be made: {error}") from error
        sqlite.check_log(path, CALLED)
        super().__init__(path, sqlite.open_engine(path, _PRAGMAS))
        self._writer = sqlite.open_engine(path, {**_PRAGMAS, "cache_size": -_WRITER_KIB})
        with sqlite.readable_errors(path, CALLED):
            self._prepare(store_id)
        self._place = sqlite.Place(path, CALLED)
        self.height: Final = Height(path, store_id)

    def _prepare(self, store_id: str) -> None:
        with self._writer.connect().execution_options(immediate=True) as connection, connection.begin():
            sqlite.prepare(connection, self._path, tables.metadata, tables.HEAD, MIGRATIONS)
            known = get_meta(connection, "store_id")
            if known is None:
                put_meta(connection, "store_id", store_id)
            elif known != store_id:
                raise ConfigError(_foreign(self._path, known, store_id))

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, durable when the block ends without an exception. Raises StoreError, also where the path does not name the open
        file any more: entries stay in their segments then."""
        with sqlite.readable_errors(self._path, CALLED), self._writer.connect() as pooled:
            connection = pooled.execution_options(immediate=True)
            with connection.begin():
                yield connection
                self._place.check()

    def close(self) -> None:
        self._writer.dispose()
        super().close()

    def vacuum(self, pages: int) -> None:
        """Give up to `pages` free pages back to the file system. Raises StoreError."""
        with sqlite.readable_errors(self._path, CALLED), self._writer.connect() as connection:
            # The driver frees one page with each step of this statement.
            sqlite.raw(connection).execute(f"PRAGMA incremental_vacuum({pages})").fetchall()


def height_of(store: LedgerReader, connection: sa.Connection) -> int:
    """The number of events that the ledger of this folder had; 0 where nobody knows it."""
    return Height(store.folder / FILE.name, get_meta(connection, "store_id") or "").read()


def open_for_reading(data: Path) -> LedgerReader:
    """The ledger of a data folder, whether its gateway runs or not. Raises ConfigError, StoreError."""
    path = data / FILE
    if not path.is_file():
        raise ConfigError(_absent(path))
    sqlite.check_log(path, CALLED)
    reader = LedgerReader(path, sqlite.open_read_only(path))
    with reader.reading() as connection:
        is_empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
        found = None if is_empty else connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if is_empty:
        reader.close()
        raise ConfigError(f"{path} is empty: start the gateway on the folder once, which makes its tables")
    if found != tables.HEAD:
        reader.close()
        # Revisions are numbers of four digits, in their order.
        is_older = str(found) < tables.HEAD
        repair = (
            "start this version's gateway on the folder once, which brings it up to date, or read it with the version that made it"
            if is_older
            else "a newer version made it, so read it with that one, or restore the folder from before the update"
        )
        raise ConfigError(f"{path} is at schema revision {found}, and this version reads {tables.HEAD}: {repair}")
    try:
        _check_gateway(data, reader)
    except BaseException:
        reader.close()
        raise
    return reader


def _check_gateway(data: Path, reader: LedgerReader) -> None:
    """Refuse the ledger of another gateway than the folder's store. A ledger alone is read."""
    store = data / STORE
    if not store.is_file():
        return
    with reader.reading() as connection:
        known = get_meta(connection, "store_id")
    engine = sqlite.open_read_only(store)
    try:
        with sqlite.readable_errors(store, "the store"), engine.connect() as connection:
            own = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'store_id'").scalar()
    finally:
        engine.dispose()
    if known != own:
        raise ConfigError(_foreign(data / FILE, known, str(own)))


def _foreign(path: Path, known: str | None, own: str) -> str:
    return (
        f"{path} belongs to the gateway {known}, and this data folder to {own}: move the folder {path.parent} back to its own "
        "gateway's data folder; nothing of this was changed"
    )


def _absent(path: Path) -> str:
    """The reason why there is no ledger: it is gone where segments are left, and never was elsewhere."""
    if any(path.parent.glob("*.segment")):
        return (
            f"{path} is gone, and with it the calls that were stored in it: restore it from a backup; the segments next to it"
            " have the calls of the last moment alone"
        )
    return f"{path} does not exist: --data names the data folder of a gateway (aigw serve --data)"


def get_meta(connection: sa.Connection, key: str) -> str | None:
    """A fact of the folder."""
    found = connection.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.key == key))
    return None if found is None else str(found)


def put_meta(connection: sa.Connection, key: str, value: str) -> None:
    """Set a fact of the folder."""
    connection.exec_driver_sql("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
