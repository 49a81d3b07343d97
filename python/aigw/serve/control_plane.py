"""Builds the control process: store, publication, writer, configuration file, Admin API.

In: settings. Out: `Control`, whose `app` is served on the admin port by `control_process`. Nothing runs before `start`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aigw._native import give_back_memory
from aigw.admin.app import AdminApp
from aigw.admin.arrival import Patience
from aigw.admin.context import Admin
from aigw.admin.guard import Guard
from aigw.config import MAX_BYTES, PROOF
from aigw.control.file.copies import TokenizerCopies
from aigw.control.file.in_force import Configuration, Events
from aigw.control.file.read import read_at_start
from aigw.control.group_commit import GroupCommit
from aigw.control.publish.files import Publisher
from aigw.control.publish.publication import Publication
from aigw.control.publish.repair import Repair
from aigw.control.store.database import Store
from aigw.control.store.rows import SEALED_KEYS
from aigw.errors import AigwError, StoreError, explain
from aigw.ledger.source import Source
from aigw.serve.audit import audit_folder
from aigw.serve.ledger import Ledger, open_ledger
from aigw.telemetry.counts import Counts
from aigw.telemetry.families import Family, native, text
from aigw.telemetry.faults import Faults
from aigw.types import HostPort, MetricLabels


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Settings of the control process."""

    data: Path
    admin: HostPort = field(default=HostPort("127.0.0.1", 8001))
    proxy: HostPort = field(default=HostPort("127.0.0.1", 8000))
    admin_token: str | None = field(default=None, repr=False)
    body_timeout: float = 30.0
    body_total: float = 300.0
    config: Path | None = None
    """The configuration file; None: the entities that an earlier file declared stay, unless `forget`."""
    forget: bool = False
    """Whether a start without a file deletes the entities of an earlier one."""
    max_config_bytes: int = MAX_BYTES
    """Bytes of the largest configuration."""
    metrics_consumers: bool = False
    """Whether answers are counted by consumer."""
    tls_address: HostPort | None = None
    """The address that clients call by TLS; it may be `proxy`."""
    schemes: frozenset[str] = frozenset({"http"})
    """The protocols of requests."""
    shows_keys: bool = False
    """Whether the Admin API shows the keys that it is sent, which the store then keeps sealed."""
    must: bool = True
    """Whether a configuration file with errors ends the start. A restarted control process serves the store's content instead, and
    reports the errors."""


@dataclass(frozen=True, slots=True)
class Control:
    """The parts of an opened control plane. `start` before the first request, `close` after the last."""

    store: Store
    publisher: Publisher
    publication: Publication
    writer: GroupCommit
    configuration: Configuration
    load_at_start: Callable[[], None]
    """Puts the configuration file in force."""
    app: AdminApp
    families: Callable[[], list[tuple[Family, int]]]
    """The metrics of `GET /metrics` for the exporters, each with the start of its counting (unix nanoseconds)."""
    repair: Repair
    faults: Faults
    counts: Counts
    ledger: Ledger

    def start(self) -> None:
        """Put the configuration in force. Raises ConfigError, StoreError or OSError, after closing everything."""
        try:
            self.writer.start()
            self.load_at_start()
            give_back_memory()
            self.ledger.compactor.start()
        except (AigwError, OSError):
            self.close()
            raise

    def reclaim(self) -> list[tuple[int, int]]:
        """Give back permits of dead workers; returns (slot, open permits) of each. Call it after a worker's death."""
        return self.publisher.reclaim()

    def close(self) -> None:
        """Finish the writes in progress and close the files."""
        self.ledger.close()
        self.writer.close()
        self.store.close()


def open_control(
    settings: ControlSettings,
    *,
    publisher: Callable[[str, str], Publisher] | None = None,
    segments: Callable[[str, str], Source] | None = None,
    now: Callable[[], float] = time.time,
    log: Events = lambda event, /, **facts: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Control:
    """Check the configuration file, then open the data folder.

    `publisher` and `segments` make a `Publisher` and a `Source` from (data folder, store id); the defaults are the
    native ones. Raises ConfigError, StoreError."""
    path, most = settings.config, settings.max_config_bytes
    at_start = read_at_start(path, settings.data / "store.db", must=settings.must, progress=progress, most=most)
    store, files = _open_files(settings.data, publisher)
    publication = Publication(files, settings.schemes)
    _switch(settings, store, files, log)
    faults, counts = Faults(), Counts()
    with _closing_on_error(store):
        source = files.ledger() if segments is None else segments(str(settings.data), store.store_id)
        ledger = open_ledger(settings.data, source, store, publication, faults, now, log)
    writer = GroupCommit(store, publication, faults, now)
    configuration = Configuration(
        store, writer, publication, files, path, TokenizerCopies(settings.data), now, log, most
    )
    owners = (configuration, faults, counts, ledger.compactor)
    metrics = _Metrics(store, files, publication, lambda: [row for one in owners for row in one.families()])
    admin = Admin(
        store=store,
        writer=writer,
        configuration=configuration,
        publication=publication,
        publisher=files,
        ledger=ledger.store,
        ledger_status=ledger.compactor.status,
        audit=lambda: audit_folder(settings.data).json(),
        now=now,
        metrics=metrics.page,
        admin_address=settings.admin,
        proxy_address=settings.proxy,
        tls_address=settings.tls_address,
        shows_keys=settings.shows_keys,
        log=log,
    )
    pending = [at_start]  # frees a large file as soon as it is in force
    return Control(
        store=store,
        publisher=files,
        publication=publication,
        writer=writer,
        configuration=configuration,
        load_at_start=lambda: configuration.start(pending.pop(), must=settings.must, forget=settings.forget),
        app=_app(settings, admin, counts),
        families=metrics.families,
        repair=Repair(files, writer.renew, log),
        faults=faults,
        counts=counts,
        ledger=ledger,
    )


def _app(settings: ControlSettings, admin: Admin, counts: Counts) -> AdminApp:
    guard, patience = Guard(settings.admin, settings.admin_token), Patience(settings.body_timeout, settings.body_total)
    return AdminApp(admin, guard, patience, lambda: counts.add("aigw_admin_faults_total"))


@contextmanager
def _closing_on_error(store: Store) -> Iterator[None]:
    try:
        yield
    except (AigwError, OSError):
        store.close()
        raise


class _Metrics:
    """The metrics of all processes: the page of `GET /metrics`, and the families for the exporters."""

    def __init__(
        self, store: Store, files: Publisher, publication: Publication, own: Callable[[], list[Family]]
    ) -> None:
        """`own`: the metrics of the control process."""
        self._store = store
        self._files = files
        self._publication = publication
        self._own = own
        # Counters of workers are in files, and outlive every process; those of this process begin with it.
        self._begun = time.time_ns()

    def page(self) -> str:
        return self._files.metrics(self._labels()) + text(self._own())

    def families(self) -> list[tuple[Family, int]]:
        """Each family with the start of its counting, unix nanoseconds."""
        since = self._files.counting_since()
        shared = [(family, since) for family in native(self._files.families(self._labels()))]
        return [*shared, *((family, self._begun) for family in self._own())]

    def _labels(self) -> MetricLabels:
        names, counted = self._publication.labels(), self._files.counted_consumers()
        if not counted:
            return names
        with self._store.reading() as reader:
            return names._replace(consumers=reader.consumer_names(counted))


def _switch(settings: ControlSettings, store: Store, files: Publisher, log: Events) -> None:
    """Put the switches among the settings into effect. Raises StoreError."""
    _count_consumers(files, settings.metrics_consumers)
    _keep_keys(store, settings.shows_keys, log)


def _keep_keys(store: Store, on: bool, log: Events) -> None:
    """Note in the log that answers show keys; or delete the sealed keys of a time when they did. Raises StoreError."""
    if on:
        log("keys_are_shown", setting="AIGW_ADMIN_SHOWS_KEYS=1")
        store.keep(SEALED_KEYS, "1")
        return
    with _closing_on_error(store), store.writing() as session:
        if deleted := session.forget_keys():
            log("sealed_keys_deleted", keys=deleted)


def _count_consumers(files: Publisher, on: bool) -> None:
    try:
        files.count_consumers(on)
    except OSError as error:
        raise StoreError(f"the counters by consumer cannot be made: {explain(error)}") from error


def _open_files(data: Path, publisher: Callable[[str, str], Publisher] | None) -> tuple[Store, Publisher]:
    """The store, and the snapshot's files beside it, in a folder that is made where it is missing."""
    if publisher is None:
        from aigw._native import Publisher as Native  # noqa: PLC0415  (not needed with another publisher)

        publisher = Native
    data.mkdir(0o700, parents=True, exist_ok=True)
    store = _open_store(data)
    try:
        files = publisher(str(data), store.store_id)
        _check_secret(store, files, data / "secret")
    except (OSError, ValueError) as error:
        store.close()
        raise StoreError(f"the files in {data} cannot be used: {explain(error)}") from error
    except AigwError:
        store.close()
        raise
    return store, files


def _open_store(data: Path) -> Store:
    """Open the store. Raises StoreError if counters exist without a store: the store was lost, and an empty gateway must not replace it."""
    path = data / "store.db"
    if (data / "cells" / "control").exists() and not (path.exists() and path.stat().st_size):
        raise StoreError(
            f"{path} is missing or empty, and this folder was in use: restore it from a backup, "
            f"or start over by moving {data / 'cells'} away"
        )
    return Store(path)


def _check_secret(store: Store, files: Publisher, path: Path) -> None:
    """Raise StoreError if the secret differs from the one that hashed the stored keys: no key would work."""
    proof = files.hash_key(PROOF).hex()
    if not store.keep("secret_proof", proof):
        raise StoreError(
            f"{path} is not the secret that the keys in the store were hashed with: restore it from a backup. "
            "Without it they are lost: start over in another folder (--data)"
        )
