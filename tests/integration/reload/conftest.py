"""A gateway with a configuration file that a test may change, and readers of its status and log."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway, start_gateway, start_upstream, wait_until

KEY = "alice-key-0123456789"
WITHIN_S = 5.0
"""The promise is a second, which `python -m benches.load.reloads` measures. A busy machine gets five here."""

FILE = """
default_tier: free
tiers:
  free: {limits: [{requests: 10, per: day}]}
  pro: {limits: [{requests: 20, per: day}]}
services:
  - {name: echo, url: "UPSTREAM", routes: [{name: echo, paths: [/echo]}], plugins: [{name: key-auth}]}
consumers:
  - {username: alice, keyauth_credentials: [{key: "${ALICE_KEY}"}]}
"""


@dataclass
class Reloading:
    """A running gateway and its file. Times are wall clock, as the gateway tells them."""

    gateway: Gateway
    file: Path
    text: str

    def status(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.gateway.admin}/status", trust_env=False)
        found: dict[str, Any] = answer.json()["configuration"]
        return found

    def in_force(self, text: str | bytes) -> float:
        """When this content came into force; waits for it."""
        raw = text.encode() if isinstance(text, str) else text
        digest = hashlib.sha256(raw).hexdigest()

        def there() -> bool:
            status = self.status()
            return bool(status["hash"] == digest and status["error"] is None)

        wait_until(there, f"{digest} is in force, and nothing is wrong")
        return float(self.status()["loaded_at"])

    def wrong(self) -> dict[str, Any]:
        """The error that is reported; waits for one."""
        wait_until(lambda: self.status()["error"] is not None, "an error is reported")
        found: dict[str, Any] = self.status()["error"]
        return found

    def restore(self) -> None:
        """Back to the text of the start."""
        fresh = self.file.with_name("fresh.yaml")
        fresh.write_text(self.text)
        if self.file.is_dir() and not self.file.is_symlink():
            self.file.rmdir()
        fresh.replace(self.file)
        self.in_force(self.text)

    def call(self, key: str = KEY) -> httpx.Response:
        return httpx.get(f"{self.gateway.proxy}/echo/get", headers={"apikey": key}, trust_env=False)

    def limits(self, consumer: str = "alice") -> list[tuple[int, int]]:
        """(limit, used) of each."""
        answer = httpx.get(f"{self.gateway.admin}/consumers/{consumer}/limits", trust_env=False)
        return [(entry["limit"], entry["used"]) for entry in answer.json()["data"]]

    def metric(self, name: str) -> list[str]:
        page = httpx.get(f"{self.gateway.admin}/metrics", trust_env=False).text
        return [line for line in page.splitlines() if line.startswith(name)]

    def log(self) -> str:
        return "".join(self.gateway.process.lines)

    def post(self, **request: Any) -> httpx.Response:
        return httpx.post(f"{self.gateway.admin}/config", trust_env=False, timeout=30, **request)

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.gateway.admin}/config/history", trust_env=False).json()["data"]
        return found


@pytest.fixture(scope="module")
def reloading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloading]:
    folder = tmp_path_factory.mktemp("reload")
    upstream, url = start_upstream("echo")
    try:
        text = FILE.replace("UPSTREAM", url)
        file = folder / "conf" / "gateway.yaml"
        file.parent.mkdir()
        file.write_text(text)
        gateway = start_gateway(folder / "data", "--config", str(file), env={"ALICE_KEY": KEY})
        try:
            yield Reloading(gateway, file, text)
        finally:
            assert gateway.process.end() == 0
    finally:
        upstream.end()


def write(file: Path, text: str | bytes) -> float:
    """Write in place; when it was done."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return time.time()


def rename_over(file: Path, text: str) -> float:
    """Write as editors do."""
    fresh = file.with_name(".gateway.yaml.swp")
    fresh.write_text(text)
    fresh.replace(file)
    return time.time()
