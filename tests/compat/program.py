"""A client's program as a process: a call goes in as one line, its result comes back as one line that begins with `@@`.

Lines without that mark are a library's own output. A result that takes longer than `PATIENCE_S` fails the case.
"""

import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from tests.support.surface import Json

PATIENCE_S: Final = 120.0  # seconds: imports of a large library on a busy machine, and two sat-out refusals


class Program:
    """A running client. A context manager."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(environment),
        )
        self._results: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._hear, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.versions: dict[str, str] = self._next()["versions"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@@"):
                self._results.put(line[2:])
        self._results.put(None)

    def _hear(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)

    def _next(self) -> Json:
        try:
            line = self._results.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise TimeoutError(f"no result within {PATIENCE_S:.0f} s") from None
        if line is None:
            raise RuntimeError(f"the client's program ended: {''.join(self._errors[-5:])}")
        seen: Json = json.loads(line)
        return seen

    def call(self, case: str, base: str, key: str, model: str) -> Json:
        """Make the call of a case. Returns the members that the client saw."""
        assert self._process.stdin is not None
        root = base.removesuffix("/v1")
        self._process.stdin.write(
            json.dumps({"case": case, "base": base, "root": root, "key": key, "model": model}) + "\n"
        )
        self._process.stdin.flush()
        return self._next()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None and self._process.stderr is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(10)
        self._process.stdout.close()
        self._process.stderr.close()
