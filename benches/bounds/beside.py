"""The healthy client beside the bad ones. In: a URL and a request. Out: the times of its requests."""

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Self

from tests.support.wire import Connection as Client


class Beside:
    """A healthy client in a process of its own: the bad ones of this process cannot delay it. A context manager; afterwards `times`, in
    seconds, sorted."""

    def __init__(self, url: str, request: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_ask, args=(there, url, request), daemon=True)
        self.times: list[float] = []

    def __enter__(self) -> Self:
        self._process.start()
        self._here.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._here.send(None)
        self.times = sorted(self._here.recv())
        self._process.join()

    def told(self) -> str:
        """Median, 99th percentile and largest, in milliseconds."""
        last = len(self.times) - 1
        return "/".join(f"{1000 * self.times[int(last * share)]:.1f}" for share in (0.5, 0.99, 1))


def _ask(pipe: Connection, url: str, request: bytes) -> None:
    """One request after the other, ten milliseconds apart, until the other side says that it is enough."""
    times = []
    with Client(url) as client:
        client.ask(request)
        pipe.send(None)
        while not pipe.poll(0.01):
            began = time.monotonic()
            assert client.ask(request).status == 200, "the healthy client is served"
            times.append(time.monotonic() - began)
    pipe.send(times)
