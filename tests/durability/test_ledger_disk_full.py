"""A full disk: calls whose entries could not be written are refused, none is served without an entry, and room alone mends it."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.durability.test_ledger_storm import World, audited, events_of
from tests.support.books import Server
from tests.support.disk import SmallDisk, small_disk
from tests.support.processes import wait_until
from tests.support.served import Clients, ServerBooks, differences
from tests.support.surface import Caller, Json, caller, chat

WELL_S = 5.0
"""Seconds after which a gateway whose disk has room again serves."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[SmallDisk, World, Caller, ServerBooks]]:
    books = ServerBooks(breaks=0)
    with small_disk(tmp_path / "disk", 64) as disk, Server(books) as url:
        made = World(disk.folder / "data", url, workers=1)
        try:
            yield disk, made, caller(made.gateway, "t"), books
        finally:
            made.gateway.process.end()


def status(world: World) -> Json:
    ledger: Json = httpx.get(world.gateway.admin + "/status", trust_env=False).json()["ledger"]
    return ledger


def well_again(world: World, one: Caller) -> None:
    """Room was made: calls pass again."""
    freed = time.monotonic()
    wait_until(lambda: one.post(chat("m")).status_code == 200, "calls pass again")
    wait_until(lambda: status(world)["error"] is None, "the ledger is well")
    assert time.monotonic() - freed < 4 * WELL_S, "far from it, on a busy machine"


def test_worker_that_starts_on_a_full_disk_refuses_until_there_is_room(
    world: tuple[SmallDisk, World, Caller, ServerBooks],
) -> None:
    disk, made, one, books = world
    assert one.post(chat("m")).status_code == 200
    disk.fill()
    os.kill(made.gateway.children()["worker-1"], signal.SIGKILL)
    made.gateway.wait_event("ready", child="worker-1")
    served = len(books.answered)
    refused = one.post(chat("m"))
    assert (refused.status_code, refused.json()["error"]["message"]) == (503, "The gateway cannot record calls now")
    assert refused.headers["retry-after"]
    assert len(books.answered) == served, "no compute was used"
    wait_until(lambda: "full" in (status(made)["error"] or ""), "the status tells it")
    page = httpx.get(made.gateway.admin + "/metrics", trust_env=False).text
    assert "aigw_ledger_error 1" in page
    disk.empty()
    well_again(made, one)


def test_calls_stop_when_the_last_entry_is_written_and_go_on_with_room(
    world: tuple[SmallDisk, World, Caller, ServerBooks],
) -> None:
    disk, made, one, books = world
    clients = Clients(made.gateway.proxy, one.key, 0)

    async def rage() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(clients.run(plain=40, streams=0))
            while not clients.whole:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(disk.fill)
            while not clients.ends["503"]:
                await asyncio.sleep(0.05)
            served = len(books.answered)
            while clients.ends["503"] < 200:
                await asyncio.sleep(0.05)
            # Those that were admitted before go on; the ledger has two segments' room.
            assert len(books.answered) - served <= 40 and served <= 2 * 4095
            await asyncio.to_thread(disk.empty)
            whole = len(clients.whole)
            while len(clients.whole) < whole + 200:
                await asyncio.sleep(0.05)
            clients.stop.set()

    asyncio.run(rage())
    well_again(made, one)
    wait_until(lambda: len(events_of(made.gateway.data)) >= len(books.answered), "the entries are in the ledger")
    found: Any = differences(books, clients, events_of(made.gateway.data))
    assert not found, found[:5]
    report = audited(made.gateway.data)
    assert report["equal"], report
