"""A gateway whose tiers have budgets, in front of a mock model and of an upstream that each test writes itself."""

import contextlib
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.ends import Upstream, Wire, chunk
from tests.support.processes import Gateway, start_upstream, wait_until
from tests.support.surface import Caller, Json, caller, start_configured

PRICE: Json = {"input": 0.5, "output": 1, "request": 0.001}
"""USD: 500 nano-dollars for a token of the input, 1,000 for one of the output, 1,000,000 for a request."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_numbers = itertools.count(1)


def document(body: Json | bytes) -> bytes:
    """A plain answer."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


def event(body: Json) -> bytes:
    """One event of a stream, as a chunk of the answer's body."""
    return chunk(b"data: " + json.dumps(body).encode() + b"\n\n")


def measured(one: Caller, body: Json) -> tuple[int, int]:
    """The tokens of a call's input, and the bound of them by its bytes."""
    told = one.post({name: body[name] for name in ("model", "messages")}, "/v1/tokenize").json()
    return told["tokens"], told["bound"]


def logged(gateway: Gateway, request_id: str) -> Json:
    """The line of a request in the access log."""
    log = gateway.data.parent / "log"

    def found() -> list[Json]:
        whole = log.read_text().rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["request_id"] == request_id]

    wait_until(lambda: bool(found()), "the call is logged")
    return found()[0]


@dataclass
class Lab:
    """A gateway; `act` is the answer of the scripted upstream to the next calls. `folder` may have its access log, `log`."""

    gateway: Gateway
    mock: str
    endless: str
    upstream: Upstream
    folder: Path
    act: Callable[[Wire], None] = lambda wire: None

    def caller(self, **spec: Any) -> Caller:
        """A new caller in a tier of its own."""
        name = f"tier-{next(_numbers)}"
        answer = httpx.put(f"{self.gateway.admin}/tiers/{name}", json=spec, trust_env=False)
        assert answer.status_code == 200, answer.text
        return caller(self.gateway, name)

    def sent(self) -> Json:
        """The body that the scripted upstream got last."""
        body: Json = json.loads(self.upstream.requests[-1][1])
        return body


@contextlib.contextmanager
def running(folder: Path, mock: str, *arguments: str, workers: int = 1) -> Iterator[Lab]:
    """A lab."""
    made: list[Lab] = []

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            made[0].act(wire)

    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Upstream(script))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent_url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        many, endless = start_upstream("mock-llm", "--chunks", "100000")
        stack.callback(many.end)

        def model(url: str, **more: Any) -> Json:
            return {"upstreams": [{"url": url + "/v1", "model": "mock-small"}], **more}

        models = {
            "small-chat": model(mock, max_output_tokens=4096),
            "uncapped": model(upstream.url),
            "scripted": model(upstream.url, max_output_tokens=4096),
            # Its upstreams do not hear of the cap, so that streams reach the boundary.
            "endless": model(endless, cap_parameter="none"),
            "silent-tls": model(silent_url),
            "scripted-endless": model(upstream.url, cap_parameter="none"),
        }
        gateway = start_configured(folder / "data", {"models": models}, *arguments, workers=workers)
        stack.callback(gateway.process.end)
        made.append(Lab(gateway, mock, endless, upstream, folder))
        yield made[0]


@pytest.fixture(scope="module")
def lab(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("budgets")
    with running(folder, mock_llm, "--drain-timeout", "1", "--access-log", str(folder / "log")) as made:
        yield made
