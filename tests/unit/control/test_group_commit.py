"""The writer goes on after a caller gives up, after an internal fault, and after a base that cannot be read."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from aigw.control.group_commit import GroupCommit
from aigw.errors import StoreError
from conftest import Gateway

PATIENCE_S = 30


class PanicException(BaseException):
    """The form of a panic of the extension: not an Exception."""


@pytest.fixture
def busy(gateway: Gateway) -> GroupCommit:
    assert gateway.control is not None
    return gateway.control.writer


def held(busy: GroupCommit) -> tuple["Future[None]", threading.Event]:
    """The writer at a change that ends when the event is set."""
    began, go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        began.set()
        assert go.wait(PATIENCE_S)

    first = busy.submit(hold)
    assert began.wait(PATIENCE_S)
    return first, go


def faults(gateway: Gateway, thread: str) -> int:
    """The number of faults in the metrics."""
    text = gateway.client.get("/metrics").text
    (line,) = [line for line in text.splitlines() if line.startswith(f'aigw_control_faults_total{{thread="{thread}"}}')]
    return int(float(line.rpartition(" ")[2]))


def test_a_cancelled_change_does_not_run(gateway: Gateway, busy: GroupCommit) -> None:
    first, go = held(busy)
    ran: list[str] = []
    given_up, kept = busy.submit(lambda _: ran.append("given up")), busy.submit(lambda _: ran.append("kept"))
    assert given_up.cancel()
    assert not first.cancel(), "what has begun is finished"
    go.set()
    kept.result(PATIENCE_S)
    assert ran == ["kept"]
    gateway.post("/consumers", username="later")


def test_a_fault_reaches_its_callers_and_is_counted(gateway: Gateway, busy: GroupCommit) -> None:
    original, before = gateway.publisher.publish, faults(gateway, "writer")

    def panics(_: bytes | None) -> int:
        gateway.publisher.publish = original  # type: ignore[method-assign]
        raise PanicException("once")

    gateway.publisher.publish = panics  # type: ignore[method-assign]
    answer = gateway.call("POST", "/services", 500, json={"name": "s", "host": "h"})
    assert "once" not in answer["message"] and "log" in answer["message"]
    assert faults(gateway, "writer") == before + 1
    gateway.post("/services", name="t", host="h")
    assert {s["name"] for s in gateway.publisher.policy["services"]} == {"s", "t"}  # type: ignore[index]


@pytest.mark.parametrize(
    "fault", [KeyError("a column came"), RuntimeError("a fault of ours"), PanicException("a panic")]
)
def test_a_base_that_cannot_be_read_is_read_again_later(
    gateway: Gateway, busy: GroupCommit, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    publisher, publication = gateway.publisher, gateway.control.publication
    read = publication.read_base
    before, dropped, written = faults(gateway, "base"), threading.Event(), threading.Event()
    publisher.delta_records = lambda: 0 if written.is_set() else 1 << 20  # type: ignore[method-assign]

    def fails(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(publication, "read_base", read)
        raise fault

    def after(original: Callable[..., None], done: threading.Event) -> Callable[..., None]:
        def call(*given: Any) -> None:
            original(*given)
            done.set()

        return call

    monkeypatch.setattr(publication, "read_base", fails)
    monkeypatch.setattr(publication, "drop_base", after(publication.drop_base, dropped))
    monkeypatch.setattr(publisher, "write_base", after(publisher.write_base, written))
    gateway.post("/consumers", username="one")
    assert dropped.wait(PATIENCE_S)
    assert faults(gateway, "base") == before + (not isinstance(fault, KeyError))
    gateway.post("/consumers", username="two")
    assert written.wait(PATIENCE_S)


def test_the_writer_refuses_operations_after_its_end(gateway: Gateway, busy: GroupCommit) -> None:
    busy.close()
    with pytest.raises(StoreError, match="stopping"):
        busy.submit(lambda _: None).result(PATIENCE_S)
