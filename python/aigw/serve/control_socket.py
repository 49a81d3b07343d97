"""The socket in the data folder on which workers ask the control process.

In: one connection for each question, one line of JSON on it, at most `MOST_LINE` bytes: `{"question": NAME, ...}`. Out: one line of JSON,
then the end: `{"answer": ...}`, `{"refused": {"param", "message"}}` for a fault of the client's that the worker passes on, or
`{"failed": TEXT}`. Answers are made on threads of their own, so the event loop goes on. The gateway's user alone may connect.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from aigw.errors import AigwError, explain
from aigw.ledger.query import BadQuery
from aigw.telemetry.faults import Faults
from aigw.types import JsonDict

NAME: Final = "control.sock"
MOST_LINE: Final = 16 * 1024
LINE_S: Final = 5.0
"""Seconds for a question's line, and for the taking of its reply: a worker waits no longer."""
THREADS: Final = 2
MOST_WAITING: Final = 64
"""Questions at once. The worker tells its client to ask again."""
_MOST_PATH: Final = 107
"""Bytes of a socket's path (unix(7))."""

Answering = Callable[[JsonDict], Any]
"""Answers a question. Raises BadQuery, AigwError."""


class ControlSocket:
    """`start` and `stop` once, both on the event loop."""

    def __init__(self, data: Path, answers: Mapping[str, Answering], faults: Faults) -> None:
        """`answers`: name of a question -> the function that answers it, on a thread."""
        self._path = data / NAME
        self._answers = answers
        self._faults = faults
        self._threads = ThreadPoolExecutor(THREADS, "aigw-questions")
        self._waiting = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        listening = _listening(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MOST_LINE)

    def stop(self) -> None:
        """Take no more questions, and leave those that are open."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A worker that went away, or another program, gets no reply.
        with contextlib.suppress(OSError, TimeoutError, ValueError, RecursionError):
            async with asyncio.timeout(LINE_S):
                asked = json.loads(await reader.readline())
            reply = await self._reply(asked)
            async with asyncio.timeout(LINE_S):
                writer.write(json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
                await writer.drain()
                writer.write_eof()
        writer.close()

    async def _reply(self, asked: Any) -> JsonDict:
        name = asked.get("question") if isinstance(asked, dict) else None
        answering = self._answers.get(name) if isinstance(name, str) else None
        if answering is None:
            return {"failed": "unknown question"}
        if self._waiting >= MOST_WAITING:
            return {"failed": "too many questions at once"}
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, answering, asked)
        finally:
            self._waiting -= 1

    def _answer(self, answering: Answering, asked: JsonDict) -> JsonDict:
        with self._faults.outlived("questions", "answer a question of a worker"):
            try:
                return {"answer": answering(asked)}
            except BadQuery as error:
                message = f"Invalid parameter '{error.field}': {error.message}"
                return {"refused": {"param": error.field, "message": message}}
            except AigwError as error:
                return {"failed": explain(error)}
        return {"failed": "a fault of the control process"}


def _listening(path: Path) -> socket.socket:
    """A listening socket at this path, in the place of an earlier process's."""
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _short(made) as short:
            listening.bind(short)
        made.chmod(0o600)  # before it listens, nobody can connect
        listening.listen(MOST_WAITING)
        listening.setblocking(False)
        made.replace(path)
    except OSError:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path of the same file that is short enough for a socket."""
    if len(os.fsencode(path)) <= _MOST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
