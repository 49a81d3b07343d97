"""The ledger under a storm: workers and gateways are killed, clients leave, answers break. Every answer has its entry, once, and the books
balance afterwards.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import Server
from tests.support.processes import AIGW, Gateway, wait_until
from tests.support.served import Clients, ServerBooks, differences
from tests.support.surface import Caller, Json, caller, start_configured

WORKERS = 2
KILLS = 50
RESTARTS = 5
LEAVES = 200
PRICE: Json = {"input": 0.5, "output": 1, "request": 0.0001}
LIMITS: Json = [
    {"requests": 1_000_000, "per": "day"},
    {"tokens": 100_000_000, "per": "day"},
    {"tokens": 100_000_000, "per": "hour", "scope": "model"},
    {"spend": 10_000, "per": "month"},
    {"concurrency": 200},
]


def events_of(data: Path) -> list[dict[str, Any]]:
    """All entries, from the data folder."""
    done = subprocess.run(
        [*AIGW, "usage", "--events", "--data", str(data), "--output", "jsonl"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def audited(data: Path) -> Json:
    done = subprocess.run(
        [*AIGW, "audit", "--data", str(data), "--output", "json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, 1), done.stderr
    report: Json = json.loads(done.stdout)
    return report


class World:
    """A gateway that may be started again on its folder."""

    def __init__(self, data: Path, url: str, workers: int = WORKERS) -> None:
        self._workers = workers
        model = {"upstreams": [{"url": url + "/v1", "model": "m"}], "max_output_tokens": 64}
        self._configuration = {"models": {"m": model}, "tiers": {"t": {"limits": LIMITS, "price": PRICE}}}
        self._data = data
        self.gateway = self.start()

    def start(self) -> Gateway:
        self.gateway = start_configured(self._data, self._configuration, workers=self._workers)
        return self.gateway

    def kill(self) -> None:
        """Kill the supervisor: its children die with it."""
        os.kill(self.gateway.pid, signal.SIGKILL)
        self.gateway.process.end()


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[tuple[World, Caller, ServerBooks, Clients]]:
    books = ServerBooks(breaks=0.02)
    with Server(books) as url:
        world = World(tmp_path / "data", url)
        try:
            one = caller(world.gateway, "t")
            yield world, one, books, Clients(world.gateway.proxy, one.key, LEAVES)
        finally:
            world.gateway.process.end()


async def _rage(clients: Clients, beside: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.run(plain=24, streams=24))
        await beside()
        clients.stop.set()


def balanced(world: World, books: ServerBooks, clients: Clients, one: Caller) -> None:
    """The ledger is that of the books, and nothing is reserved."""
    who = Caller(world.gateway, one.name, one.key)
    wait_until(lambda: all(row["reserved"] == 0 for row in who.limits()), "nothing is reserved")
    assert next(row for row in who.limits() if row["meter"] == "concurrency")["used"] == 0
    wait_until(lambda: len(events_of(world.gateway.data)) >= len(books.answered), "the entries are in the ledger")
    report = audited(world.gateway.data)
    assert report["equal"], report
    found = differences(books, clients, events_of(world.gateway.data))
    assert not found, (len(found), found[:5], clients.ends)


def test_killed_workers_lose_no_entry_and_add_none(storm: tuple[World, Caller, ServerBooks, Clients]) -> None:
    world, one, books, clients = storm

    async def kill() -> None:
        for number in range(KILLS):
            # Every fifth slot dies twice within a second.
            name = f"worker-{(number - (number % 5 == 4)) % WORKERS + 1}"
            os.kill(world.gateway.children()[name], signal.SIGKILL)
            await asyncio.to_thread(world.gateway.wait_event, "ready", child=name)

    asyncio.run(_rage(clients, kill))
    balanced(world, books, clients, one)
    assert len(clients.whole) > 300 and clients.ends["left"] == LEAVES, clients.ends


def test_killed_gateways_lose_no_entry_and_add_none(storm: tuple[World, Caller, ServerBooks, Clients]) -> None:
    world, one, books, clients = storm

    async def restart() -> None:
        for number in range(RESTARTS):
            seen = len(clients.whole) + 200 * (number + 1)
            while len(clients.whole) < min(seen, 200 * (number + 1)):
                await asyncio.sleep(0.05)
            world.kill()
            await asyncio.to_thread(world.start)
            clients.proxy = world.gateway.proxy

    asyncio.run(_rage(clients, restart))
    balanced(world, books, clients, one)
    assert len(clients.whole) >= 200 * RESTARTS
