"""The socket for questions of workers: one line in, one line out, whatever comes in; faults of answers end no server."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aigw.errors import StoreError
from aigw.ledger.query import BadQuery
from aigw.serve import control_socket
from aigw.serve.control_socket import NAME, ControlSocket
from aigw.telemetry.faults import Faults
from aigw.types import JsonDict


async def ask(folder: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(folder / NAME))
    writer.write(line)
    writer.write_eof()
    reply = await reader.read()
    writer.close()
    return reply


def served(folder: Path, answers: Any, asking: Callable[[], Awaitable[Any]]) -> tuple[Any, Faults]:
    """The result of `asking` while a socket is served."""
    faults = Faults()

    async def run() -> Any:
        served = ControlSocket(folder, answers, faults)
        await served.start()
        try:
            return await asking()
        finally:
            served.stop()

    return asyncio.run(run()), faults


def answer(asked: JsonDict) -> Any:
    match asked["kind"]:
        case "refused":
            raise BadQuery("after", "no date")
        case "store":
            raise StoreError("the disk is gone")
        case "defect":
            raise KeyError("x")
    return {"kind": asked["kind"]}


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        ({"question": "q", "kind": "é"}, {"answer": {"kind": "é"}}),
        ({"question": "q", "kind": "refused"}, {"refused": {"param": "after", "message": "Invalid parameter 'after': no date"}}),
        ({"question": "q", "kind": "store"}, {"failed": "the disk is gone"}),
        ({"question": "q", "kind": "defect"}, {"failed": "a fault of the control process"}),
        ({"question": "other"}, {"failed": "unknown question"}), ({"question": ["q"]}, {"failed": "unknown question"}),
        ([], {"failed": "unknown question"}),
    ],
)  # fmt: skip
def test_question_has_one_reply(tmp_path: Path, asked: Any, reply: JsonDict) -> None:
    found, faults = served(tmp_path, {"q": answer}, lambda: ask(tmp_path, json.dumps(asked).encode() + b"\n"))
    assert found.endswith(b"\n") and json.loads(found) == reply
    counted = {dict(labels)["thread"]: n for family in faults.families() for _, labels, n in family.samples}
    assert counted["questions"] == (asked == {"question": "q", "kind": "defect"})


def test_line_that_is_no_question_gets_no_reply(tmp_path: Path) -> None:
    async def asking() -> list[bytes]:
        return [
            await ask(tmp_path, line) for line in (b"", b"{\n", b"\xff\n", b"[" * 16_000 + b"\n", b"x" * 20_000 + b"\n")
        ]

    assert served(tmp_path, {}, asking)[0] == [b""] * 5


def test_questions_beyond_the_bound_are_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "MOST_WAITING", 2)
    asked, release = threading.Semaphore(0), threading.Event()

    def slow(_: JsonDict) -> int:
        asked.release()
        assert release.wait(20)
        return 1

    async def asking() -> list[Any]:
        line = b'{"question": "slow"}\n'
        first = [asyncio.create_task(ask(tmp_path, line)) for _ in range(2)]
        for _ in first:
            assert await asyncio.to_thread(asked.acquire, timeout=20)
        third = await ask(tmp_path, line)
        release.set()
        return [json.loads(reply) for reply in (third, *(await asyncio.gather(*first)))]

    found, _ = served(tmp_path, {"slow": slow}, asking)
    assert found == [{"failed": "too many questions at once"}, {"answer": 1}, {"answer": 1}]


def test_socket_of_a_killed_process_and_a_long_folder_are_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 150)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / NAME))
    (tmp_path / NAME).rename(folder / NAME)

    async def asking() -> bytes:
        with control_socket._short(folder / NAME) as short:
            reader, writer = await asyncio.open_unix_connection(short)
        writer.write(b"{}\n")
        reply = await reader.read()
        writer.close()
        return reply

    assert served(folder, {}, asking)[0] == b'{"failed":"unknown question"}\n'
    assert list(folder.iterdir()) == []
