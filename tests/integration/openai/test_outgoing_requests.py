"""Requests to a model's upstream: the caller's body byte for byte except for required changes, and none of the caller's secrets."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.ends import message
from tests.support.processes import Gateway
from tests.support.surface import Caller, Json, caller, start_configured, without_bill
from tests.support.wire import Connection, Message, Upstream, upstream

UPSTREAM_KEY = "upstream-key-0123456789"
PLAIN = json.dumps({"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
STREAM = 'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\ndata: {"choices":[],"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n'


def answer(request: Message) -> bytes:
    streamed = b'"stream":true' in request.body or b'"stream": true' in request.body
    kind, body = ("text/event-stream", STREAM) if streamed else ("application/json", PLAIN)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return (head + "Set-Cookie: session=1\r\nX-RateLimit-Limit-Requests: 7\r\nX-Theirs: kept\r\n\r\n" + body).encode()


@dataclass(frozen=True)
class Ends:
    gateway: Gateway
    upstream: Upstream

    def through(
        self, who: Caller, body: bytes, *lines: str, path: str = "/v1/chat/completions"
    ) -> tuple[Message, Message]:
        """What the upstream got, and what the caller got."""
        head = [f"POST {path} HTTP/1.1", "Host: gateway.test", who.bearer, f"Content-Length: {len(body)}", *lines]
        with Connection(self.gateway.proxy) as client:
            got = client.ask("\r\n".join([*head, "", ""]).encode() + body)
        assert got.status == 200, got
        (sent,) = self.upstream.take()
        return sent, got


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    with upstream(answer) as kept:
        where: Json = {"url": kept.url + "/base/v1", "model": "their/name@2", "api_key": "${UPSTREAM_KEY}"}
        models = {"public": {"upstreams": [where]}, "short": {"upstreams": [where], "max_output_tokens": 100}}
        models["same"] = {"upstreams": [{"url": kept.url + "/v1"}]}
        tiers: Json = {"capped": {"output": {"max_tokens": 512}}, "open": {}}
        folder = tmp_path_factory.mktemp("upstream")
        configuration = {"models": models, "tiers": tiers}
        gateway = start_configured(folder / "data", configuration, env={"UPSTREAM_KEY": UPSTREAM_KEY})
        yield Ends(gateway, kept)
        gateway.process.end()


HI = r'"messages":[{"role":"user","content":"h\u00ef \/ é 😀"}]'
BODIES: dict[str, tuple[str, str, str]] = {
    "a model is renamed": (
        "open",
        '{ "model" :\t"public" , %s, "temperature": 1.0e0, "x": [1,  2] }',
        '{ "model" :\t"their/name@2" , %s, "temperature": 1.0e0, "x": [1,  2] }',
    ),
    "a name spelt with escapes": ("open", '{"model":"publ\\u0069c",%s}', '{"model":"their/name@2",%s}'),
    "a member like it, elsewhere": (
        "open",
        '{"metadata":{"model":"public"},%s,"model":"public"}',
        '{"metadata":{"model":"public"},%s,"model":"their/name@2"}',
    ),
    "nothing is to be changed": ("open", '{"model":"same",%s}', '{"model":"same",%s}'),
    "a cap is set": ("capped", '{"model":"same",%s}', '{"max_tokens":512,"model":"same",%s}'),
    "a cap is lowered": (
        "capped",
        '{"max_tokens": 9999, "model":"same",%s}',
        '{"max_tokens": 512, "model":"same",%s}',
    ),
    "a lower cap stays": ("capped", '{"max_tokens":3,"model":"same",%s}', '{"max_tokens":3,"model":"same",%s}'),
    "a cap of null is set": ("capped", '{"max_tokens":null,"model":"same",%s}', '{"max_tokens":512,"model":"same",%s}'),
    "the new cap is lowered": (
        "capped",
        '{"max_completion_tokens":2147483647,"model":"same",%s}',
        '{"max_completion_tokens":512,"model":"same",%s}',
    ),
    "the model's own bound": ("open", '{"max_tokens":101,"model":"short",%s}', '{"max_tokens":100,"model":"their/name@2",%s}'),
    "the model's bound is not said unasked": ("open", '{"model":"short",%s}', '{"model":"their/name@2",%s}'),
    "the model's bound within the tier's": ("capped", '{"model":"short",%s}', '{"max_tokens":100,"model":"their/name@2",%s}'),
    "the usage of a stream is asked for": (
        "open",
        '{"stream":true,"model":"same",%s}',
        '{"stream_options":{"include_usage":true},"stream":true,"model":"same",%s}',
    ),
    "in options that are there": (
        "open",
        '{"stream": true,"stream_options":{ "a":1 },"model":"same",%s}',
        '{"stream": true,"stream_options":{"include_usage":true, "a":1 },"model":"same",%s}',
    ),
    "over a caller's no": (
        "open",
        '{"stream":true,"stream_options":{"include_usage": false},"model":"same",%s}',
        '{"stream":true,"stream_options":{"include_usage": true},"model":"same",%s}',
    ),
    "over null": (
        "open",
        '{"stream":true,"stream_options":null,"model":"same",%s}',
        '{"stream":true,"stream_options":{"include_usage":true},"model":"same",%s}',
    ),
    "where the caller asks itself": (
        "open",
        '{"stream":true,"stream_options":{"include_usage":true},"model":"same",%s}',
        '{"stream":true,"stream_options":{"include_usage":true},"model":"same",%s}',
    ),
    "no stream, no usage": ("open", '{"stream":false,"model":"same",%s}', '{"stream":false,"model":"same",%s}'),
}  # fmt: skip


@pytest.mark.parametrize("what", BODIES)
def test_only_what_must_differ_differs(ends: Ends, what: str) -> None:
    tier, asked, wanted = BODIES[what]
    sent, _ = ends.through(caller(ends.gateway, tier), (asked % HI).encode())
    assert sent.body.decode() == wanted % HI
    assert sent.one("content-length") == str(len(sent.body)) and sent.all("transfer-encoding") == []


def test_a_chunked_body_is_sent_with_its_length(ends: Ends) -> None:
    body = f'{{"model":"same",{HI}}}'.encode()
    who = caller(ends.gateway, "open")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{who.bearer}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    with Connection(ends.gateway.proxy) as client:
        client.send(head)
        for at in range(0, len(body), 7):
            client.send(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]))
        assert client.ask(b"0\r\n\r\n").status == 200
    (sent,) = ends.upstream.take()
    assert (sent.body, sent.one("content-length")) == (body, str(len(body)))


def test_the_rest_of_the_path_and_the_query_are_appended(ends: Ends) -> None:
    who = caller(ends.gateway, "open")
    body = b'{"model":"public","input":"x","prompt":"x","messages":[1]}'
    for path in ("/chat/completions", "/completions", "/embeddings", "/chat/completions?a=%20b&a=c"):
        sent, _ = ends.through(who, body, path="/v1" + path)
        assert sent.first == f"POST /base/v1{path} HTTP/1.1"
        assert sent.one("host") == ends.upstream.url.removeprefix("http://")


def test_a_body_is_said_to_be_what_it_was_read_as(ends: Ends) -> None:
    lines = ("Content-Type: application/x-www-form-urlencoded",)
    path = "/v1/chat/completions?apikey=secret&a=1&API_KEY=secret"
    sent, _ = ends.through(caller(ends.gateway, "open"), b'{"model":"public","messages":[1]}', *lines, path=path)
    assert sent.all("content-type") == ["application/json"]
    assert sent.first == "POST /base/v1/chat/completions?a=1 HTTP/1.1"


CALLERS = {
    "apikey": "theirs-1",
    "cookie": "theirs-2",
    "x-forwarded-for": "theirs-3",
    "x-forwarded-host": "theirs-4",
    "x-real-ip": "theirs-5",
    "forwarded": "for=theirs-6",
    "x-consumer-username": "theirs-7",
    "x-credential-identifier": "theirs-8",
    "x-aigw-tier": "theirs-9",
    "x-authenticated-userid": "theirs-18",
    "x-anonymous-consumer": "theirs-19",
    "x_consumer_id": "theirs-20",
    "x_credential-username": "theirs-21",
    "x-authenticated_groups": "theirs-22",
    "x_anonymous_consumer": "theirs-23",
    "x-request-id": "theirs-10",
    "proxy-authorization": "theirs-11",
    "baggage": "theirs=12",
    "openai-organization": "theirs-16",
    "openai-project": "theirs-17",
    "te": "trailers",
    "keep-alive": "theirs-13",
    "upgrade": "theirs-14",
    "x-hop": "theirs-15",
    "connection": "x-hop",
}
PASSED = {
    "openai-beta": "x=1",
    "user-agent": "test/1",
    "x-own": "1",
    "content-type": "application/json",
}


def test_nothing_of_the_callers_secrets_goes_on(ends: Ends) -> None:
    who = caller(ends.gateway, "open")
    lines = [f"{name}: {value}" for name, value in {**CALLERS, **PASSED}.items() if name != "apikey"]
    sent, got = ends.through(who, b'{"model":"public","messages":[1]}', *lines, "Accept-Encoding: gzip, br")
    flat = json.dumps(sent.headers)
    assert who.key not in flat and "theirs" not in flat and "trailers" not in flat
    assert sent.one("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert sent.one("accept-encoding") == "identity"
    assert sent.one("x-request-id") == got.one("x-request-id")
    assert {name: sent.one(name) for name in PASSED} == PASSED
    known = {
        "authorization",
        "accept-encoding",
        "content-length",
        "host",
        "via",
        "x-request-id",
        "x-aigw-passes",
        *PASSED,
    }
    assert {name for name, _ in sent.headers} == known


def test_an_upstream_without_a_key_gets_none(ends: Ends) -> None:
    who = caller(ends.gateway, "open")
    sent, _ = ends.through(who, b'{"model":"same","messages":[1]}')
    assert sent.all("authorization") == [] and who.key not in json.dumps(sent.headers)
    with Connection(ends.gateway.proxy) as client:
        body = b'{"model":"same","messages":[1]}'
        assert client.ask(message("POST", "/v1/chat/completions", f"apikey: {who.key}", body=body)).status == 200
    (sent,) = ends.upstream.take()
    assert sent.all("apikey") == [] and sent.all("authorization") == []


def test_the_client_gets_the_upstreams_answer_without_the_fleets_headers(ends: Ends) -> None:
    _, got = ends.through(caller(ends.gateway, "open"), b'{"model":"public","messages":[1]}')
    assert got.body.decode() == PLAIN
    assert got.one("x-theirs") == "kept"
    assert got.all("set-cookie") == [] and got.all("x-ratelimit-limit-requests") == []
    assert len(got.all("via")) == 1


def test_the_usage_that_the_gateway_asked_for_is_taken_out_again(ends: Ends) -> None:
    who = caller(ends.gateway, "open")
    _, got = ends.through(who, b'{"model":"public","stream":true,"messages":[1]}')
    assert got.body.decode() == STREAM.replace('data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', "")
    asked = b'{"model":"public","stream":true,"stream_options":{"include_usage":true},"messages":[1]}'
    _, got = ends.through(who, asked)
    assert without_bill(got.body).decode() == STREAM
