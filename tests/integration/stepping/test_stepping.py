"""One awaitable, two ways to step it: the same traffic through both gives the same bytes, and a metric tells which is used."""

import contextlib
import re
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from tests.support.processes import PATIENCE_S, Gateway

New = Callable[..., Gateway]

KEY = "the-same-key-on-both-sides"
IDS = [f"00000000-0000-4000-8000-{number:012}" for number in range(4)]
CLOSE = "Connection: close"


def request(target: str, *lines: str, body: bytes = b"", method: str = "") -> bytes:
    method = method or ("POST" if body else "GET")
    head = [f"{method} {target} HTTP/1.1", "Host: t", *lines]
    return "\r\n".join([*head, *([f"Content-Length: {len(body)}"] if body else []), "", ""]).encode() + body


def chat(stream: bool, *, tokens: int = 8) -> bytes:
    text = f'{{"model": "m", "max_tokens": {tokens}, "stream": {str(stream).lower()}, "messages": []}}'
    return request("/llm/v1/chat/completions", "Content-Type: application/json", CLOSE, body=text.encode())


def chunked(*parts: bytes, last: bytes = b"0\r\n\r\n", target: str = "/open/post") -> bytes:
    head = request(target, "Transfer-Encoding: chunked", CLOSE, method="POST")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + last


APIKEY = f"apikey: {KEY}"

# Each request ends its connection, so its answer is all bytes until the end.
SCRIPT: dict[str, bytes] = {
    "plain": request("/open/get", CLOSE),
    "query": request("/open/get?a=1&b=%20c&d", CLOSE),
    "headers": request("/open/headers", "X-One: 1", "X-One: 2", "X-Consumer-Id: forged", CLOSE),
    "connection headers": request("/open/headers", "X-One: 1", "Connection: close, x-one"),
    "forwarded": request("/open/get", "X-Forwarded-For: 1.2.3.4", "Via: 1.1 other", CLOSE),
    "post": request("/open/post", CLOSE, body=b"hello"),
    "post of nothing": request("/open/post", "Content-Length: 0", CLOSE, method="POST"),
    "large post": request("/open/post", CLOSE, body=b"x" * 300_000),
    "chunked post": chunked(b"hello ", b"world", b"x" * 70_000),
    "chunked nothing": chunked(),
    "expect": request("/open/post", "Expect: 100-continue", CLOSE, body=b"hello"),
    "put": request("/open/status/200", CLOSE, body=b"x", method="PUT"),
    "delete": request("/open/status/200", CLOSE, method="DELETE"),
    "options": request("/open/status/200", CLOSE, method="OPTIONS"),
    "other method": request("/open/status/200", CLOSE, method="PURGE"),
    "head": request("/open/get", CLOSE, method="HEAD"),
    "head of nothing there": request("/open/nothing", CLOSE, method="HEAD"),
    "no content": request("/open/status/204", CLOSE),
    "not modified": request("/open/status/304", CLOSE),
    "upstream 404": request("/open/status/404", CLOSE),
    "upstream 418": request("/open/status/418", CLOSE),
    "upstream 503": request("/open/status/503", CLOSE),
    "some bytes": request("/open/bytes/1000", CLOSE),
    "many bytes": request("/open/bytes/100000", CLOSE),
    "no bytes": request("/open/bytes/0", CLOSE),
    "late": request("/open/delay/0.15", CLOSE),
    "http 1.0": b"GET /open/get HTTP/1.0\r\nHost: t\r\n\r\n",
    "http 1.0 without a host": b"GET /open/get HTTP/1.0\r\n\r\n",
    "absolute form": request("http://t/open/get", CLOSE),
    "no route": request("/nowhere", CLOSE),
    "no route with a body": request("/nowhere", CLOSE, body=b"x" * 1000),
    "no service": request("/alone", CLOSE),
    "refusal in html": request("/nowhere", "Accept: text/html", CLOSE),
    "refusal of a head": request("/nowhere", CLOSE, method="HEAD"),
    "bad path": request("/open//get", CLOSE),
    "dot segment": request("/open/%2e%2e/get", CLOSE),
    "two hosts": request("/open/get", "Host: u", CLOSE),
    "no host": b"GET /open/get HTTP/1.1\r\n\r\n",
    "two framings": request("/open/post", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", method="POST"),
    "bad chunk": chunked(last=b"zz\r\n"),
    "trailers": chunked(b"hello", last=b"0\r\nX-T: 1\r\n\r\n"),
    "trace": request("/open/get", CLOSE, method="TRACE"),
    "not http": b"hello\r\n\r\n",
    "too many headers": request("/open/get", *[f"X-{n}: 1" for n in range(101)], CLOSE),
    "body too large": request("/open/post", "Content-Length: 2000000", CLOSE, method="POST"),
    "chunked too large": chunked(b"x" * 1_100_000),
    "no key": request("/keyed/get", CLOSE),
    "no key with a body": request("/keyed/post", CLOSE, body=b"x" * 100_000),
    "no key with chunks": chunked(b"x" * 100_000, target="/keyed/post"),
    "wrong key": request("/keyed/get", "apikey: wrong", CLOSE),
    "two keys": request("/keyed/get?apikey=a", APIKEY, CLOSE),
    "key": request("/keyed/get", APIKEY, CLOSE),
    "key in the query": request(f"/keyed/get?apikey={KEY}&a=1", CLOSE),
    "last of the limit": request("/keyed/post", APIKEY, CLOSE, body=b"hello"),
    "over the limit": request("/keyed/get", APIKEY, CLOSE),
    "over the limit with a body": request("/keyed/post", APIKEY, CLOSE, body=b"x" * 10_000),
    "upstream refuses": request("/dead/get", CLOSE),
    "upstream refuses a body": request("/dead/post", CLOSE, body=b"hello"),
    "upstream has no address": request("/lost/get", CLOSE),
    "chat": chat(stream=False),
    "stream": chat(stream=True),
    "long stream": chat(stream=True, tokens=64),
    "models": request("/llm/v1/models", CLOSE),
}

# These stay on one connection, one after the other.
KEPT = [
    request("/open/get"),
    request("/open/post", body=b"hello"),
    request("/keyed/post", body=b"x" * 50_000),
    request("/open/status/204"),
    request("/nowhere", body=b"x"),
    request("/open/bytes/100000"),
    request("/open/get", method="HEAD"),
    chunked(b"hello").replace(b"Connection: close\r\n", b""),
    request("/open/get", CLOSE),
]


def make(gateway: Gateway, echo: str, llm: str) -> None:
    gateway.route(echo, "/open", "open")
    gateway.route(echo, "/keyed", "keyed")
    gateway.route(llm, "/llm", "llm")
    gateway.route("http://127.0.0.1:1", "/dead", "dead")
    gateway.route("http://no-such-name.invalid", "/lost", "lost")
    gateway.make("/routes", name="alone", paths=["/alone"])
    gateway.make("/services/keyed/plugins", name="key-auth")
    gateway.make("/services/keyed/plugins", name="rate-limiting", config={"year": 3, "policy": "local"})
    gateway.make("/consumers", username="one", custom_id="1", id=IDS[0])
    gateway.make("/consumers/one/key-auth", key=KEY, id=IDS[1])


def talk(gateway: Gateway, *messages: bytes) -> bytes:
    """All that comes back until the gateway ends the connection; each message once something of the last answer is there."""
    parts = urlsplit(gateway.proxy)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), PATIENCE_S) as sock:
        told = b""
        for number, message in enumerate(messages):
            with contextlib.suppress(ConnectionError):
                sock.sendall(message)
            data = b""
            while number < len(messages) - 1 and not whole(data, head=message.startswith(b"HEAD")):
                piece = sock.recv(1 << 20)
                assert piece, data
                data += piece
            told += data
        # A reset ends a connection as well: what the client still wrote to it was not read.
        with contextlib.suppress(ConnectionError):
            while piece := sock.recv(1 << 20):
                told += piece
    return told


def whole(data: bytes, *, head: bool) -> bool:
    """Whether this is one answer, all of it."""
    start, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    length = re.search(rb"(?im)^content-length: (\d+)", start)
    if length:
        return head or len(body) >= int(length[1])
    return not re.search(rb"(?i)transfer-encoding", start) or body.endswith(b"0\r\n\r\n")


def masked(told: bytes) -> bytes:
    """The answer without values that depend on time or the request; chunks are joined, because their bounds depend on time."""
    told = re.sub(rb"(?im)^date: [^\r]+", b"date: -", told)
    told = re.sub(rb"(?im)^(x-kong-(?:upstream|proxy|response)-latency): \d+", rb"\1: -", told)
    told = re.sub(rb"(?im)^(ratelimit-reset|retry-after): \d+", rb"\1: -", told)
    told = re.sub(rb"\b[0-9a-f]{32}\b", b"-", told)
    head, _, body = told.partition(b"\r\n\r\n")
    if re.search(rb"(?i)transfer-encoding: chunked", head) and told.count(b"HTTP/1.1 ") == 1:
        data, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size, 16)
            data, rest = data + rest[:count], rest[count + 2 :]
        told = head + b"\r\n\r\n" + data
    return told


def inline(gateway: Gateway) -> str:
    page = httpx.get(gateway.admin + "/metrics", trust_env=False).text
    return "".join(re.findall(r'aigw_inline_stepping\{slot="\d+"\} (\d)', page))


@pytest.fixture
def both(new_gateway: New, echo: str, mock_llm: str) -> dict[str, Gateway]:
    found = {}
    for loop in ("inline", "stock"):
        environment = {"AIGW_LOOP": loop, "AIGW_MAX_BODY_BYTES": "1000000"}
        found[loop] = new_gateway(workers=1, env=environment)
        make(found[loop], echo, mock_llm)
    return found


def test_both_ways_answer_alike_byte_for_byte(both: dict[str, Gateway]) -> None:
    assert (inline(both["inline"]), inline(both["stock"])) == ("1", "0")
    assert len(SCRIPT) >= 40
    different = {}
    for name, data in SCRIPT.items():
        told = [masked(talk(gateway, data)) for gateway in both.values()]
        assert told[0].startswith(b"HTTP/1."), (name, told)
        if told[0] != told[1]:
            different[name] = told
    assert different == {}
    told = [masked(talk(gateway, *KEPT)) for gateway in both.values()]
    assert told[0].count(b"HTTP/1.1 ") == len(KEPT)
    assert told[0] == told[1]


def test_the_mask_hides_no_more_than_it_says() -> None:
    told = b"HTTP/1.1 200 OK\r\ndate: now\r\nx-kong-proxy-latency: 3\r\nx-other: 3\r\n\r\n{}"
    assert masked(told) == b"HTTP/1.1 200 OK\r\ndate: -\r\nx-kong-proxy-latency: -\r\nx-other: 3\r\n\r\n{}"
