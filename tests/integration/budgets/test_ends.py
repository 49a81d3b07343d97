"""Every end of a call settles its budgets: clients that leave, upstreams that die, workers that are killed. Nothing stays reserved."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.integration.budgets.conftest import HEAD, PRICE, Lab, document, event, logged, measured, running
from tests.support.ends import Wire, connect, header, message, read_to_end
from tests.support.processes import PATIENCE_S, wait_until
from tests.support.surface import Caller, Json, chat, is_error

HI = 9
"""Tokens of the input of `chat()`, by the model's vocabulary."""
AMPLE = 13
"""The bound of the same by its bytes, where a budget is ample."""
TEXT = event({"choices": [{"index": 0, "delta": {"content": " a"}}]})
LIMITS = [{"tokens": 10_000, "per": "year"}, {"spend": 10, "per": "year"}]


def request(one: Caller, body: Json) -> bytes:
    return message("POST", "/v1/chat/completions", one.bearer, body=json.dumps(body).encode())


def amounts(one: Caller) -> dict[str, tuple[int, int]]:
    """Used and reserved amount by meter."""
    return {row["meter"]: (row["used"], row["reserved"]) for row in one.limits()}


def entries(lab: Lab, one: Caller) -> list[Json]:
    """The caller's entries in the ledger, when the first is there."""
    found: list[Json] = []

    def is_there() -> bool:
        url = f"{lab.gateway.admin}/usage/events"
        found[:] = httpx.get(url, params={"consumer": one.name}, trust_env=False).json()["data"]
        return bool(found)

    wait_until(is_there, "the call is in the ledger")
    return found


def spend(tokens: int, output: int) -> int:
    return 1_000_000 + 500 * (tokens - output) + 1000 * output


class Streaming:
    """An upstream that sends so many chunks, and then does this with its connection."""

    def __init__(self, lab: Lab, chunks: int, *, reset: bool = False) -> None:
        self.over = threading.Event()

        def act(wire: Wire) -> None:
            wire.send(HEAD + TEXT * chunks)
            if reset:
                wire.reset()
            elif wire.wait_closed():
                self.over.set()

        lab.act = act


def test_client_that_leaves_pays_for_the_tokens_so_far(lab: Lab) -> None:
    upstream, one = Streaming(lab, 300), lab.caller(limits=LIMITS, price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("scripted", stream=True)))
        got = b""
        while got.count(b'" a"') < 300:
            got += client.recv(65536)
        held = amounts(one)
        # 300 tokens passed: the first 256 and another 256 are held.
        assert held["tokens"] == (0, AMPLE + 512) and held["spend"] == (0, spend(AMPLE + 512, 512))
    assert upstream.over.wait(PATIENCE_S), "the upstream call is cancelled"
    assert sorted(one.used()) == [HI + 300, spend(HI + 300, 300)]
    line = logged(lab.gateway, str(header(got.partition(b"\r\n\r\n")[0], "x-request-id")))
    assert (line["outcome"], line["usage_source"]) == ("client_cut", "counted")
    assert (line["input_tokens"], line["output_tokens"]) == (HI, 300)
    assert line["price_nanodollars"] == spend(HI + 300, 300)


def test_stream_holds_no_more_than_its_output_cap(lab: Lab) -> None:
    Streaming(lab, 30)
    one = lab.caller(limits=LIMITS, price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("scripted", stream=True, max_tokens=40)))
        got = b""
        while got.count(b'" a"') < 30:
            got += client.recv(65536)
        held = amounts(one)
        assert held == {"tokens": (0, AMPLE + 40), "spend": (0, spend(AMPLE + 40, 40))}
    assert sorted(one.used()) == [HI + 30, spend(HI + 30, 30)]


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_before_an_answer(lab: Lab, stream: bool) -> None:
    came = threading.Event()

    def act(wire: Wire) -> None:
        came.set()
        wire.wait_closed()

    lab.act = act
    one = lab.caller(limits=LIMITS, price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("scripted", stream=stream, max_tokens=50)))
        assert came.wait(PATIENCE_S)
    wait_until(lambda: amounts(one)["tokens"][1] == 0, "the call is settled")
    # A stream tells its tokens as they are made. A plain answer may be made whole by then.
    assert amounts(one)["tokens"] == ((HI, 0) if stream else (AMPLE + 50, 0))


def test_client_that_leaves_a_plain_call_of_a_tier_without_budgets_pays_its_input_and_its_cap(lab: Lab) -> None:
    asked, over = threading.Event(), threading.Event()

    def act(wire: Wire) -> None:
        asked.set()
        if wire.wait_closed():
            over.set()

    lab.act, one = act, lab.caller(limits=[], price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("scripted", max_tokens=50)))
        assert asked.wait(PATIENCE_S)
    assert over.wait(PATIENCE_S), "the upstream call is cancelled"
    (entry,) = entries(lab, one)
    assert (entry["outcome"], entry["usage_source"]) == ("client_cut", "reserved")
    assert (entry["input_tokens"], entry["output_tokens"]) == (HI, 50)
    assert entry["price_nanodollars"] == spend(HI + 50, 50)


@pytest.mark.parametrize("body", [{"error": {"message": "no"}}, b""], ids=["error", "empty"])
def test_answer_that_costs_no_tokens_says_so_in_its_headers(lab: Lab, body: Json | bytes) -> None:
    lab.act, one = lambda wire: wire.send(document(body)), lab.caller(limits=LIMITS, price=PRICE)
    answer = one.post(chat("scripted", max_tokens=50))
    (entry,) = entries(lab, one)
    assert (entry["price_nanodollars"], entry["output_tokens"]) == (spend(0, 0), 0)
    assert answer.headers.get("x-aigw-price", "0.001") == "0.001"
    assert "output=50" not in answer.headers.get("x-aigw-tokens", "")


def test_upstream_that_breaks_off_in_a_plain_answer_is_not_paid(lab: Lab) -> None:
    lab.act = lambda wire: wire.send(document({"choices": []})[:-3])
    one = lab.caller(limits=LIMITS, price=PRICE)
    answer = one.post(chat("scripted", max_tokens=50))
    (entry,) = entries(lab, one)
    assert answer.status_code == entry["status"] == 502
    assert (entry["outcome"], entry["price_nanodollars"], entry["output_tokens"]) == ("upstream_error", 0, 0)
    assert sorted(one.used()) == [0, 0]


def test_largest_usage_is_one_number_everywhere(lab: Lab) -> None:
    usage = {"prompt_tokens": 2**40, "completion_tokens": 5}
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": usage}))
    one = lab.caller(limits=LIMITS, price=PRICE)
    answer = one.post(chat("scripted", max_tokens=50))
    (entry,) = entries(lab, one)
    price = entry["price_nanodollars"]
    assert price == 2**48 - 1
    assert round(float(answer.headers["x-aigw-price"]) * 1e9) == price
    assert sorted(one.used()) == [2**40 + 5, price] and amounts(one)["spend"] == (price, 0)


def test_upstream_that_dies_in_a_stream_is_paid_for_the_tokens_so_far(lab: Lab) -> None:
    Streaming(lab, 40, reset=True)
    one = lab.caller(limits=LIMITS, price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("scripted", stream=True)))
        got = read_to_end(client)
    passed = got.count(b'" a"')
    assert b"[DONE]" not in got and b"upstream_error" in got
    assert sorted(one.used()) == [HI + passed, spend(HI + passed, passed)]
    line = logged(lab.gateway, str(header(got.partition(b"\r\n\r\n")[0], "x-request-id")))
    assert (line["outcome"], line["output_tokens"]) == ("upstream_cut", passed)


def test_cut_at_the_boundary_is_logged_as_it_is_told(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 400, "per": "year"}, {"spend": 10, "per": "year"}], price=PRICE)
    answer = one.post(chat("endless", stream=True, stream_options={"include_usage": True}))
    *_, last, usage, done = answer.content.strip().split(b"\n\n")
    assert done == b"data: [DONE]"
    told, bill = (json.loads(part.removeprefix(b"data: ")) for part in (last, usage))
    passed = 400 - HI
    facts = told["aigw"]
    assert {name: facts[name] for name in ("code", "meter", "per", "scope", "limit", "left")} == {
        "code": "budget_exhausted",
        "meter": "tokens",
        "per": "year",
        "scope": "consumer",
        "limit": 400,
        "left": 0,
    }
    assert facts["policy"] == "400 tokens per year" and facts["policy"] in facts["message"] and facts["reset_at"] > 0
    assert bill["usage"] == {"prompt_tokens": HI, "completion_tokens": passed, "total_tokens": 400}
    line = logged(lab.gateway, answer.headers["x-request-id"])
    assert bill["aigw"]["price_nanodollars"] == line["price_nanodollars"] == spend(400, passed)
    assert bill["aigw"]["tokens"]["output"] == line["output_tokens"] == passed
    assert (line["outcome"], line["usage_source"], line["input_tokens"]) == ("limit_cut", "counted", HI)
    assert sorted(one.used()) == [400, spend(400, passed)]


def test_refusal_that_calls_in_flight_cause_asks_for_a_short_wait(lab: Lab) -> None:
    came, go = threading.Event(), threading.Event()

    def act(wire: Wire) -> None:
        came.set()
        assert go.wait(PATIENCE_S)
        wire.send(document({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}))

    lab.act = act
    for limit in ({"tokens": 100, "per": "year"}, {"spend": 0.0012, "per": "month"}):
        came.clear(), go.clear()
        one = lab.caller(limits=[limit], price=PRICE)
        call = threading.Thread(target=one.post, args=(chat("scripted"),))
        call.start()
        assert came.wait(PATIENCE_S)
        refused = one.post(chat("scripted", max_tokens=5))
        error = is_error(refused, 429)
        assert error["code"] == "rate_limit_exceeded" and error["aigw"]["retryable"]
        assert "calls in flight hold" in error["message"]
        assert error["aigw"]["used"] == 0 and error["aigw"]["reserved"] > 0
        assert "x-should-retry" not in refused.headers
        assert 500 <= int(refused.headers["retry-after-ms"]) <= 1000
        assert refused.headers["retry-after"] == "1"
        go.set()
        call.join()
        wait_until(lambda one=one: one.limits()[0]["reserved"] == 0, "the call is settled")
        assert one.post(chat("scripted", max_tokens=5)).status_code == (200 if "tokens" in limit else 429)
    # The spend budget has 0.2 thousandths left, less than one request costs: now the use itself refuses.
    spent = one.post(chat("scripted", max_tokens=5))
    assert is_error(spent, 429)["code"] == "insufficient_quota"
    assert spent.headers["x-should-retry"] == "false" and int(spent.headers["retry-after"]) > 1


@pytest.fixture(scope="module")
def four(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A gateway of four workers."""
    with running(tmp_path_factory.mktemp("four"), mock_llm, workers=4) as made:
        yield made


def test_refusal_that_a_call_of_another_worker_causes_asks_for_a_short_wait(four: Lab) -> None:
    """32 connections reach all four workers, except in one run of 2,500. Three of them do not hold the call."""
    came, go = threading.Event(), threading.Event()

    def act(wire: Wire) -> None:
        came.set()
        assert go.wait(PATIENCE_S)
        wire.send(document({"choices": [], "usage": {"prompt_tokens": HI, "completion_tokens": 85}}))

    four.act = act
    one = four.caller(limits=[{"tokens": 100, "per": "year"}])
    call = threading.Thread(target=one.post, args=(chat("scripted"),))
    call.start()
    assert came.wait(PATIENCE_S)
    for _ in range(32):
        refused = one.post(chat("scripted", max_tokens=5))
        error = is_error(refused, 429)
        assert error["code"] == "rate_limit_exceeded" and "calls in flight hold" in error["message"]
        assert (error["aigw"]["used"], error["aigw"]["reserved"], error["aigw"]["retryable"]) == (0, 100, True)
        assert 500 <= int(refused.headers["retry-after-ms"]) <= 1000 and "x-should-retry" not in refused.headers
    go.set()
    call.join()
    wait_until(lambda: one.limits()[0]["reserved"] == 0, "the call is settled")
    # 6 tokens are left, fewer than the input has: now the use itself refuses.
    for _ in range(32):
        spent = one.post(chat("scripted", max_tokens=5))
        error = is_error(spent, 429)
        assert error["code"] == "insufficient_quota" and error["aigw"]["used"] == HI + 85
        assert "reserved" not in error["aigw"] and spent.headers["x-should-retry"] == "false"
        assert int(spent.headers["retry-after"]) > 1


class Crash:
    """A gateway of its own, whose one worker is killed."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def kill(self) -> None:
        gateway = self.lab.gateway
        killed = gateway.children()["worker-1"]
        os.kill(killed, signal.SIGKILL)
        gateway.wait_event("slots_reclaimed")
        # Only the worker after it accepts the next test's calls.
        wait_until(lambda: gateway.children()["worker-1"] != killed, "the next worker is ready")


@pytest.fixture(scope="module")
def crash(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crash]:
    folder: Path = tmp_path_factory.mktemp("crash")
    with running(folder, mock_llm, "--access-log", str(folder / "log")) as made:
        yield Crash(made)


def test_killed_worker_settles_a_stream_to_its_progress(crash: Crash) -> None:
    lab = crash.lab
    Streaming(lab, 300)
    one = lab.caller(limits=LIMITS, price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("scripted", stream=True)))
        got = b""
        while got.count(b'" a"') < 300:
            got += client.recv(65536)
        crash.kill()
    found = amounts(one)
    assert found == {"tokens": (AMPLE + 300, 0), "spend": (spend(AMPLE + 300, 300), 0)}


def test_killed_worker_settles_a_stream_that_needed_its_count_to_the_counted_input(crash: Crash) -> None:
    lab = crash.lab
    messages = [{"role": "user", "content": "several " * 300}]
    body = chat("scripted-endless", stream=True, max_tokens=10, messages=messages)
    exact, bound = measured(lab.caller(limits=[]), body)
    passed = bound + 20 - exact
    Streaming(lab, passed)
    one = lab.caller(limits=[{"tokens": bound + 25, "per": "year"}])
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, body))
        got = b""
        while got.count(b'" a"') < passed:
            got += client.recv(65536)
        crash.kill()
    assert amounts(one) == {"tokens": (exact + passed, 0)}


def test_killed_worker_keeps_the_reservation_of_a_plain_call(crash: Crash) -> None:
    came, lab = threading.Event(), crash.lab

    def act(wire: Wire) -> None:
        came.set()
        wire.wait_closed()

    lab.act = act
    one = lab.caller(limits=LIMITS, price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("scripted", max_tokens=50)))
        assert came.wait(PATIENCE_S)
        crash.kill()
    assert amounts(one) == {"tokens": (AMPLE + 50, 0), "spend": (spend(AMPLE + 50, 50), 0)}


def test_killed_worker_gives_back_a_call_that_was_not_sent(crash: Crash) -> None:
    """The upstream takes the connection and never finishes the handshake of TLS."""
    lab = crash.lab
    one = lab.caller(limits=LIMITS, price=PRICE)
    with connect(lab.gateway.proxy) as client:
        client.sendall(request(one, chat("silent-tls", max_tokens=50)))
        wait_until(lambda: amounts(one)["tokens"][1] == AMPLE + 50, "the call has its permit")
        crash.kill()
    assert amounts(one) == {"tokens": (0, 0), "spend": (0, 0)}
