"""Ambiguous framing, hosts and client addresses: the gateway refuses every ambiguity, and sends one request upstream, rebuilt from
parsed parts. Raw sockets on both sides; the upstream records all bytes.
"""

import re
from collections.abc import Iterator

import pytest

from tests.support.processes import Gateway, start_gateway
from tests.support.wire import Connection, Message, Upstream

HOST = b"Host: t\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
KEY = "secret-key-of-one"
SMUGGLED = b"GET /open/smuggled HTTP/1.1\r\nHost: t\r\n\r\n"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, running: Upstream) -> Iterator[Gateway]:
    """`/open` lets everybody through, `/keyed` wants a key and hides it."""
    gateway = start_gateway(tmp_path_factory.mktemp("framing") / "data", "--drain-timeout", "2")
    try:
        gateway.route(running.url, "/open", "open")
        gateway.route(running.url, "/keyed", "keyed")
        gateway.make("/services/keyed/plugins", name="key-auth", config={"hide_credentials": True})
        gateway.make("/consumers", username="one")
        gateway.make("/consumers/one/key-auth", key=KEY)
        yield gateway
    finally:
        gateway.process.end()


def head(method: bytes, target: bytes, *headers: bytes, host: bytes = HOST) -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + host + b"".join(headers) + b"\r\n"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return head(b"POST", b"/open/x", *headers) + body


def get(target: str, *headers: str) -> bytes:
    return head(b"GET", target.encode(), *(f"{line}\r\n".encode() for line in headers))


def check_refusal(answer: Message, status: int, message: str) -> None:
    """The answer is Kong's: status, JSON of message and request id, and the id in both headers."""
    assert (answer.status, answer.json()["message"]) == (status, message)
    assert list(answer.json()) == ["message", "request_id"]
    request_id = answer.json()["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert answer.one("x-kong-request-id") == answer.one("x-request-id") == request_id
    assert answer.one("content-type") == "application/json; charset=utf-8"
    assert answer.one("server").startswith("aigw/")
    assert answer.all("x-kong-upstream-latency") == []


def check_nothing_came(gate: Gateway, kept: Upstream) -> None:
    """Send a valid request afterwards: by its answer, the one before has arrived or never will."""
    with Connection(gate.proxy) as connection:
        assert connection.ask(get("/open/after")).status == 200
    assert [request.target for request in kept.take()] == ["/after"]


HOSTS = "Exactly one valid Host header is required"
FRAMING = "The framing of the request is ambiguous"
CUT = "The request body ended early"
METHOD = "Method not allowed"
LARGE = "Request header fields too large"

REFUSED = {
    "no Host": (b"GET /open/x HTTP/1.1\r\n\r\n", 400, HOSTS),
    "two Hosts": (b"GET /open/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, HOSTS),
    "the same Host twice": (b"GET /open/x HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n", 400, HOSTS),
    "a Host with a space": (b"GET /open/x HTTP/1.1\r\nHost: a b\r\n\r\n", 400, HOSTS),
    "a Host with a path": (b"GET /open/x HTTP/1.1\r\nHost: a/b@c\r\n\r\n", 400, HOSTS),
    "a Host that is not text": (b"GET /open/x HTTP/1.1\r\nHost: t\xff\r\n\r\n", 400, HOSTS),
    "another authority": (head(b"GET", b"http://other/open/x"), 400, HOSTS),
    "an authority with a user": (head(b"GET", b"http://u@t/open/x"), 400, HOSTS),
    "an authority and no Host": (head(b"GET", b"http://t/open/x", host=b""), 400, HOSTS),
    "another coding": (post(b"Transfer-Encoding: gzip, chunked\r\n", body=b"0\r\n\r\n"), 400, FRAMING),
    "two codings": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400, FRAMING),
    "a chunk size that is no number": (post(CHUNKED, body=b"zz\r\nhello\r\n0\r\n\r\n"), 400, CUT),
    "a chunk size beyond all": (post(CHUNKED, body=b"f" * 17 + b"\r\nhello"), 400, CUT),
    "a chunk longer than said": (post(CHUNKED, body=b"5\r\nhelloXX0\r\n\r\n"), 400, CUT),
    "a chunk line with a bare LF": (post(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"), 400, CUT),
    "trailers": (post(CHUNKED, body=b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), 400, CUT),
    "CONNECT": (head(b"CONNECT", b"t:443"), 405, METHOD),
    "CONNECT with a path": (head(b"CONNECT", b"/open/x"), 405, METHOD),
    "TRACE": (head(b"TRACE", b"/open/x"), 405, METHOD),
    "headers of 33 KiB": (head(b"GET", b"/open/x", b"X-A: " + b"a" * 33 * 1024 + b"\r\n"), 431, LARGE),
    "headers of 100 KiB": (head(b"GET", b"/open/x", b"X-A: " + b"a" * 100 * 1024 + b"\r\n"), 431, LARGE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_ambiguous_request_is_refused_and_ends_its_connection(gate: Gateway, kept: Upstream, case: str) -> None:
    message, status, why = REFUSED[case]
    with Connection(gate.proxy) as connection:
        # What follows in the same segment must not become a request of its own.
        check_refusal(connection.ask(message + SMUGGLED), status, why)
        assert connection.rest() == []
    check_nothing_came(gate, kept)


# Refused by the server's parser before the gateway sees a request: the status is right, the body is empty.
NO_HTTP = {
    "two lengths that differ": (post(b"Content-Length: 5\r\nContent-Length: 6\r\n", body=b"hello!"), 400),
    "a list of lengths": (post(b"Content-Length: 5, 5\r\n", body=b"hello"), 400),
    "a signed length": (post(b"Content-Length: +5\r\n", body=b"hello"), 400),
    "a negative length": (post(b"Content-Length: -5\r\n", body=b"hello"), 400),
    "an unknown coding": (post(b"Transfer-Encoding: xchunked\r\n", body=b"0\r\n\r\n"), 400),
    "chunked is not last": (post(b"Transfer-Encoding: chunked, identity\r\n", body=b"0\r\n\r\n"), 400),
    "chunked by HTTP/1.0": (b"POST /open/x HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "a space before the colon": (post(b"Content-Length : 5\r\n", body=b"hello"), 400),
    "a folded line": (post(b"X-A: b\r\n c: d\r\n"), 400),
    "NUL in a header": (post(b"X-A: a\0b\r\n"), 400),
    "CR in a header": (post(b"X-A: a\rTransfer-Encoding: chunked\r\n"), 400),
    "a version that is none": (b"GET /open/x HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    "no version": (b"GET /open/x\r\n\r\n", 400),
    "a target without its slash": (head(b"GET", b"open/x"), 400),
    "a path of bytes that are no text": (head(b"GET", b"/open/\xff"), 400),
    "101 headers": (head(b"GET", b"/open/x", *(b"X-%d: 1\r\n" % n for n in range(100))), 431),
    "headers beyond the buffer": (head(b"GET", b"/open/x", b"X-A: " + b"a" * 600_000 + b"\r\n"), 431),
    "a target of 70 KB": (head(b"GET", b"/open/" + b"a" * 70_000), 414),
}


@pytest.mark.parametrize("case", NO_HTTP)
def test_bytes_that_are_not_http_are_refused_and_end_the_connection(gate: Gateway, kept: Upstream, case: str) -> None:
    message, status = NO_HTTP[case]
    with Connection(gate.proxy) as connection:
        assert connection.ask(message + SMUGGLED).status == status
        assert connection.rest() == []
    check_nothing_came(gate, kept)


CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"

# Each is one request with the body `hello`, and `more` says whether the connection goes on after it.
REBUILT = {
    "bare LF": (b"POST /open/x HTTP/1.1\nHost: t\nContent-Length: 5\n\nhello", True),
    "a bare LF among others": (b"POST /open/x HTTP/1.1\r\nHost: t\nContent-Length: 5\r\n\r\nhello", True),
    "the same length twice": (post(b"Content-Length: 5\r\nContent-Length: 5\r\n", body=b"hello"), True),
    "a chunk with an extension": (post(CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\n\r\n"), True),
    "absolute form": (head(b"POST", b"http://t/open/x", b"Content-Length: 5\r\n") + b"hello", True),
    "length, then chunked": (post(b"Content-Length: 6\r\n", CHUNKED, body=CHUNKS), False),
    "chunked, then length": (post(CHUNKED, b"Content-Length: 6\r\n", body=CHUNKS), False),
}


@pytest.mark.parametrize("case", REBUILT)
def test_the_gateway_sends_one_rebuilt_request_upstream(gate: Gateway, kept: Upstream, case: str) -> None:
    message, more = REBUILT[case]
    with Connection(gate.proxy) as connection:
        connection.send(message + SMUGGLED)
        answers = [connection.answer(), connection.answer()] if more else connection.rest()
    requests = kept.take()
    assert [answer.status for answer in answers] == [200] * len(requests)
    assert [request.target for request in requests] == ["/x", "/smuggled"][: 1 + more]
    assert (requests[0].body, requests[0].one("content-length")) == (b"hello", "5")
    assert requests[0].all("transfer-encoding") == []


def test_as_many_requests_reach_the_upstream_as_answers_came_back(gate: Gateway, kept: Upstream) -> None:
    """All of these on one kept connection: a body that looks like a request is a body."""
    attempts = [
        post(b"Content-Length: %d\r\n" % len(SMUGGLED), body=SMUGGLED),
        post(CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        head(b"GET", b"/open/x", b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED,
        head(b"GET", b"/keyed/x", b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED,
        get("/open/x", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        get("/open/x", "Content-Length: 0"),
    ]
    with Connection(gate.proxy) as connection:
        connection.send(b"".join(attempts))
        statuses = [connection.answer().status for _ in attempts]
        assert connection.ask(get("/open/last")).status == 200
    assert statuses == [200, 200, 200, 401, 200, 200]
    assert [request.target for request in kept.take()] == ["/x"] * 5 + ["/last"]


def test_a_hundred_headers_pass(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        assert connection.ask(get("/open/x", *(f"X-{n}: {n}" for n in range(99)))).status == 200
    (request,) = kept.take()
    assert [request.one(f"x-{n}") for n in range(99)] == [str(n) for n in range(99)]


REFUSED_PATHS = [
    "/open/..",
    "/open/../x",
    "/open/./x",
    "/open/%2e%2e/x",
    "/open/%2E./x",
    "/open/.%2e",
    "/open/..;/x",
    "/open/x/%2e",
    "//open/x",
    "/open//x",
    "/open/%2f/x",
    "/open\\x",
    "/open/%5cx",
    "/open/%00",
    "/open/x%00.txt",
    "/open/%0d%0aX-A:1",
    "/open/%7f",
    "/open/%c2%80",
    "/open/%ff",
    "/open/%c0%ae%c0%ae/x",
    "/open/%ed%a0%80",
    "*",
]


@pytest.mark.parametrize("path", REFUSED_PATHS)
def test_a_path_with_two_readings_is_refused(gate: Gateway, kept: Upstream, path: str) -> None:
    with Connection(gate.proxy) as connection:
        answer = connection.ask(get(path))
        check_refusal(answer, 400, "The request path is not in canonical form")
        assert connection.ask(get("/open/same-connection")).status == 200
    assert [request.target for request in kept.take()] == ["/same-connection"]


@pytest.mark.parametrize(
    ("path", "forwarded"),
    [
        ("/open/a%20b", "/a%20b"),
        ("/open/%61", "/a"),
        ("/open/a%2fb", "/a/b"),
        ("/open/%c3%a9", "/%C3%A9"),
        ("/open/%252e%252e/x", "/%252e%252e/x"),  # decoded once, encoded once: never taken for a dot segment
        ("/open/%25%32%65", "/%252e"),
        ("/open/%zz", "/%25zz"),
        ("/open/...", "/..."),
        ("/open/x?a=/../b&c=%00", "/x?a=/../b&c=%00"),
    ],
)
def test_one_form_of_a_path_is_forwarded(gate: Gateway, kept: Upstream, path: str, forwarded: str) -> None:
    with Connection(gate.proxy) as connection:
        assert connection.ask(get(path)).status == 200
    (request,) = kept.take()
    assert request.target == forwarded


DUPLICATES = {
    "two headers": ("/keyed/x", [f"apikey: {KEY}", f"apikey: {KEY}"]),
    "two headers that differ": ("/keyed/x", ["apikey: other", f"apikey: {KEY}"]),
    "one of them empty": ("/keyed/x", ["apikey:", f"apikey: {KEY}"]),
    "header and query": (f"/keyed/x?apikey={KEY}", [f"apikey: {KEY}"]),
    "twice in the query": (f"/keyed/x?apikey={KEY}&a=1&apikey={KEY}", []),
    "an encoded name in the query": (f"/keyed/x?apikey={KEY}&%61pikey=other", []),
}


@pytest.mark.parametrize("case", DUPLICATES)
def test_two_keys_are_refused(gate: Gateway, kept: Upstream, case: str) -> None:
    target, headers = DUPLICATES[case]
    with Connection(gate.proxy) as connection:
        answer = connection.ask(get(target, *headers))
    check_refusal(answer, 401, "Duplicate API key found")
    assert answer.one("www-authenticate").startswith("Key")
    check_nothing_came(gate, kept)


@pytest.mark.parametrize(
    ("target", "headers", "forwarded"),
    [
        (f"/keyed/x?apikey={KEY}", [], "/x"),
        (f"/keyed/x?a=1&apikey={KEY}&b=%2f", [], "/x?a=1&b=%2f"),
        (f"/keyed/x?%61pikey={KEY.replace('-', '%2d')}&a", [], "/x?a"),
        ("/keyed/x?a=1", [f"ApiKey: {KEY}"], "/x?a=1"),
    ],
)
def test_a_hidden_key_stays_here(
    gate: Gateway, kept: Upstream, target: str, headers: list[str], forwarded: str
) -> None:
    with Connection(gate.proxy) as connection:
        assert connection.ask(get(target, *headers)).status == 200
    (request,) = kept.take()
    assert request.target == forwarded
    assert request.all("apikey") == []
    assert KEY not in repr(request) and request.one("x-consumer-username") == "one"


FORGED = [
    "X-Consumer-ID: root",
    "X-Consumer-Username: root",
    "X-Consumer-Custom-ID: root",
    "X-Consumer-Groups: admins",
    "X-Credential-Identifier: root",
    "X-Credential-Username: root",
    "X-Authenticated-Groups: admins",
    "X-Authenticated-Userid: root",
    "X-Anonymous-Consumer: true",
    "X-AIGW-Tier: enterprise",
    "X-Kong-Request-Id: mine",
    "X-Request-Id: mine",
    "X-Real-IP: 192.0.2.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: root",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Path: /root",
    "X-Forwarded-Prefix: /root",
    "X-Forwarded-Server: root",
    "Proxy-Authorization: Basic cm9vdA==",
    "TE: trailers",
    "Trailer: root",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
]
NAMED_BY = "x-forged"


def check_nothing_forged(request: Message) -> None:
    for line in FORGED:
        name, _, value = line.partition(": ")
        assert value not in request.all(name.lower()), line
    for name in (
        "x-consumer-groups",
        "x-consumer-custom-id",
        "x-anonymous-consumer",
        "x-credential-username",
        "x-authenticated-groups",
        "x-authenticated-userid",
        "x-aigw-tier",
        "proxy-authorization",
    ):
        assert request.all(name) == []


@pytest.mark.parametrize("path", ["/open", "/keyed"])
def test_headers_of_the_gateway_never_come_from_the_client(gate: Gateway, kept: Upstream, path: str) -> None:
    with Connection(gate.proxy) as connection:
        answer = connection.ask(get(f"{path}/x", f"apikey: {KEY}", "X-Kept: yes", *FORGED))
    assert answer.status == 200
    (request,) = kept.take()
    check_nothing_forged(request)
    assert request.all("x-consumer-username") == (["one"] if path == "/keyed" else [])
    assert request.one("x-kept") == "yes"
    assert request.one("x-forwarded-proto") == "http"
    assert (request.one("x-forwarded-host"), request.one("x-forwarded-path")) == ("t", f"{path}/x")
    assert request.one("x-real-ip") == "127.0.0.1"
    assert request.one("x-request-id") == request.one("x-kong-request-id") == answer.one("x-request-id")


def test_the_address_is_added_to_the_ones_a_client_claims(gate: Gateway, kept: Upstream) -> None:
    with Connection(gate.proxy) as connection:
        connection.ask(get("/open/x", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"))
    (request,) = kept.take()
    assert request.one("x-forwarded-for") == "192.0.2.1, 192.0.2.2, 127.0.0.1"


@pytest.mark.parametrize(
    "lines", [["Connection: close, X-One, x-two"], ["Connection: keep-alive", "Connection: X-One", "Connection: X-Two"]]
)
def test_headers_of_one_hop_end_here(gate: Gateway, kept: Upstream, lines: list[str]) -> None:
    with Connection(gate.proxy) as connection:
        answer = connection.ask(get("/open/x", *lines, "X-One: 1", "X-Two: 2", "X-Three: 3"))
    assert answer.status == 200
    (request,) = kept.take()
    assert (request.all("x-one"), request.all("x-two"), request.all("x-three")) == ([], [], ["3"])
    assert request.all("connection") == []


def test_clients_word_on_its_address_does_not_go_on(gate: Gateway, kept: Upstream) -> None:
    lines = [
        "Forwarded: for=10.0.0.1;host=evil",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X_Original_URL: /admin",
    ]
    with Connection(gate.proxy) as connection:
        assert connection.ask(get("/open/x", *lines, "X-Three: 3")).status == 200
    (request,) = kept.take()
    names = {name.lower().replace("_", "-") for name, _ in request.headers}
    assert not names & {"forwarded", "x-original-url", "x-rewrite-url"} and request.one("x-three") == "3"


def test_a_client_cannot_name_the_gateways_headers_as_its_hops(gate: Gateway, kept: Upstream) -> None:
    named = "Connection: host, content-length, x-consumer-username, x-forwarded-for, x-request-id"
    with Connection(gate.proxy) as connection:
        assert connection.ask(get("/keyed/x", f"apikey: {KEY}", named)).status == 200
    (request,) = kept.take()
    assert request.one("x-consumer-username") == "one"
    assert request.one("x-forwarded-for") == "127.0.0.1" and request.one("x-request-id")


@pytest.mark.parametrize("path", ["/open", "/keyed"])
@pytest.mark.parametrize(
    "line",
    [
        "X_Consumer_Username: root",
        "X_Consumer-Id: root",
        "X_Credential_Identifier: root",
        "X-Authenticated_Groups: root",
        "X_Authenticated_Userid: root",
        "X_Anonymous_Consumer: true",
        "X_Forwarded-Proto: https",
        "Transfer_Encoding: chunked",
        "X-AIGW_Tier: root",
    ],
)
def test_an_underscore_does_not_hide_a_forged_header(gate: Gateway, kept: Upstream, line: str, path: str) -> None:
    """Servers that hand headers to programs as variables (CGI, WSGI) read `_` and `-` as the same."""
    with Connection(gate.proxy) as connection:
        assert connection.ask(get(f"{path}/x", f"apikey: {KEY}", "X_Kept: yes", line)).status == 200
    (request,) = kept.take()
    assert request.all(line.partition(":")[0].lower()) == []
    assert request.one("x_kept") == "yes"


@pytest.mark.parametrize(
    ("accept", "form", "beginning"),
    [
        (None, "application/json", b'{\n  "message":"No API key found in request",\n  "request_id":"'),
        ("*/*", "application/json", b'{\n  "message":"No API key'),
        ("image/png", "application/json", b'{\n  "message":"No API key'),
        ("text/html", "text/html", b"<!doctype html>"),
        ("text/html;q=0.5, application/xml;q=0.9", "application/xml", b"<?xml version"),
        ("text/plain", "text/plain", b"No API key found in request\n"),
        ("text/html;q=0", "application/json", b"{"),
    ],
)
def test_a_refusal_speaks_the_form_that_is_accepted(
    gate: Gateway, accept: str | None, form: str, beginning: bytes
) -> None:
    with Connection(gate.proxy) as connection:
        answer = connection.ask(get("/keyed/x", *([f"Accept: {accept}"] if accept else [])))
    assert answer.status == 401
    assert answer.one("content-type") == f"{form}; charset=utf-8"
    assert answer.body.startswith(beginning)
    assert answer.one("x-request-id").encode() in answer.body
