"""Exact limits: whatever the concurrency, the number of workers, and who is killed meanwhile."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

import httpx2 as httpx
import pytest

from tests.support.load import hammer, request
from tests.support.processes import Gateway, gone, wait_until

New = Callable[..., Gateway]

KEY = "a-key-that-is-only-used-in-tests"
LIMIT = 1000
CLIENTS = 64


@pytest.fixture(autouse=True)
def far_from_midnight() -> None:
    """The limit is by the day: a test that begins in a day's last two minutes would see two windows."""
    left = 86_400 - time.time() % 86_400
    if left < 120:
        pytest.skip(f"{left:.0f} s before midnight UTC, when the window under test ends")


def limited(gateway: Gateway, upstream: str) -> None:
    gateway.route(upstream, "/ai")
    gateway.make("/services/s1/plugins", name="key-auth")
    gateway.make("/services/s1/plugins", name="rate-limiting", config={"day": LIMIT, "policy": "local"})
    gateway.make("/consumers", username="alice")
    gateway.make("/consumers/alice/key-auth", key=KEY)


def day(gateway: Gateway) -> dict[str, int]:
    answer = httpx.get(f"{gateway.admin}/consumers/alice/limits", trust_env=False)
    (limit,) = answer.json()["data"]
    found: dict[str, int] = limit
    return found


def once(gateway: Gateway) -> int:
    return httpx.get(f"{gateway.proxy}/ai/get", headers={"apikey": KEY}, trust_env=False).status_code


def test_64_clients_on_4_workers_pass_exactly_the_limit_and_it_lasts(new_gateway: New, echo: str) -> None:
    gateway = new_gateway(workers=4)
    limited(gateway, echo)
    message = request("/ai/get", KEY)
    counts = asyncio.run(hammer(gateway.proxy, lambda _: message, clients=CLIENTS, requests=LIMIT * 3))
    assert counts == {200: LIMIT, 429: LIMIT * 2}
    wait_until(lambda: day(gateway)["reserved"] == 0, "no permit is held")
    assert (day(gateway)["used"], day(gateway)["remaining"]) == (LIMIT, 0)

    # A change of configuration keeps the counts ...
    gateway.make("/consumers", username="bob")
    httpx.patch(f"{gateway.admin}/services/s1", json={"retries": 3}, trust_env=False).raise_for_status()
    assert once(gateway) == 429
    # ... and so does a restart of the whole gateway, by the book or not.
    for ending in (signal.SIGTERM, signal.SIGKILL):
        pids = tuple(gateway.children().values())
        gateway.process.end(ending)
        wait_until(lambda pids=pids: all(map(gone, pids)), "every process of the gateway is gone")  # type: ignore[misc]
        gateway = new_gateway(workers=4, data=gateway.data)
        assert once(gateway) == 429
        assert day(gateway)["used"] == LIMIT


def test_killed_workers_never_admit_one_too_many(new_gateway: New, echo: str) -> None:
    gateway = new_gateway(workers=4)
    limited(gateway, echo)
    message = request("/ai/get", KEY)
    kills = 20

    async def kill() -> None:
        for number in range(kills):
            name = f"worker-{number % 4 + 1}"
            os.kill(gateway.children()[name], signal.SIGKILL)
            await asyncio.to_thread(gateway.wait_event, "ready", child=name)

    counts = asyncio.run(hammer(gateway.proxy, lambda _: message, clients=CLIENTS, requests=LIMIT * 12, beside=kill()))
    assert set(counts) <= {200, 429, None}
    assert counts[200] <= LIMIT, "a limit was exceeded"
    # Short by at most the calls in flight: permits of a killed worker stay taken.
    assert counts[200] >= LIMIT - kills * CLIENTS
    wait_until(lambda: day(gateway)["reserved"] == 0, "what dead workers held is reclaimed")
    assert day(gateway)["used"] <= LIMIT
    assert counts[200] <= day(gateway)["used"], "an answered request was not counted"
    assert once(gateway) == (429 if day(gateway)["remaining"] == 0 else 200)
