"""Files of the ledger that are removed or moved while the gateway serves: each answered call has its entry in the end, calls whose entries
could not be kept are refused, and status, log, metric and probes tell the truth meanwhile.
"""

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.durability.test_ledger_storm import World, audited, events_of
from tests.support.books import Server
from tests.support.processes import AIGW, wait_until
from tests.support.served import Clients, ServerBooks, differences
from tests.support.surface import Caller, caller, metric


@dataclass
class Serving:
    """A gateway under light load, with the books of its model's server."""

    world: World
    books: ServerBooks
    clients: Clients
    data: Path

    @property
    def ledger(self) -> Path:
        return self.data / "ledger"

    def under_load(self, work: Callable[["Serving"], Awaitable[None]]) -> None:
        async def rage() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.clients.run(plain=2, streams=2))
                await self.more(50)
                await work(self)
                self.clients.stop.set()

        asyncio.run(rage())

    async def more(self, calls: int) -> None:
        """So many calls more come whole."""
        until = len(self.clients.whole) + calls
        await eventually(lambda: len(self.clients.whole) >= until, "calls pass")

    async def refused(self) -> None:
        """Calls are refused, and everything tells it."""
        served_before = self.clients.ends["503"]
        await eventually(lambda: self.clients.ends["503"] > served_before + 20, "calls are refused")
        served = len(self.books.answered)
        await eventually(lambda: self.clients.ends["503"] > served_before + 40, "and more")
        assert len(self.books.answered) == served, "no compute was used"
        await eventually(
            lambda: "[-]ledger refuses calls: files of the ledger" in self.ready().text, "/readyz tells it"
        )
        assert self.ready().status_code == 503
        assert self.proxy_ready().status_code == 503
        assert f"until the folder {self.ledger} is there again" in self.error()
        assert metric(self.world.gateway, "aigw_ledger_error") == 1
        await asyncio.to_thread(self.world.gateway.wait_event, "ledger_refuses")

    def ready(self) -> httpx.Response:
        return httpx.get(self.world.gateway.admin + "/readyz?verbose", trust_env=False)

    def proxy_ready(self) -> httpx.Response:
        return httpx.get(self.world.gateway.proxy + "/readyz", trust_env=False)

    def error(self) -> str:
        return str(httpx.get(self.world.gateway.admin + "/status", trust_env=False).json()["ledger"]["error"])

    def is_well(self) -> bool:
        return self.error() == "None" and self.ready().status_code == self.proxy_ready().status_code == 200

    def balances(self) -> None:
        """Each answer has one entry, and the audit finds no difference."""
        wait_until(lambda: len(events_of(self.data)) >= len(self.books.answered), "the entries are in the ledger")
        assert not (found := differences(self.books, self.clients, events_of(self.data))), found[:5]
        report = audited(self.data)
        assert report["equal"], report


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    books, data = ServerBooks(breaks=0), tmp_path / "data"
    with Server(books) as url:
        world = World(data, url)
        try:
            one: Caller = caller(world.gateway, "t")
            yield Serving(world, books, Clients(world.gateway.proxy, one.key, 0), data)
        finally:
            world.gateway.process.end()


async def eventually(happened: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(happened):
            await asyncio.sleep(0.05)


def test_removed_segments_are_written_anew_and_no_call_is_refused(serving: Serving) -> None:
    async def remove(run: Serving) -> None:
        for pattern in ("*-00000000.segment", "*.segment"):
            removed = list(run.ledger.glob(pattern))
            for path in removed:
                path.unlink()
            await run.more(20)
            for path in removed:
                await eventually(path.exists, "it is there again")
        await run.more(20)

    serving.under_load(remove)
    serving.world.gateway.wait_event("ledger_file_failed")
    assert serving.clients.ends["503"] == 0
    wait_until(serving.is_well, "all is well")
    serving.balances()
    serving.world.gateway.process.end()
    serving.balances()


def test_segments_that_come_back_in_place_of_their_new_files_end_nothing(serving: Serving) -> None:
    """The writers put theirs in that place again, and readers wait for the rest of it."""

    async def move(run: Serving) -> None:
        away = run.data.parent / "away"
        away.mkdir()
        moved = list(run.ledger.glob("*.segment"))
        for path in moved:
            path.rename(away / path.name)
        for path in moved:
            await eventually(path.exists, "its writer has made it anew")
        await run.more(20)
        for path in moved:
            (away / path.name).replace(path)
        await run.more(50)

    serving.under_load(move)
    assert serving.clients.ends["503"] == 0
    serving.balances()
    serving.world.gateway.process.end()
    serving.balances()


@pytest.mark.parametrize("part", [".", "ledger"])
def test_folder_that_is_moved_and_put_back_goes_on_without_a_restart(serving: Serving, part: str) -> None:
    async def move(run: Serving) -> None:
        folder, away = run.data / part, run.data.parent / "away"
        folder.rename(away)
        if part == "ledger":
            await run.refused()
        else:
            await eventually(lambda: run.clients.ends["503"] > 20, "calls are refused")
            assert run.ready().status_code == run.proxy_ready().status_code == 503
        assert not folder.exists(), "its place is free"
        away.rename(folder)
        await run.more(50)

    serving.under_load(move)
    wait_until(serving.is_well, "all is well")
    serving.balances()


@pytest.mark.parametrize("made_anew", [True, False])
def test_folder_that_is_removed_loses_no_call_that_its_writers_hold(serving: Serving, made_anew: bool) -> None:
    async def remove(run: Serving) -> None:
        shutil.rmtree(run.ledger)
        await run.refused()
        if made_anew:
            run.ledger.mkdir()
            await run.more(50)
            await eventually(lambda: run.proxy_ready().status_code == 200, "workers are ready")
            await eventually(lambda: "was removed or replaced" in run.error(), "stored calls are gone, and it is told")

    serving.under_load(remove)
    serving.world.gateway.process.end()
    refused = subprocess.run(
        [*AIGW, "serve", "--data", str(serving.data), "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode != 0 and "or begin an empty ledger on purpose" in refused.stderr + refused.stdout
    (serving.ledger / "ledger.db").touch()
    serving.world.start()
    serving.balances()
