"""Streams of models: known by the asking, read in every dialect, kept alive by both sides, bounded in their silence.

The upstream's bytes are the test's own. Nothing waits for a time: the upstream sends on when the client has seen the bytes before.
"""

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.ends import Upstream, Wire, chunk, connect, message, parse, read_to_end, read_until
from tests.support.failing import YEAR
from tests.support.processes import PATIENCE_S, Gateway, wait_until
from tests.support.surface import Caller, Json, caller, metric, start_configured, without_bill

DIALECTS = {file.stem: file for file in sorted((Path(__file__).parents[2] / "golden" / "usage").glob("*.json"))}
CLASSES = ("input", "cached_input", "cache_write_input", "output", "reasoning")
TEXT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"usage":null}\n\n'
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"
PLAIN = b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
PING = b": ping\n\n"


def head(media: str | None = "text/event-stream") -> bytes:
    named = f"Content-Type: {media}\r\n" if media else ""
    return f"HTTP/1.1 200 OK\r\n{named}Transfer-Encoding: chunked\r\n\r\n".encode()


@dataclass
class Lab:
    """A gateway and one upstream; `act` is the upstream's answer to the next calls."""

    gateway: Gateway
    act: Callable[[Wire], None] = lambda wire: None
    callers: dict[str, Caller] = field(default_factory=dict)

    def caller(self, tier: str) -> Caller:
        if tier not in self.callers:
            self.callers[tier] = caller(self.gateway, tier)
        return self.callers[tier]

    def request(self, model: str, tier: str = "free", path: str = "/v1/chat/completions", **more: Any) -> bytes:
        body: Json = {"model": model, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", **more}
        return message("POST", path, self.caller(tier).bearer, body=json.dumps(body).encode())

    def tokens(self, model: str) -> list[float]:
        """The tokens of each class that the model's calls used."""
        return [metric(self.gateway, "aigw_tokens_total", model=model, **{"class": name}) for name in CLASSES]

    def outcome(self, model: str, outcome: str) -> float:
        return metric(self.gateway, "aigw_model_requests_total", model=model, outcome=outcome)


@contextlib.contextmanager
def running(folder: Path, *arguments: str, loop: str = "inline") -> Iterator[Lab]:
    """A lab whose exchanges are stepped by this loop."""
    made: list[Lab] = []

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            made[0].act(wire)

    with Upstream(script) as upstream:
        target: Json = {"upstreams": [{"url": upstream.url + "/v1"}]}
        names = ["m", "label", "document", "mislabelled", "broken", "beats", "blanks"]
        models: Json = dict.fromkeys([*names, *DIALECTS], target)
        models |= {
            "pinged": {**target, "stream_ping": "1s"},
            "cut": {**target, "timeouts": {"between": "1s"}},
            "patient": {**target, "timeouts": {"between": "1m"}},
            "pinged-cut": {**target, "stream_ping": "1s", "timeouts": {"between": "2500ms"}},
        }
        tiers: Json = {"free": {"limits": [YEAR]}, "hasty": {"limits": [YEAR], "timeouts": {"between": "1s"}}}
        configuration = {"models": models, "tiers": tiers}
        gateway = start_configured(folder / "data", configuration, *arguments, env={"AIGW_LOOP": loop})
        made.append(Lab(gateway))
        yield made[0]
        gateway.process.end()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("inline"), "--drain-timeout", "1") as made:
        yield made


@pytest.fixture(scope="module")
def stock_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("stock"), "--drain-timeout", "1", loop="stock") as made:
        yield made


@pytest.fixture(params=["lab", "stock_lab"])
def either(request: pytest.FixtureRequest) -> Lab:
    """Each way to step an exchange."""
    found: Lab = request.getfixturevalue(request.param)
    return found


def ask(lab: Lab, request: bytes) -> tuple[bytes, bytes, bool]:
    """The head and body of the answer to one request, and whether it came whole."""
    with connect(lab.gateway.proxy) as client:
        client.sendall(request)
        answer = parse("POST", read_to_end(client))
    return answer.head, answer.body, answer.whole


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "media", ["text/event-stream", "text/plain; charset=utf-8", "application/octet-stream", "application/json", None]
)
def test_events_are_events_under_any_type(lab: Lab, media: str | None, path: str) -> None:
    def act(wire: Wire) -> None:
        wire.send(head(media) + chunk(TEXT) + chunk(USAGE[:40]) + chunk(USAGE[40:] + DONE) + b"0\r\n\r\n")

    lab.act = act
    before = lab.tokens("label")
    told, body, whole = ask(lab, lab.request("label", path=path, stream=True))
    assert (body, whole) == (TEXT.replace(b',"usage":null', b"") + DONE, True)
    assert b"text/event-stream" in told
    wished = lab.request("label", path=path, stream=True, stream_options={"include_usage": True})
    _, body, whole = ask(lab, wished)
    assert (without_bill(body), whole) == (TEXT + USAGE + DONE, True)
    assert [now - then for now, then in zip(lab.tokens("label"), before, strict=True)] == [18, 0, 0, 6, 0]


@pytest.mark.parametrize("stream", [True, False])
def test_a_document_under_the_type_of_events_is_counted(lab: Lab, stream: bool) -> None:
    lab.act = lambda wire: wire.send(head() + chunk(b"\n " + PLAIN[:20]) + chunk(PLAIN[20:]) + b"0\r\n\r\n")
    before, completed = lab.tokens("mislabelled"), lab.outcome("mislabelled", "completed")
    assert ask(lab, lab.request("mislabelled", stream=stream))[1:] == (b"\n " + PLAIN, True)
    assert [now - then for now, then in zip(lab.tokens("mislabelled"), before, strict=True)] == [9, 0, 0, 3, 0]
    assert lab.outcome("mislabelled", "completed") == completed + 1


@pytest.mark.parametrize("media", ["text/event-stream", None])
def test_an_event_that_the_end_of_its_connection_cuts_is_a_break(lab: Lab, media: str | None) -> None:
    """The end of the connection is the only mark of the answer's end; inside an event that end breaks the stream off."""
    begun = head(media).replace(b"Transfer-Encoding: chunked", b"Connection: close")

    def act(wire: Wire) -> None:
        wire.send(begun + TEXT + TEXT[:40])
        wire.socket.shutdown(socket.SHUT_WR)

    lab.act = act
    before = lab.outcome("broken", "upstream_cut")
    _, body, whole = ask(lab, lab.request("broken", stream=True))
    assert not whole and body.count(b'"code":"upstream_error"') == 1 and body.startswith(b"data: ")
    assert lab.outcome("broken", "upstream_cut") == before + 1


@pytest.mark.parametrize("media", ["application/json", "text/plain", None])
@pytest.mark.parametrize("stream", [True, False])
def test_a_document_stays_a_document(lab: Lab, media: str | None, stream: bool) -> None:
    lab.act = lambda wire: wire.send(head(media) + chunk(b"\n " + PLAIN[:20]) + chunk(PLAIN[20:]) + b"0\r\n\r\n")
    before = lab.tokens("document")
    told, body, whole = ask(lab, lab.request("document", stream=stream))
    assert (body, whole, b"text/event-stream" in told) == (b"\n " + PLAIN, True, False)
    assert [now - then for now, then in zip(lab.tokens("document"), before, strict=True)] == [9, 0, 0, 3, 0]


@pytest.mark.parametrize("media", ["text/plain", "application/octet-stream", None])
@pytest.mark.parametrize("sent", [b"", b"\n", TEXT, TEXT[:30]])
def test_events_that_break_off_end_with_an_error_under_any_type(lab: Lab, media: str | None, sent: bytes) -> None:
    told = threading.Event()

    def act(wire: Wire) -> None:
        wire.send(head(media) + (chunk(sent) if sent else b""))
        told.wait(PATIENCE_S)  # the client has the head: only then is a break one of the stream
        wire.reset()

    lab.act = act
    with connect(lab.gateway.proxy) as client:
        client.sendall(lab.request("broken", stream=True))
        got = read_until(client, b"\r\n\r\n")
        told.set()
        answer = parse("POST", got + read_to_end(client))
    assert not answer.whole
    last = answer.body.rpartition(b"data: ")[2]
    assert json.loads(last)["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("beat", [b": ping\n", b"\n", b": keep-alive\r\n", b": a\n: b\n"])
@pytest.mark.parametrize("media", ["text/event-stream", "text/plain"])
def test_heartbeats_of_a_stream_pass_at_once(lab: Lab, beat: bytes, media: str) -> None:
    go_on = threading.Semaphore(0)
    # A comment may stand behind the gateway's own usage, too; a blank line there is that event's end.
    own = [USAGE[:-1], beat] if beat.startswith(b":") else [USAGE[:-1]]
    pieces = [beat, TEXT[:-1], beat, b"\n" + beat, *own]

    def act(wire: Wire) -> None:
        wire.send(head(media))
        for piece in pieces:
            wire.send(chunk(piece))
            assert go_on.acquire(timeout=PATIENCE_S)
        wire.send(chunk(b"\n" + DONE) + b"0\r\n\r\n")

    lab.act = act
    wanted = [piece.replace(b',"usage":null', b"") for piece in pieces if piece != USAGE[:-1]]
    with connect(lab.gateway.proxy) as client:
        client.sendall(lab.request("beats", stream=True))
        got = b""
        for piece in pieces:
            if piece != USAGE[:-1]:
                got += read_until(client, b"\r\n" + piece.replace(b',"usage":null', b"") + b"\r\n")
            go_on.release()
        answer = parse("POST", got + read_to_end(client))
    assert (answer.body, answer.whole) == (b"".join(wanted) + DONE, True)


def test_heartbeats_of_a_plain_answer_pass_at_once(either: Lab) -> None:
    go_on = threading.Semaphore(0)

    def act(wire: Wire) -> None:
        wire.send(head("application/json"))
        for _ in range(3):
            wire.send(chunk(b"\n"))
            go_on.acquire(timeout=PATIENCE_S)
        wire.send(chunk(PLAIN) + b"0\r\n\r\n")

    either.act = act
    for stream in (False, True):
        before = either.tokens("blanks")
        with connect(either.gateway.proxy) as client:
            client.sendall(either.request("blanks", stream=stream))
            got = b""
            for _ in range(3):
                got += read_until(client, b"1\r\n\n\r\n")
                go_on.release()
            answer = parse("POST", got + read_to_end(client))
        assert (answer.body, answer.whole) == (b"\n\n\n" + PLAIN, True)
        assert [now - then for now, then in zip(either.tokens("blanks"), before, strict=True)] == [9, 0, 0, 3, 0]


@pytest.mark.parametrize("model", ["cut", "m"])
@pytest.mark.parametrize("stream", [True, False])
def test_silence_beyond_its_bound_ends_a_call(either: Lab, model: str, stream: bool) -> None:
    """The bound of the model, and of the tier."""

    def act(wire: Wire) -> None:
        wire.send(head() + chunk(TEXT) if stream else head("application/json") + chunk(b"\n" + PLAIN[:9]))
        wire.wait_closed()

    either.act = act
    told, body, whole = ask(either, either.request(model, "free" if model == "cut" else "hasty", stream=stream))
    if stream:
        assert b" 200 " in told and not whole
        assert json.loads(body.rpartition(b"data: ")[2])["error"]["code"] == "upstream_timeout"
    else:  # nothing of it was passed on
        assert b" 504 " in told


def test_silence_within_its_bound_passes(lab: Lab) -> None:
    def act(wire: Wire) -> None:
        wire.send(head() + chunk(TEXT))
        wire.socket.settimeout(3)
        assert not wire.wait_closed(), "the call is cut within the bound of its silence"
        wire.socket.settimeout(PATIENCE_S)
        wire.send(chunk(DONE) + b"0\r\n\r\n")

    lab.act = act
    assert ask(lab, lab.request("patient", stream=True))[1:] == (TEXT.replace(b',"usage":null', b"") + DONE, True)


def test_a_silent_upstreams_client_gets_comments_between_events(either: Lab) -> None:
    go_on = threading.Semaphore(0)

    def act(wire: Wire) -> None:
        wire.send(head())
        for piece in (b"", TEXT[:-1], b"\n"):
            if piece:
                wire.send(chunk(piece))
            go_on.acquire(timeout=PATIENCE_S)
        wire.send(chunk(USAGE + DONE) + b"0\r\n\r\n")

    either.act = act
    text = TEXT.replace(b',"usage":null', b"")
    before = either.tokens("pinged")
    with connect(either.gateway.proxy) as client:
        client.sendall(either.request("pinged", stream=True))
        got = read_until(client, PING) + read_until(client, PING)
        go_on.release()
        got += read_until(client, text[:-1])
        client.settimeout(2.5)  # longer than two comments take: an event is under way
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(PATIENCE_S)
        go_on.release()
        got += read_until(client, PING)
        go_on.release()
        answer = parse("POST", got + read_to_end(client))
    assert answer.whole and answer.body.replace(PING, b"") == text + DONE
    assert answer.body.startswith(PING + PING) and PING in answer.body[answer.body.index(text) :]
    assert [now - then for now, then in zip(either.tokens("pinged"), before, strict=True)] == [9, 0, 0, 3, 0]


def test_comments_do_not_lengthen_the_bound_of_silence(lab: Lab) -> None:
    def act(wire: Wire) -> None:
        wire.send(head() + chunk(TEXT))
        wire.wait_closed()

    lab.act = act
    _, body, whole = ask(lab, lab.request("pinged-cut", stream=True))
    assert not whole and body.count(PING) == 2
    assert json.loads(body.rpartition(b"data: ")[2])["error"]["code"] == "upstream_timeout"


def test_a_plain_answer_gets_no_comments(lab: Lab) -> None:
    def act(wire: Wire) -> None:
        wire.send(head("application/json") + chunk(b"\n"))
        wire.socket.settimeout(2.5)
        wire.wait_closed()
        wire.socket.settimeout(PATIENCE_S)
        wire.send(chunk(PLAIN) + b"0\r\n\r\n")

    lab.act = act
    for stream in (False, True):
        assert ask(lab, lab.request("pinged", stream=stream))[1:] == (b"\n" + PLAIN, True)


def test_a_drain_lets_a_silent_stream_have_its_comments_and_its_end(tmp_path: Path) -> None:
    go_on = threading.Event()

    def act(wire: Wire) -> None:
        wire.send(head() + chunk(TEXT))
        assert go_on.wait(PATIENCE_S)
        wire.send(chunk(USAGE + DONE) + b"0\r\n\r\n")

    with running(tmp_path, "--drain-timeout", str(PATIENCE_S)) as lab, connect(lab.gateway.proxy) as client:
        lab.act = act
        client.sendall(lab.request("pinged", stream=True))
        got = read_until(client, PING)
        lab.gateway.process.popen.send_signal(signal.SIGTERM)
        lab.gateway.wait_event("draining")
        got += read_until(client, PING)
        go_on.set()
        answer = parse("POST", got + read_to_end(client))
        assert answer.whole and answer.body.replace(PING, b"") == TEXT.replace(b',"usage":null', b"") + DONE
        assert lab.gateway.process.end() == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_usage_of_a_dialect_is_counted(lab: Lab, dialect: str) -> None:
    told = json.loads(DIALECTS[dialect].read_text())
    plain = json.dumps(told["plain"]).encode()
    events = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in told["events"]) + DONE
    wanted = [told["classes"][name] for name in CLASSES]
    lab.act = lambda wire: wire.send(head("application/json") + chunk(plain) + b"0\r\n\r\n")
    assert ask(lab, lab.request(dialect))[1:] == (plain, True)
    assert lab.tokens(dialect) == wanted
    lab.act = lambda wire: wire.send(head() + chunk(events[:100]) + chunk(events[100:]) + b"0\r\n\r\n")
    wished = lab.request(dialect, stream=True, stream_options={"include_usage": True})
    _, body, whole = ask(lab, wished)
    assert (without_bill(body), whole) == (events, True)
    _, body, whole = ask(lab, lab.request(dialect, stream=True))
    chunks = [json.loads(event[6:]) for event in body.removesuffix(DONE).split(b"\n\n") if event]
    assert whole and not any("usage" in one for one in chunks)
    assert all(one["choices"] or "usage" not in sent for one, sent in zip(chunks, told["events"], strict=False))
    wait_until(lambda: lab.tokens(dialect) == [3 * count for count in wanted], "all three calls are counted")


def test_nothing_failed_inside(lab: Lab, stock_lab: Lab) -> None:
    assert metric(lab.gateway, "aigw_panics_total") == 0
    assert metric(stock_lab.gateway, "aigw_panics_total") == 0
