"""Several upstreams of one model: shares by weight, and who is asked when one of them cannot or will not answer."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.ends import Upstream, Wire, connect, message, parse, read_to_end
from tests.support.failing import YEAR, after_reading
from tests.support.load import hammer, request
from tests.support.processes import Gateway, start_upstream
from tests.support.surface import Caller, Json, caller, chat, is_error, metric, start_configured, stats

CHAT = "/v1/chat/completions"

Script = Callable[[Wire], None]


def says(status: int, body: bytes, *lines: bytes) -> Script:
    """An upstream that answers everything so."""

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            head = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n" % (status, len(body))
            wire.send(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body)

    return script


PIECE = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


def breaks_off(wire: Wire) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.send(head + b"%x\r\n%s\r\n" % (len(PIECE), PIECE))


def cut_short(wire: Wire) -> None:
    """A plain answer that stops after a while: longer than an answer that may be a stream is held back."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.send(head + b"10\r\n" + b'{"object":"chat.' + b"\r\n")
    time.sleep(0.4)


GOOD = says(200, b'{"object":"chat.completion","choices":[]}')
SPARE = says(200, b"spare")
SECOND = b'{"error":{"message":"second","type":"server_error","param":null,"code":"busy"}}'
HASTY: Json = {"limits": [YEAR], "timeouts": {"first_byte": "500ms"}}
SILENT = "silent"  # bound, not listening: refuses connections
HOLE = "hole"  # its queue is full: whoever connects hears nothing
MOCK = "mock"
NOWHERE = "http://no-such-host.invalid"
REFUSALS = (401, 402, 403, 408, 429, 500, 502, 503, 504, 529)
ERRORS = {400: 1, 404: 1, 413: 1, 422: 1, 501: 0}
"""Statuses that are passed on, and the count of such a call."""
UNANSWERED: dict[str, Script] = {
    "closed": after_reading(lambda wire: None),
    "reset": after_reading(lambda wire: wire.reset()),
    "garbage": after_reading(lambda wire: wire.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")),
    "document-cut-short": after_reading(cut_short),
}


def torn(wire: Wire) -> None:
    """A refusal that breaks off."""
    wire.send(b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\nhalf")


def endless(wire: Wire) -> None:
    """A refusal without an end."""
    wire.send(b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    wire.wait_closed()


# The models: their upstreams, each with its weight.
MODELS: dict[str, list[tuple[int, Script | str]]] = {
    "shared": [(3, MOCK), (1, MOCK)],
    "refused": [(1000, SILENT), (1, GOOD)],
    "nowhere": [(1, NOWHERE), (0, GOOD)],
    "all-busy": [(1, says(503, b"first")), (0, says(503, SECOND, b"Retry-After: 9", b"X-Theirs: yes"))],
    "busy-and-gone": [(1, says(429, b"mine")), (0, SILENT)],
    "all-gone": [(1, SILENT), (1, SILENT)],
    "silence-and-good": [(1, HOLE), (0, GOOD)],
    "silence": [(1, HOLE)],
    "busy-at-length": [(1, says(503, b"x" * 200_000)), (0, GOOD)],
    "torn": [(1, after_reading(torn)), (0, GOOD)],
    "endless": [(1, after_reading(endless)), (0, GOOD)],
    "too-long": [(1, says(500, b"x" * 2_000_000)), (0, GOOD)],
    "torn-and-gone": [(1, after_reading(torn)), (0, SILENT)],
    "busy-and-torn": [(1, says(429, b"mine", b"Retry-After: 3")), (0, after_reading(torn))],
    "key-and-error": [(1, says(401, b"our key")), (0, says(500, b"broken"))],
    "error-and-key": [(1, says(500, b"broken")), (0, says(401, b"our key"))],
    "key-and-gone": [(1, says(403, b"our key")), (0, SILENT)],
    "busy-and-reset": [(1, says(429, b"mine")), (0, after_reading(lambda wire: wire.reset()))],
    "busy-and-wrong": [(1, says(429, b"mine")), (0, says(400, b"wrong"))],
    "breaks-off": [(1, after_reading(breaks_off)), (0, GOOD)],
    "spare": [(1, GOOD), (0, SPARE)],
}
MODELS |= {f"busy-{s}": [(1, says(s, b'{"error":{"message":"busy"}}', b"Retry-After: 7")), (0, GOOD)] for s in REFUSALS}
MODELS |= {f"error-{s}": [(1, says(s, b"mine")), (0, GOOD)] for s in ERRORS}
MODELS |= {what: [(1, script), (0, GOOD)] for what, script in UNANSWERED.items()}
MODELS |= {"own-list": [(1, says(404, b"mine")), (0, GOOD)], "own-list-503": [(1, says(503, b"mine")), (0, GOOD)]}
MODELS |= {"not-on-connect": [(1, SILENT), (0, GOOD)]}
OWN_LISTS = {"own-list": [404], "own-list-503": ["connect", 404], "not-on-connect": [503]}
"""`failover_on` of models that have their own."""


@dataclass(frozen=True)
class Fleet:
    """A gateway with all of these models, and the upstreams of each."""

    gateway: Gateway
    scripts: dict[str, list[Upstream]]
    mocks: list[str]

    def asked(self, model: str) -> list[int]:
        """How often each of the model's upstreams that is a script was asked."""
        return [len(upstream.requests) for upstream in self.scripts[model]]

    def failovers(self) -> float:
        return metric(self.gateway, "aigw_upstream_failovers_total")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    scripts: dict[str, list[Upstream]] = {model: [] for model in MODELS}
    mocks: list[str] = []
    with ExitStack() as stack:

        def url(model: str, end: Script | str) -> str:
            if end == MOCK:
                process, mock = start_upstream("mock-llm", "--chunks", "1")
                stack.callback(process.end)
                mocks.append(mock)
                return mock
            if end == SILENT:
                silent = stack.enter_context(socket.socket())
                silent.bind(("127.0.0.1", 0))
                return f"http://127.0.0.1:{silent.getsockname()[1]}"
            if end == HOLE:
                hole = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
                for _ in range(4):
                    waiting = stack.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex(hole.getsockname())
                return f"http://127.0.0.1:{hole.getsockname()[1]}"
            if isinstance(end, str):
                return end
            upstream = stack.enter_context(Upstream(end))
            scripts[model].append(upstream)
            return upstream.url

        def places(model: str) -> list[Json]:
            return [{"url": url(model, end) + "/v1", "weight": weight} for weight, end in MODELS[model]]

        models: Json = {model: {"upstreams": places(model)} for model in MODELS}
        for model, own in OWN_LISTS.items():
            models[model]["failover_on"] = own
        configuration: Json = {"models": models, "tiers": {"all": {"limits": [YEAR]}, "hasty": HASTY}}
        folder = tmp_path_factory.mktemp("fleet")
        gateway = start_configured(folder / "data", configuration, "--drain-timeout", "1")
        stack.callback(gateway.process.end)
        yield Fleet(gateway, scripts, mocks)


@pytest.fixture
def who(fleet: Fleet) -> Caller:
    return caller(fleet.gateway, "all")


def hammered(who: Caller, model: str, clients: int, requests: int) -> dict[int | None, int]:
    one = request(CHAT, who.key, json.dumps(chat(model)).encode(), "POST")
    return asyncio.run(hammer(who.gateway.proxy, lambda _: one, clients=clients, requests=requests))


def used(who: Caller) -> int:
    (count,) = who.used()
    return count


def test_calls_are_shared_by_weight(fleet: Fleet, who: Caller) -> None:
    """3:1 over 2,000 calls: six standard deviations on either side of 1,500 (one run in 500 million is outside)."""
    before = fleet.failovers()
    assert hammered(who, "shared", clients=16, requests=2_000) == {200: 2_000}
    first, second = (stats(url)["requests"] for url in fleet.mocks)
    assert first + second == 2_000
    assert 1_384 <= first <= 1_616
    assert (used(who), fleet.failovers()) == (2_000, before)


def test_a_refused_connection_costs_no_call(fleet: Fleet, who: Caller) -> None:
    before = fleet.failovers()
    assert hammered(who, "refused", clients=8, requests=200) == {200: 200}
    assert fleet.asked("refused") == [200]
    assert used(who) == 200
    assert fleet.failovers() > before + 150


def test_a_name_without_an_address_costs_no_call(fleet: Fleet, who: Caller) -> None:
    assert [who.post(chat("nowhere")).status_code for _ in range(3)] == [200] * 3
    assert (fleet.asked("nowhere"), used(who)) == ([3], 3)


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_is_asked_of_the_next(fleet: Fleet, who: Caller, status: int) -> None:
    before = fleet.failovers()
    model = f"busy-{status}"
    answers = [who.post(chat(model)) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert all("retry-after" not in answer.headers for answer in answers)
    assert fleet.asked(model) == [5, 5]
    (first, second) = (upstream.requests[0] for upstream in fleet.scripts[model])
    assert first[1] == second[1]
    assert (used(who), fleet.failovers()) == (5, before + 5)  # each counts once, however many were asked


def test_a_models_own_list_decides_after_which_failures_the_next_is_asked(fleet: Fleet, who: Caller) -> None:
    assert who.post(chat("own-list")).status_code == 200
    answer = who.post(chat("own-list-503"))
    assert (answer.status_code, answer.content) == (503, b"mine")
    assert is_error(who.post(chat("not-on-connect")), 502)["aigw"]["reason"] == "upstream_refused"
    assert (fleet.asked("own-list"), fleet.asked("own-list-503"), fleet.asked("not-on-connect")) == (
        [1, 1],
        [1, 0],
        [0],
    )
    assert used(who) == 1


@pytest.mark.parametrize("status", ERRORS)
def test_other_errors_are_answers(fleet: Fleet, who: Caller, status: int) -> None:
    answer = who.post(chat(f"error-{status}"))
    assert (answer.status_code, answer.content) == (status, b"mine")
    assert (fleet.asked(f"error-{status}"), used(who)) == ([1, 0], ERRORS[status])


def test_where_all_refuse_the_last_ones_own_answer_is_passed_on(fleet: Fleet, who: Caller) -> None:
    answer = who.post(chat("all-busy"))
    assert (answer.status_code, answer.content) == (503, SECOND)
    assert (answer.headers["retry-after"], answer.headers["x-theirs"]) == ("9", "yes")
    assert answer.headers["x-ratelimit-remaining-requests"] == str(YEAR["requests"])
    assert (fleet.asked("all-busy"), used(who)) == ([1, 1], 0)


def test_a_refusal_says_more_than_an_upstream_that_is_not_there(who: Caller) -> None:
    answer = who.post(chat("busy-and-gone"))
    assert (answer.status_code, answer.content, used(who)) == (429, b"mine", 0)


@pytest.mark.parametrize("model", ["torn", "endless", "too-long"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_without_end_does_not_block_the_next(fleet: Fleet, who: Caller, model: str, stream: bool) -> None:
    before = fleet.asked(model)
    assert who.post(chat(model, stream=stream)).status_code == 200
    assert [after - n for after, n in zip(fleet.asked(model), before, strict=True)] == [1, 1]
    assert used(who) == 1


MIXED: dict[str, tuple[int, bytes, int]] = {
    # The last whole refusal is passed on, whatever an upstream without one did after it.
    "busy-and-torn": (429, b"mine", 0),
    "key-and-error": (500, b"broken", 0),
    "error-and-key": (500, b"broken", 0),
    "busy-and-wrong": (400, b"wrong", 1),
    # Without a whole refusal the gateway's own words say most.
    "torn-and-gone": (502, b"upstream_reset", 0),
    "key-and-gone": (502, b"upstream_refused", 0),
    # A call that may have been acted on is told as such.
    "busy-and-reset": (502, b"upstream_reset", 0),
}


@pytest.mark.parametrize("model", MIXED)
def test_the_most_useful_of_several_failures_is_told(fleet: Fleet, who: Caller, model: str) -> None:
    status, body, count = MIXED[model]
    answer = who.post(chat(model))
    assert (answer.status_code, body in answer.content) == (status, True), answer.text
    assert b"our key" not in answer.content
    assert used(who) == count
    assert ("retry-after" in answer.headers) == (model == "busy-and-torn")


def test_length_of_a_refusal_does_not_matter(fleet: Fleet, who: Caller) -> None:
    assert who.post(chat("busy-at-length")).status_code == 200
    assert (fleet.asked("busy-at-length"), used(who)) == ([1, 1], 1)


def test_where_none_can_be_reached_it_is_told(who: Caller) -> None:
    assert is_error(who.post(chat("all-gone")), 502)["code"] == "upstream_error"
    assert used(who) == 0


@pytest.mark.parametrize("model", ["silence", "silence-and-good"])
def test_who_waits_briefly_for_an_answer_waits_no_longer_for_a_connection(fleet: Fleet, model: str) -> None:
    hasty = caller(fleet.gateway, "hasty")
    began = time.monotonic()
    answer = hasty.post(chat(model))
    assert time.monotonic() - began < 9  # left to itself a connect takes ten seconds
    if model == "silence":
        assert is_error(answer, 504)["aigw"]["reason"] == "upstream_connect_timeout"
        assert "x-should-retry" not in answer.headers  # nothing was sent
    else:
        assert answer.status_code == 200
    assert used(hasty) == (0 if model == "silence" else 1)


@pytest.mark.parametrize("what", UNANSWERED)
def test_a_request_that_may_have_been_acted_on_is_not_sent_again(fleet: Fleet, who: Caller, what: str) -> None:
    before = fleet.failovers()
    answer = who.post(chat(what))
    assert is_error(answer, 502)["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "false"
    assert (fleet.asked(what), used(who), fleet.failovers()) == ([1, 0], 0, before)


def test_an_answer_that_breaks_off_is_not_asked_of_another(fleet: Fleet, who: Caller) -> None:
    with connect(who.gateway.proxy) as client:
        body = json.dumps(chat("breaks-off", stream=True)).encode()
        client.sendall(message("POST", CHAT, who.bearer, body=body))
        answer = parse("POST", read_to_end(client))
    assert (answer.status, answer.whole) == (200, False)
    assert answer.body.startswith(PIECE) and b'"error"' in answer.body
    assert (fleet.asked("breaks-off"), used(who)) == ([1, 0], 1)


def test_no_weight_is_asked_only_where_the_others_fail(fleet: Fleet, who: Caller) -> None:
    assert hammered(who, "spare", clients=8, requests=200) == {200: 200}
    assert fleet.asked("spare") == [200, 0]
    fleet.scripts["spare"][0].__exit__()  # its port refuses, its connections are closed
    answers = [who.post(chat("spare")) for _ in range(20)]
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"spare")}
    assert fleet.asked("spare") == [200, 20]
