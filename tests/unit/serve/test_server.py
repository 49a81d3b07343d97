"""The behaviour of the pinned server that aigw needs: a release that changes it fails here first."""

import asyncio
import contextvars
import socket
import sys
import types
from collections.abc import Callable

import pytest

from aigw._native import InlineSubmit
from aigw.errors import AddressInUse, ConfigError
from aigw.serve.drain import drain
from aigw.serve.listen import hold, listen
from aigw.serve.loop import make_loop
from aigw.serve.server import enters_by_run
from aigw.types import HostPort


def test_requests_enter_python_where_the_inline_loop_waits_for_them() -> None:
    assert enters_by_run()


def test_the_inline_loop_steps_the_requests_of_every_server_of_its_process() -> None:
    """Each server has a function of its own through which requests enter; one with another certificate is another server."""
    from granian._futures import _cbsched_aioschedule

    passed: list[object] = []
    submit = InlineSubmit(lambda *args, context=None: passed.append(args))

    class Loop:
        call_soon_threadsafe = staticmethod(submit)

    async def request(_watcher: object) -> None:
        return None

    servers = [_cbsched_aioschedule(Loop(), contextvars.copy_context(), request) for _ in range(3)]
    for turn in (0, 1, 0, 2, 1, 2):
        servers[turn](object())
    assert (submit.counts, passed) == ((6, 0), [])
    submit(print, "another callback", context=None)
    assert (submit.counts, len(passed)) == ((6, 1), 1)


@pytest.mark.parametrize("wanted", ["inline", "stock"])
def test_the_server_runs_the_wanted_loop(wanted: str) -> None:
    loop, moves = make_loop(wanted)
    try:
        assert (moves is not None) == (wanted == "inline")
        assert (type(loop.call_soon_threadsafe).__name__ == "InlineSubmit") == (moves is not None)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_server_that_enters_otherwise_gets_a_stock_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "granian._futures", types.ModuleType("granian._futures"))
    loop, moves = make_loop("inline")
    asyncio.set_event_loop(None)
    loop.close()
    assert moves is None


def test_call_that_does_not_end_is_seen_by_the_second_look() -> None:
    looks: list[bool] = []

    def passed_on(callback: Callable[[], None], *, context: object = None) -> None:
        callback()

    submit = InlineSubmit(passed_on)
    assert submit.moves() and submit.moves()
    submit(lambda: looks.extend(submit.moves() for _ in range(3)))
    assert looks == [True, False, False] and submit.moves()


def test_workers_share_a_held_port_with_no_other_process() -> None:
    held, address = hold(HostPort("127.0.0.1", 0), "proxy")
    with held, listen(address) as first, listen(address) as second:
        assert first.getsockname() == second.getsockname() == (address.host, address.port)
        assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(AddressInUse, match="--proxy"):
            hold(address, "proxy")


def test_an_address_of_another_machine_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="cannot bind"):
        hold(HostPort("192.0.2.1", 8000), "proxy")


class Busy:
    """A gateway with requests in flight, ended by the cut unless `finishes`."""

    def __init__(self, finishes: bool) -> None:
        self.calls: list[str] = []
        self._left = 3
        self._finishes = finishes

    def begin_drain(self) -> None:
        self.calls.append("begin_drain")

    def stop(self) -> None:
        self.calls.append("stop")

    def in_flight(self) -> int:
        self._left -= self._finishes and self._left > 0
        return self._left

    def cut(self) -> int:
        self.calls.append("cut")
        cut, self._left = self._left, 0
        return cut


@pytest.mark.parametrize(("finishes", "cut"), [(True, 0), (False, 3)])
async def test_a_drain_cuts_only_what_does_not_finish(finishes: bool, cut: int) -> None:
    gateway = Busy(finishes)
    served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    served.set_result(None)
    assert await drain(gateway, gateway, served, 0.1 if cut else 30, asyncio.Event()) == cut
    assert gateway.calls == ["begin_drain", "stop"] + ["cut"] * bool(cut)


async def test_a_second_stop_waits_no_longer() -> None:
    gateway = Busy(finishes=False)
    at_once = asyncio.Event()
    at_once.set()
    served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert await asyncio.wait_for(drain(gateway, gateway, served, 3600, at_once), 30) == 3
