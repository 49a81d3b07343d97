"""`_native.Gateway` with a server that fails: a request whose answer the server does not accept still ends and leaves the in-flight list."""

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aigw._native import Gateway, Publisher

STORE = "0123abcd-0000-4000-8000-00000000000f"
PATIENCE_S = 20
CHUNKED = [("host", "h"), ("transfer-encoding", "chunked")]


class Server:
    """Stands in for the server's protocol object. `fails` names the method that raises."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.pieces: Iterator[bytes] = iter([b""])
        self.awaited: list[SimpleNamespace] = []
        self.answers: list[int] = []

    def _call(self, name: str) -> None:
        if name == self.fails:
            raise RuntimeError("the server does not take it")

    def __aiter__(self) -> "Server":
        self._call("__aiter__")
        return self

    def __anext__(self) -> Any:
        try:
            piece = next(self.pieces)
        except StopIteration:
            raise StopAsyncIteration from None
        self.awaited.append(SimpleNamespace(result=lambda: piece, add_done_callback=lambda callback: None))
        return self.awaited[-1]

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._call("response_bytes")
        self.answers.append(status)


def scope(path: str, headers: list[tuple[str, str]], method: str = "POST") -> Any:
    head = {"method": method, "path": path, "query_string": "", "client": "127.0.0.1:4711", "http_version": "1.1"}
    return SimpleNamespace(headers=SimpleNamespace(items=lambda: headers), authority=None, **head)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Gateway]:
    def make(**parts: Any) -> Gateway:
        empty = {part: [] for part in ("services", "routes", "key_auth", "rate_limiting", "size_limiting", "acl")}
        rest = {"columns": [], "default_tier": None, "tiers": [], "models": []}
        publisher = Publisher(str(tmp_path), STORE)
        publisher.publish(json.dumps({**empty, **rest, **parts}).encode())
        gateway = Gateway(str(tmp_path))
        assert gateway.refresh()
        return gateway

    return make


def test_a_failed_body_request_is_not_in_flight(opened: Callable[..., Gateway]) -> None:
    gateway, server = opened(), Server("__aiter__")
    with pytest.raises(RuntimeError, match="does not take"):
        gateway(scope("/nowhere", CHUNKED), server)
    assert (gateway.in_flight(), server.answers) == (0, [])


def test_an_unread_answer_ends_its_request(opened: Callable[..., Gateway]) -> None:
    gateway, server = opened(), Server("response_bytes")
    exchange = gateway(scope("/nowhere", CHUNKED), server)
    assert gateway.in_flight() == 1
    with pytest.raises(RuntimeError, match="does not take"):
        exchange(server.awaited[0])
    assert gateway.in_flight() == 0
    # The next request finds the gateway in order.
    server = Server("")
    gateway(scope("/nowhere", CHUNKED), server)(server.awaited[0])
    assert (gateway.in_flight(), server.answers) == (0, [404])


def test_an_unread_upstream_answer_ends_its_request(
    opened: Callable[..., Gateway], capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        gateway = opened(**route_to(upstream.getsockname()[1]))
        threading.Thread(target=answer_once, args=(upstream,), daemon=True).start()
        over: Future[Any] = Future()
        gateway.start(SimpleNamespace(call_soon_threadsafe=lambda callback, exchange, context: callback(exchange)))  # type: ignore[arg-type]
        exchange = gateway(scope("/", [("host", "h")], "GET"), Server("response_bytes"))
        exchange.add_done_callback(over.set_result)
        assert over.result(PATIENCE_S) is exchange
        assert gateway.in_flight() == 0
    assert "the server does not take it" in capfd.readouterr().err


def answer_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def route_to(port: int) -> dict[str, Any]:
    """A service and its route, as a policy has them."""
    golden = json.loads((Path(__file__).parents[2] / "golden" / "lab-policy.json").read_text())["policy"]
    service = {**golden["services"][0], "n": 1, "id": str(uuid.UUID(int=1)), "host": "127.0.0.1", "port": port}
    route = {
        **golden["routes"][0],
        "n": 1,
        "id": str(uuid.UUID(int=2)),
        "paths": ["/"],
        "key_auth": None,
        "rate_limiting": None,
    }
    return {"services": [service], "routes": [route]}
