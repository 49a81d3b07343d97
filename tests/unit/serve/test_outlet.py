"""Lines on their way to a reader that is slow, stopped or gone."""

import os
import threading
import time

import pytest

from aigw.serve import outlet
from aigw.serve.log import Log
from aigw.serve.outlet import MOST_BYTES, Outlet


def drain(descriptor: int, into: list[bytes]) -> None:
    """Read until the other end is closed."""
    while data := os.read(descriptor, 65536):
        into.append(data)


def test_full_pipe_drops_and_counts_and_a_later_line_tells() -> None:
    read, write = os.pipe()
    lines = Outlet(write)
    log = Log("json", "test", lines)
    begin, sent = time.monotonic(), 0
    while lines.take_dropped() == 0:
        log("event", text="x" * 1000)
        sent += 1
    assert time.monotonic() - begin < 30 and sent > MOST_BYTES // 1100
    for _ in range(9):
        log("lost")
    lines.flush(0.01)  # returns although nobody reads
    assert lines.take_dropped() == 9
    got: list[bytes] = []
    reader = threading.Thread(target=drain, args=(read, got))
    reader.start()
    lines.flush(30)
    log("after")
    lines.flush(30)
    os.close(write)
    reader.join()
    text = b"".join(got).decode().splitlines()
    assert len(text) == sent - 1 + 2
    assert '"event": "log_dropped", "lines": 10' in text[-2] and '"event": "after"' in text[-1]


def test_reader_that_is_gone_holds_nothing_up() -> None:
    read, write = os.pipe()
    os.close(read)
    lines = Outlet(write)
    assert all(lines.put("x" * 10_000 + "\n") for _ in range(10))
    lines.flush(30)
    assert lines.take_dropped() == 0
    os.close(write)


def test_descriptor_that_does_not_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    data, got = b"y" * 300_000, list[bytes]()
    reader = threading.Thread(target=drain, args=(read, got))
    writer = threading.Thread(target=lambda: (outlet._write_all(write, data), os.close(write)))
    writer.start()
    reader.start()
    writer.join()
    reader.join()
    assert b"".join(got) == data
