"""What every Admin handler may use, in one value. Built once, by `control/process.py`."""

from collections.abc import Callable
from dataclasses import dataclass

from aigw.control.configuration import Configuration
from aigw.control.publish import Publication
from aigw.control.publisher import Publisher
from aigw.control.store import Store
from aigw.control.writer import Writer
from aigw.types import HostPort


@dataclass(frozen=True, slots=True)
class Admin:
    """Reads go to `store`, writes through `writer`; `publication` and `publisher` tell what is in force."""

    store: Store
    writer: Writer
    configuration: Configuration
    publication: Publication
    publisher: Publisher
    now: Callable[[], float]
    metrics: Callable[[], str]
    admin_address: HostPort
    proxy_address: HostPort
