"""The control process put together: store, publication, writer, Admin API. The only place that builds these objects.

In: settings. Out: `Control`, whose `app` is served on the admin port by `serve/control.py`. Nothing runs before `start`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aigw.admin.app import AdminApp
from aigw.admin.context import Admin
from aigw.admin.guard import Guard
from aigw.control.publish import Publication, Publisher
from aigw.control.store import Store
from aigw.control.writer import Writer
from aigw.errors import StoreError
from aigw.types import HostPort


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """What the control process must be told."""

    data: Path
    admin: HostPort = field(default=HostPort("127.0.0.1", 8001))
    proxy: HostPort = field(default=HostPort("127.0.0.1", 8000))
    admin_token: str | None = field(default=None, repr=False)


class Control:
    """An opened control plane. `start` before the first request, `close` after the last."""

    def __init__(
        self, store: Store, publisher: Publisher, writer: Writer, app: AdminApp, metrics: Callable[[], str]
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._writer = writer
        self.app = app
        self.metrics_text = metrics
        """What `GET /metrics` answers, for the exporters."""

    def start(self) -> None:
        """Put the stored configuration in force. Raises StoreError, OSError."""
        self._writer.start()

    def reclaim(self) -> list[tuple[int, int]]:
        """Give back what dead workers held: (slot, permits found open) of each. Call it when a worker has died."""
        return self._publisher.reclaim()

    def close(self) -> None:
        """Finish the writes in progress and let go of the files."""
        self._writer.close()
        self._store.close()


def open_control(
    settings: ControlSettings,
    *,
    publisher: Callable[[str, str], Publisher] | None = None,
    metrics: Callable[[], str] | None = None,
    now: Callable[[], float] = time.time,
) -> Control:
    """Open the data folder. `publisher` makes the hand on the snapshot files from (data folder, store id), by default the
    native one; `metrics` answers `GET /metrics`, by default the shared counters. Raises ConfigError, StoreError."""
    if publisher is None:
        from aigw._native import Publisher as Native  # noqa: PLC0415  (not needed with another publisher)

        publisher = Native
    settings.data.mkdir(parents=True, exist_ok=True)
    store = Store(settings.data / "store.db")
    try:
        files = publisher(str(settings.data), store.store_id)
    except (OSError, ValueError) as error:
        store.close()
        raise StoreError(f"the files of the snapshot in {settings.data} cannot be used: {error}") from error
    publication = Publication(files)
    writer = Writer(store, publication, now)
    metrics = metrics or (
        lambda: files.metrics(publication.route_labels(), publication.series_labels(), publication.tier_labels())
    )
    admin = Admin(
        store=store,
        writer=writer,
        publication=publication,
        publisher=files,
        now=now,
        metrics=metrics,
        admin_address=settings.admin,
        proxy_address=settings.proxy,
    )
    return Control(store, files, writer, AdminApp(admin, Guard(settings.admin, settings.admin_token)), metrics)
