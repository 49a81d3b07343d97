"""`Admin`: all objects that handlers use. `serve/control_plane.py` builds it once."""

from collections.abc import Callable
from dataclasses import dataclass

from aigw.control.file.in_force import Configuration, Events
from aigw.control.group_commit import GroupCommit
from aigw.control.publish.files import Publisher
from aigw.control.publish.publication import Publication
from aigw.control.store.database import Store
from aigw.ledger.compactor import LedgerStatus
from aigw.ledger.database import LedgerReader
from aigw.types import HostPort, JsonDict


@dataclass(frozen=True, slots=True)
class Admin:
    """Reads go to `store`, writes through `writer`; `publication` and `publisher` know the snapshot in force; `ledger` has
    the events."""

    store: Store
    writer: GroupCommit
    configuration: Configuration
    publication: Publication
    publisher: Publisher
    ledger: LedgerReader
    ledger_status: Callable[[], LedgerStatus]
    audit: Callable[[], JsonDict]
    """Compares entries, rollups and counters. Raises StoreError."""
    now: Callable[[], float]
    metrics: Callable[[], str]
    admin_address: HostPort
    proxy_address: HostPort
    tls_address: HostPort | None = None
    """The address that clients call by TLS; it may be `proxy_address`."""
    shows_keys: bool = False
    """Whether answers show the keys that the store has, sealed."""
    log: Events = lambda event, /, **facts: None
