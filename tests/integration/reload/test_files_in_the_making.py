"""A file that is being written is not in force before it is whole, however long that takes: cut off at a line's end it is valid, and
would take consumers away, with the keys that the Admin API made for them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aigw.config import being_written
from tests.integration.reload.conftest import KEY, Reloading, write
from tests.support.processes import wait_until

CONSUMERS = 40
# Writes a piece for each line that it is told, and holds the file open from the first to the last.
WRITER = """
import sys
with open(sys.argv[1], sys.argv[2]) as file:
    print("open", flush=True)
    for line in sys.stdin:
        file.write(eval(line))
        file.flush()
        print("written", flush=True)
"""
# Opens, appends and closes for each piece; tells the longest pause that it made.
PIECES = """
import sys, time
path, pause, pieces = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
last, longest = time.monotonic(), 0.0
for number, piece in enumerate(pieces):
    with open(path, "a" if number else "w") as file:
        file.write(piece)
    longest, last = max(longest, time.monotonic() - last), time.monotonic()
    time.sleep(pause)
print(longest)
"""


class Writer:
    """Another process that writes a file piece by piece."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert self._read() == "open\n"

    def piece(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text!r}\n")
        self._process.stdin.flush()
        assert self._read() == "written\n"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def writing(file: Path, mode: str = "w") -> Iterator[Writer]:
    """The file is held open within this block."""
    command = [sys.executable, "-c", WRITER, str(file), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Writer(process)


@pytest.fixture
def many(reloading: Reloading) -> Iterator[Reloading]:
    """The file with many consumers in force, the last of which has a key of the Admin API."""
    if being_written([reloading.file]) is None:
        pytest.skip("the kernel does not tell who writes on this disk")
    lines = [
        f"  - {{username: c{n}, keyauth_credentials: [{{key: key-of-c{n}-0123456789}}]}}\n" for n in range(CONSUMERS)
    ]
    small, reloading.text = reloading.text, reloading.text + "".join(lines)
    reloading.restore()
    reloading.gateway.make(f"/consumers/c{CONSUMERS - 1}/key-auth", key="made-by-admin")
    yield reloading
    reloading.text = small
    reloading.restore()


def changed(reloading: Reloading) -> str:
    return reloading.text.replace("requests: 10,", "requests: 11,")


def pieces(text: str, count: int) -> list[str]:
    """Cut at lines' ends: each beginning of it is valid."""
    lines = text.splitlines(keepends=True)
    head = next(n for n, line in enumerate(lines) if "username: c0," in line)
    size = -(-(len(lines) - head) // count)
    return ["".join(lines[:head]), *("".join(lines[n : n + size]) for n in range(head, len(lines), size))]


def nobody_was_removed(reloading: Reloading, since: float) -> None:
    assert [entry["removed"] for entry in reloading.history() if entry["time"] > since and entry["removed"]] == []
    assert reloading.call("made-by-admin").status_code in (200, 429)
    assert reloading.call(f"key-of-c{CONSUMERS - 1}-0123456789").status_code in (200, 429)


def late(reloading: Reloading) -> dict[str, Any]:
    error = reloading.wrong()
    assert "is still being written after 5 s" in error["message"] and error["file"] == str(reloading.file)
    return error


def test_a_copy_that_stalls_is_not_in_force_before_it_ends(many: Reloading) -> None:
    began, before, text = time.time(), many.status(), changed(many)
    head, *rest = pieces(text, 4)
    with writing(many.file) as writer:
        writer.piece(head)
        writer.piece(rest[0])
        error = late(many)
        assert many.status() == {**before, "error": error}
        assert many.metric("aigw_config_reload_success") == ["aigw_config_reload_success 0"]
        for piece in rest[1:]:
            writer.piece(piece)
        assert many.status()["hash"] == before["hash"]
    many.in_force(text)
    nobody_was_removed(many, began)
    assert many.log().count('"config_waits"') == 1
    assert many.metric("aigw_config_reload_success") == ["aigw_config_reload_success 1"]


def test_pieces_that_are_appended_one_by_one_are_waited_for(many: Reloading) -> None:
    """As a script does with `>>`: nobody holds the file open in between, so the pauses seen must tell."""
    text = changed(many)
    for _ in range(5):
        began = time.time()
        command = [sys.executable, "-c", PIECES, str(many.file), "0.15", *pieces(text, 10)]
        longest = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        many.in_force(text)
        if longest < 0.5:  # else this machine stalled the writer for longer than anybody waits
            break
        many.restore()
    else:
        pytest.skip("this machine is too busy to write in time")
    nobody_was_removed(many, began)


def test_a_file_written_in_place_keeps_the_entities_it_does_not_reach(many: Reloading) -> None:
    """As `rsync --inplace` does: never smaller, changed from its beginning, then cut to its length."""
    began, text = time.time(), changed(many)
    with writing(many.file, "r+") as writer:
        writer.piece(text[:200])
        late(many)
        writer.piece(text[200:])
    many.in_force(text)
    nobody_was_removed(many, began)


def test_sighup_waits_for_who_writes(many: Reloading) -> None:
    began, text = time.time(), changed(many)
    head, *rest = pieces(text, 2)
    with writing(many.file) as writer:
        writer.piece(head)
        os.kill(many.gateway.pid, signal.SIGHUP)
        late(many)
        for piece in rest:
            writer.piece(piece)
    many.in_force(text)
    assert many.history()[0]["source"] == "sighup"
    nobody_was_removed(many, began)


def test_reading_the_file_on_demand_is_refused_while_it_is_written(many: Reloading) -> None:
    began, before, text = time.time(), many.status(), changed(many)
    head, *rest = pieces(text, 2)
    with writing(many.file) as writer:
        writer.piece(head)
        refused = many.post()
        assert refused.status_code == 400
        assert "is being written at this moment: nothing has changed" in refused.json()["message"]
        assert many.status()["hash"] == before["hash"]
        posted = many.post(content=text.encode(), headers={"content-type": "application/yaml"})
        assert posted.status_code == 201, "a text is whole"
        for piece in rest:
            writer.piece(piece)
    wait_until(lambda: many.status()["source"] == str(many.file), "the file rules again: it changed")
    nobody_was_removed(many, began)


def test_a_control_process_that_comes_back_while_the_file_is_written_keeps_what_was_in_force(many: Reloading) -> None:
    began, before, text = time.time(), many.status(), changed(many)
    head, *rest = pieces(text, 2)
    with writing(many.file) as writer:
        writer.piece(head)
        os.kill(many.gateway.children()["control"], signal.SIGKILL)
        many.gateway.wait_event("died", child="control")
        many.gateway.wait_event("ready", child="control")
        status = many.status()
        assert status["hash"] == before["hash"] and "is being written" in status["error"]["message"]
        for piece in rest:
            writer.piece(piece)
    many.in_force(text)
    nobody_was_removed(many, began)


def test_a_file_written_at_once_and_closed_is_loaded_without_a_wait(many: Reloading) -> None:
    """Also a file that lost most of its consumers on purpose."""
    small = many.text[: many.text.index("  - {username: c1,")]
    write(many.file, small)
    many.in_force(small)
    assert many.call("made-by-admin").status_code == 401
    assert many.call(KEY).status_code in (200, 429)
