"""Restarts of one child, with time as an argument."""

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigw.serve.child import READY
from aigw.serve.slot import BACK_OFF_S, Slot


class Child:
    """A fake process, which a test ends."""

    pid = 4711

    def __init__(self) -> None:
        self.status: int | None = None
        self.heard, self.says = os.pipe()

    def say(self, what: bytes) -> None:
        """Speak to the slot."""
        os.write(self.says, what)

    def die(self, status: int) -> None:
        """End, and with it its end of the pipe."""
        os.close(self.says)
        self.status = status

    def poll(self) -> int | None:
        return self.status

    def send_signal(self, number: int) -> None:
        self.die(-number)


def make() -> tuple[Slot, Callable[[], Child]]:
    children: list[Child] = []

    def spawn() -> Any:
        children.append(Child())
        return children[-1], children[-1].heard

    return Slot("worker-1", spawn), lambda: children[-1]


@given(st.lists(st.booleans(), max_size=30))
def test_a_ready_child_is_replaced_at_once_and_no_wait_is_longer_than_the_bound(ready: list[bool]) -> None:
    slot, last = make()
    for number, was_ready in enumerate(ready):
        now = float(number)
        slot.start(now)
        assert slot.due is None
        if was_ready:
            last().say(READY)
            slot.hear()
            assert slot.ready
        last().die(1)
        assert slot.reap(now) == 1
        assert slot.due is not None and now <= slot.due <= now + BACK_OFF_S
        assert (slot.due == now) == was_ready
        assert slot.pid is None and slot.ready_fd == -1


def test_a_living_child_is_not_reaped_and_a_dead_slot_gets_no_signal() -> None:
    slot, last = make()
    slot.send(signal.SIGKILL)
    slot.start(0.0)
    assert slot.reap(0.0) is None
    slot.send(signal.SIGKILL)
    assert slot.reap(0.0) == -signal.SIGKILL
    assert last().status == -9


@pytest.mark.parametrize("deaths", [1, 5, 1000])
def test_early_deaths_never_overflow_the_wait(deaths: int) -> None:
    slot, last = make()
    for _ in range(deaths):
        slot.start(0.0)
        last().die(1)
        slot.reap(0.0)
    assert slot.due is not None and slot.due <= BACK_OFF_S


@pytest.mark.parametrize("heard_before", [True, False])
def test_the_slot_keeps_the_last_words_of_a_child_until_the_next_one(heard_before: bool) -> None:
    slot, last = make()
    slot.start(0.0)
    last().say("the disk is full: ä".encode())
    if heard_before:
        slot.hear()
        assert not slot.ready
    last().die(1)
    assert slot.reap(0.0) == 1
    assert (slot.why, slot.early_deaths) == ("the disk is full: ä", 1)
    slot.start(0.0)
    assert slot.why == ""


def test_a_failed_fork_is_tried_again() -> None:
    spawned: list[Child] = []

    def spawn() -> Any:
        if not spawned:
            spawned.append(Child())
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return spawned[0], spawned[0].heard

    slot = Slot("worker-1", spawn)
    with pytest.raises(BlockingIOError):
        slot.start(5.0)
    assert (slot.pid, slot.due, slot.early_deaths) == (None, 5.0 + BACK_OFF_S, 0)
    assert slot.reap(6.0) is None
    assert slot.start(6.0) == Child.pid
