"""A refusal behind the caller's key names caller, tier, route and service: an operator who sees an attack finds the key.

Guarantee under test: bodies that never end, that break, that come in too many chunks, too slowly, too large or in a foreign coding are
counted in `/denials`, logged and measured under everything that the head told.
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import httpx2 as httpx
import pytest

from tests.support.ends import connect, message, parse, read_to_end
from tests.support.hostile import MIB
from tests.support.processes import Gateway, start_upstream, wait_until
from tests.support.surface import Caller, Json, caller, metric, start_configured

TIER = "counted"
ROUTE, MODEL = "/echo/post", "/v1/chat/completions"
BODY = 900 * 1024
"""Above half of one caller's part, so that a second body of this size has no room; below 1 MiB, since the gateway reads a refused body of that
size and its client gets the answer."""
ENV = {"AIGW_BODY_MEMORY": str(4 * MIB), "AIGW_MAX_BODY_BYTES": str(3 * MIB), "AIGW_BODY_TIMEOUT": "1s"}


@dataclass(frozen=True)
class Watched:
    """A gateway that writes an access log."""

    gateway: Gateway

    def refused(self, who: Caller) -> dict[str, tuple[str | None, int]]:
        """Reason -> tier and count of the caller's refusals in the ledger."""
        query = {"group_by": "consumer,tier,reason", "consumer": who.name}
        answer = httpx.get(f"{self.gateway.admin}/denials", params=query, trust_env=False)
        rows = [(row["group"], row["denials"]) for row in answer.json()["data"]]
        return {group["reason"]: (group["tier"], count) for group, count in rows}

    def line(self, who: Caller, reason: str) -> Json:
        """The access log's line of the caller's refusal for this reason."""
        found: list[Json] = []

        def there() -> bool:
            lines = (json.loads(line) for line in (self.gateway.data.parent / "log").read_text().splitlines())
            found[:] = [line for line in lines if (line["consumer_name"], line.get("denial")) == (who.name, reason)]
            return bool(found)

        wait_until(there, f"the refusal {reason} of {who.name} is in the access log")
        return found[0]

    def answers(self, code: int) -> float:
        """Answers on the route with this status."""
        return metric(self.gateway, "kong_http_requests_total", route="echo", service="echo", code=str(code))

    def of_tier(self, reason: str) -> float:
        """Refusals of callers of the tier for this reason."""
        return metric(self.gateway, "aigw_tier_denials_total", tier=TIER, reason=reason)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with ExitStack() as stack:
        echo, echo_url = start_upstream("echo")
        stack.callback(echo.end)
        llm, llm_url = start_upstream("mock-llm")
        stack.callback(llm.end)
        folder = tmp_path_factory.mktemp("known")
        configuration: Json = {
            "models": {"small-chat": {"upstreams": [{"url": llm_url + "/v1", "model": "small-chat"}]}},
            "tiers": {TIER: {"limits": [{"requests": 1_000_000, "per": "year"}]}},
            "services": [
                {
                    "name": "echo",
                    "url": echo_url,
                    "routes": [{"name": "echo", "paths": ["/echo"]}],
                    "plugins": [{"name": "key-auth"}],
                }
            ],
        }
        gateway = start_configured(folder / "data", configuration, "--access-log", str(folder / "log"), env=ENV)
        stack.callback(gateway.process.end)
        yield Watched(gateway)


def post(path: str, who: Caller, *lines: str, body: bytes = b"") -> bytes:
    return message("POST", path, f"apikey: {who.key}", *lines, body=body)


def send(who: Caller, data: bytes) -> socket.socket:
    one = connect(who.gateway.proxy)
    one.sendall(data)
    return one


def status(one: socket.socket) -> int:
    return parse("POST", read_to_end(one)).status


def too_slow(who: Caller, path: str) -> int:
    with closing(send(who, post(path, who, body=bytes(100))[:-1])) as one:
        return status(one)


def too_many(who: Caller, path: str) -> int:
    """Two bodies that do not end: one has no room."""
    with ExitStack() as stack:
        withheld = post(path, who, body=bytes(BODY))[:-1]
        both = [stack.enter_context(closing(send(who, withheld))) for _ in range(2)]
        return next(found for found in map(status, both) if found != 408)


def too_large(who: Caller, path: str) -> int:
    with closing(send(who, post(path, who, f"Content-Length: {4 * MIB}"))) as one:
        return status(one)


def in_pieces(who: Caller, path: str) -> int:
    head = post(path, who, "Transfer-Encoding: chunked")
    with closing(send(who, head + b"1\r\nx\r\n" * 6000)) as one:
        return status(one)


def cut(who: Caller, path: str) -> int:
    """A chunked body whose client leaves in the middle: nobody reads the answer."""
    send(who, post(path, who, "Transfer-Encoding: chunked") + b"1\r\nx\r\n").close()
    return 400


def coded(who: Caller, path: str) -> int:
    with closing(send(who, post(path, who, "Content-Encoding: compress", body=b"x"))) as one:
        return status(one)


BAD: dict[str, tuple[Callable[[Caller, str], int], int, tuple[str, ...]]] = {
    "body_timeout": (too_slow, 408, (ROUTE, MODEL)),
    "body_memory_exceeded": (too_many, 429, (ROUTE, MODEL)),
    "body_too_large": (too_large, 413, (ROUTE, MODEL)),
    "body_in_pieces": (in_pieces, 413, (ROUTE, MODEL)),
    "body_cut": (cut, 400, (ROUTE, MODEL)),
    "unsupported_encoding": (coded, 415, (MODEL,)),
}


@pytest.mark.parametrize(
    ("reason", "path"), [(reason, path) for reason, (_, _, paths) in BAD.items() for path in paths]
)
def test_refusal_of_a_bad_body_names_its_caller(watched: Watched, reason: str, path: str) -> None:
    act, code, _ = BAD[reason]
    who = caller(watched.gateway, TIER)
    answers, of_tier = watched.answers(code), watched.of_tier(reason)
    assert act(who, path) == code
    wait_until(
        lambda: watched.refused(who).get(reason) == (TIER, 1), f"{reason} is a refusal of the caller and its tier"
    )
    line = watched.line(who, reason)
    on_route = path == ROUTE
    names = (bool(line["consumer"]), line["tier"], bool(line["route"]), bool(line["service"]), line["status"])
    assert names == (True, TIER, on_route, on_route, code)
    assert watched.of_tier(reason) == of_tier + 1
    assert watched.answers(code) == answers + on_route
    assert who.used() == [0]
