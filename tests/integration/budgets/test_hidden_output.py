"""Models that reason without showing it: their streams hold the whole cap, so that no limit is exceeded."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.integration.budgets.conftest import HEAD, event
from tests.support.ends import Upstream, Wire
from tests.support.processes import PATIENCE_S, start_upstream
from tests.support.surface import Caller, Json, caller, chat, grown, is_error, metric, start_configured, stats

LIMIT = 5_000
STREAMS = 8


@pytest.fixture
def reasoner() -> Iterator[str]:
    """A model that spends most of its cap on reasoning, and does not show it."""
    mock, url = start_upstream("mock-llm", "--chunks", "20", "--reasoning-tokens", "600")
    try:
        yield url
    finally:
        mock.end()


def spend(one: Caller) -> None:
    """Streams until the budget is spent."""
    while True:
        answer = one.post(chat("m", stream=True, max_tokens=700))
        if answer.status_code != 200 and not is_error(answer, 429)["aigw"].get("reserved"):
            return


def test_hidden_reasoning_exceeds_no_limit(reasoner: str, tmp_path: Path) -> None:
    model: Json = {"upstreams": [{"url": f"{reasoner}/v1", "model": "mock-small"}]}
    tier: Json = {"limits": [{"tokens": LIMIT, "per": "year"}]}
    gateway = start_configured(tmp_path / "data", {"models": {"m": model}, "tiers": {"t": tier}}, workers=1)
    try:
        one, before = caller(gateway, "t"), stats(reasoner)
        # The gateway learns it from a stream whose reasoning fits into the first chunk.
        assert one.post(chat("m", stream=True, max_tokens=100)).status_code == 200
        with ThreadPoolExecutor(STREAMS) as clients:
            list(clients.map(spend, [one] * STREAMS))
        (used,) = one.used()
        assert used == sum(grown(before, reasoner, "prompt_tokens", "completion_tokens"))
        assert LIMIT * 0.99 <= used <= LIMIT
        assert metric(gateway, "aigw_overrun_total", tier="t", model="m") == 0
    finally:
        gateway.process.end()


@pytest.mark.parametrize(
    ("more", "reserved"), [({}, 256), ({"reasoning_effort": "none"}, 256), ({"reasoning_effort": "low"}, 700)]
)
def test_stream_that_asks_for_reasoning_holds_its_whole_cap(tmp_path: Path, more: Json, reserved: int) -> None:
    begun, looked = threading.Event(), threading.Event()

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            wire.send(HEAD)
            begun.set()
            assert looked.wait(PATIENCE_S)
            usage = {
                "prompt_tokens": 9,
                "completion_tokens": 700,
                "completion_tokens_details": {"reasoning_tokens": 690},
            }
            wire.send(event({"choices": [], "usage": usage}) + b"0\r\n\r\n")

    with Upstream(script) as upstream, ThreadPoolExecutor(1) as client:
        model: Json = {"upstreams": [{"url": f"{upstream.url}/v1", "model": "m"}]}
        tier: Json = {"limits": [{"output_tokens": LIMIT, "per": "year"}]}
        gateway = start_configured(tmp_path / "data", {"models": {"m": model}, "tiers": {"t": tier}}, workers=1)
        try:
            one = caller(gateway, "t")
            asked = client.submit(one.post, chat("m", stream=True, max_tokens=700, **more))
            assert begun.wait(PATIENCE_S)
            held = [row["reserved"] for row in one.limits()]
            looked.set()
            answer: httpx.Response = asked.result(PATIENCE_S)
            assert (answer.status_code, held, one.used()) == (200, [reserved], [700])
        finally:
            looked.set()
            gateway.process.end()
