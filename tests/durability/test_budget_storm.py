"""Budgets under a storm of plain calls and streams on four workers: never exceeded, used up, nothing reserved at its end."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.books import PROMPT, Books, Server, Storm, delivered
from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, start_configured

CLIENTS = 64
WORKERS = 4
PLACES = 24
KILLS = 20
PRICE: Json = {"input": 0.5, "output": 1, "request": 0.0001}
AFTER_S = 10.0
"""Nothing is reserved 5 s after the end. A busy machine runs the tests, too."""
LAG = 64
"""Tokens of a stream that its journal may lack when its worker is killed."""
ON_THE_WAY = 256
"""Most tokens that a stream's server produces until it notices the end: far more than it does."""


@pytest.fixture(autouse=True)
def far_from_midnight() -> None:
    """The budgets are by the day."""
    left = 86_400 - time.time() % 86_400
    if left < 300:
        pytest.skip(f"{left:.0f} s before midnight UTC, when the window under test ends")


def start(data: Path, url: str, limit: Json) -> tuple[Gateway, Caller]:
    """A gateway whose tier has this budget and a limit on calls at once, and a caller."""
    tier = {"limits": [{**limit, "per": "day"}, {"concurrency": PLACES}], "price": PRICE}
    model = {"upstreams": [{"url": url + "/v1", "model": "m"}], "max_output_tokens": 4096}
    gateway = start_configured(data, {"models": {"m": model}, "tiers": {"t": tier}}, workers=WORKERS)
    return gateway, caller(gateway, "t")


async def kill(gateway: Gateway) -> None:
    """Kill the workers in turn, each as soon as it serves again."""
    for number in range(KILLS):
        name = f"worker-{number % WORKERS + 1}"
        os.kill(gateway.children()[name], signal.SIGKILL)
        await asyncio.to_thread(gateway.wait_event, "ready", child=name)


def at_rest(one: Caller) -> Json:
    """The budget's row, once nothing is reserved and no call is in flight."""
    ended = time.monotonic()
    wait_until(
        lambda: all(
            row["reserved"] == 0 and (row["meter"] != "concurrency" or row["used"] == 0) for row in one.limits()
        ),
        "nothing is reserved",
    )
    assert time.monotonic() - ended < AFTER_S
    return next(row for row in one.limits() if row["meter"] != "concurrency")


def cost(limit: Json, tokens: int, calls: int) -> int:
    """So many tokens, prompts included, in units of the limit's meter."""
    return tokens if "tokens" in limit else calls * (100_000 + PROMPT * 500) + (tokens - calls * PROMPT) * 1_000


STORMS = {
    "plain calls, tokens": ({"tokens": 24_000}, CLIENTS, 0, False),
    "plain calls, spend": ({"spend": 0.06}, CLIENTS, 0, False),
    "both, tokens": ({"tokens": 60_000}, 32, 32, False),
    "both, spend": ({"spend": 0.06}, 32, 32, False),
    "plain calls, tokens, kills": ({"tokens": 120_000}, CLIENTS, 0, True),
    "both, tokens, kills": ({"tokens": 150_000}, 32, 32, True),
    "both, spend, kills": ({"spend": 0.3}, 32, 32, True),
    # A token comes back in three minutes or more: a storm sees no refill.
    "plain calls, bucket, kills": ({"tokens": 340, "burst": 120_000}, CLIENTS, 0, True),
    "both, bucket, kills": ({"tokens": 420, "burst": 150_000}, 32, 32, True),
}


@pytest.mark.parametrize("name", STORMS)
def test_storm_spends_a_budget_and_no_more(tmp_path: Path, name: str) -> None:
    limit, plain, streams, kills = STORMS[name]
    books = Books(length=400, pause=0.05 if kills and not streams else 0.003)
    with Server(books) as url:
        gateway, one = start(tmp_path / "data", url, limit)
        try:
            storm = Storm(gateway.proxy, one.key, books)
            beside = kill(gateway) if kills else None
            asyncio.run(storm.rage(plain=plain, streams=streams, beside=beside))
            row = at_rest(one)
        finally:
            gateway.process.end()
    calls, broken = len(books.produced), storm.ends["broken"]
    assert row["limit"] * 0.99 <= row["used"] <= row["limit"]
    produced = cost(limit, books.tokens(), calls)
    reached = cost(limit, delivered(books, storm), calls)
    assert reached <= row["limit"] + (cost(limit, LAG, 0) * broken if streams else 0)
    # A call whose worker is killed before its server has read it stays counted.
    assert produced >= row["limit"] * (0.97 if kills else 0.99)
    late = [books.produced[name] - storm.got.get(name, 0) for name in books.streams]
    assert max(late, default=0) <= ON_THE_WAY
    if not kills:
        assert broken == 0
        assert reached == row["used"], "each call is counted, as it was"
    if not streams:
        assert produced <= row["limit"]
    if not streams and not kills:
        assert books.most <= PLACES
