"""Bodies on their way in: claimed before they are kept, free after the answer, and read to their end for the next request."""

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from aigw.admin import arrival
from aigw.admin.arrival import LARGE, Budget, Patience, Rest
from aigw.admin.envelope import Refusal

SOON = Patience(0.05, 0.2)


def scope(**headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": "/", "headers": named}


def sending(*parts: bytes, ends: bool = True) -> Callable[[], Any]:
    """A client that sends these parts, and then waits."""
    left = list(parts)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left) or not ends}

    return receive


def test_a_body_beyond_the_budget_is_503_and_frees_its_part() -> None:
    async def run() -> None:
        budget = Budget(10, lambda: None)
        with budget.claim() as first:
            assert await arrival.read(Request(scope(), sending(b"12345678")), 10, SOON, first) == b"12345678"
            with pytest.raises(Refusal) as refused, budget.claim() as second:
                await arrival.read(Request(scope(), sending(b"12", b"3")), 10, SOON, second)
            assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
            assert budget.held == 8, "the refused body holds nothing"
        assert budget.held == 0
        with budget.claim() as whole:
            assert len(await arrival.read(Request(scope(), sending(b"1" * 10)), 10, SOON, whole)) == 10

    asyncio.run(run())


@given(st.lists(st.integers(0, 12), max_size=20))
def test_claims_never_exceed_the_budget_and_end_at_zero(sizes: list[int]) -> None:
    budget = Budget(12, lambda: None)
    claims = [budget.claim() for _ in range(3)]
    for at, size in enumerate(sizes):
        try:
            claims[at % 3].add(size)
        except Refusal:
            assert budget.held + size > 12
        assert 0 <= budget.held <= 12
    for claim in claims:
        with claim:
            pass
    assert budget.held == 0


def test_memory_goes_back_twice_after_a_large_body_and_never_after_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "SOON_S", 0.0)
    monkeypatch.setattr(arrival, "LATER_S", 0.01)

    async def run() -> None:
        walks: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def give_back() -> None:
            loop.call_soon_threadsafe(walks.put_nowait, 1)

        budget = Budget(3 * LARGE, give_back)
        for size, expected in ((LARGE - 1, 0), (LARGE, 2)):
            with budget.claim() as claim:
                claim.add(size)
            for _ in range(expected):
                await asyncio.wait_for(walks.get(), 5)
            await asyncio.sleep(0)
            assert walks.empty()

    asyncio.run(run())


def test_bodies_without_a_pause_do_not_put_off_the_return_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "SOON_S", 0.01)
    monkeypatch.setattr(arrival, "LATER_S", 3600.0)

    class Loop:
        """A part of a cycle, as the values of a refused body are."""

    async def run() -> None:
        walked = threading.Event()
        budget, gone = Budget(LARGE, walked.set), []
        while not walked.is_set():
            one = Loop()
            one.itself = one  # type: ignore[attr-defined]
            gone.append(weakref.ref(one))
            del one
            with budget.claim() as claim:
                claim.add(LARGE)
            await asyncio.sleep(0)
        assert gone[0]() is None, "garbage in cycles is found first"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "parts", "ends", "finished"),
    [
        ({}, (), True, True),
        ({"content_length": "0"}, (), True, True),
        ({"content_length": "3"}, (b"123",), True, True),
        ({"transfer_encoding": "chunked"}, (b"1", b"2"), True, True),
        ({"content_length": "9"}, (b"123",), False, False),
        ({"content_length": "9999999"}, (b"1" * LARGE, b"2" * LARGE), False, False),
    ],
)
def test_the_rest_of_a_body_is_read_within_bounds(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], parts: tuple[bytes, ...], ends: bool, finished: bool
) -> None:
    monkeypatch.setattr(arrival, "DISCARDED_S", 0.05)
    rest = Rest(scope(**headers), sending(*parts, ends=ends))
    assert asyncio.run(rest.discard()) is finished
