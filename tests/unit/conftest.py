"""A control plane on a real store in a temporary folder, with a publisher in memory and a clock that stands still."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))

from aigw.control.file.in_force import Events
from aigw.serve.control_plane import Control, ControlSettings, open_control
from fakes import FakePublisher
from ledgers import FakeSource, Ledger


@dataclass
class Gateway:
    """The objects of a test: the client, its publisher, and the clock."""

    data: Path
    token: str | None = None
    now: float = 1_700_000_000.0
    publishers: list[FakePublisher] = field(default_factory=list)
    control: Control | None = None
    segments: FakeSource = field(default_factory=FakeSource)
    shows_keys: bool = False
    tls: bool = False
    log: Events = lambda event, /, **facts: None

    def open(self, *, forget: bool = False) -> "Gateway":
        """Start without a file. `forget` deletes the entities of an earlier one."""

        def make(data_dir: str, store_id: str) -> FakePublisher:
            self.publishers.append(FakePublisher(data_dir, store_id))
            return self.publishers[-1]

        settings = ControlSettings(
            self.data,
            admin_token=self.token,
            forget=forget,
            schemes=frozenset({"https" if self.tls else "http"}),
            shows_keys=self.shows_keys,
        )
        self.control = open_control(
            settings, publisher=make, segments=lambda *_: self.segments, now=lambda: self.now, log=self.log
        )
        self.control.start()
        self.client = TestClient(self.control.app, base_url="http://127.0.0.1:8001")
        return self

    @property
    def publisher(self) -> FakePublisher:
        return self.publishers[-1]

    def close(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None

    def call(self, method: str, path: str, expect: int | None = None, **request: Any) -> Any:
        """The answer's JSON; `expect` is the status, by default 2xx."""
        answer = self.client.request(method, path, **request)
        right = answer.status_code == expect if expect else answer.is_success
        assert right, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def post(self, path: str, expect: int | None = 201, **body: Any) -> Any:
        return self.call("POST", path, expect, json=body)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.store.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    opened = Gateway(tmp_path).open()
    yield opened
    opened.close()
