"""`GET /metrics`, `aigw top` and the access log agree with the budgets of calls."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import httpx2 as httpx

from tests.integration.budgets.conftest import HEAD, PRICE, Lab, document, event
from tests.support.ends import Wire, chunk
from tests.support.processes import PATIENCE_S, wait_until
from tests.support.surface import Caller, Json, chat, metric

METERS = ("tokens", "input_tokens", "output_tokens", "spend")


def caller(lab: Lab, *limits: Json, **more: Any) -> tuple[Caller, str]:
    """A new caller and its tier."""
    one = lab.caller(limits=list(limits), price=PRICE, **more)
    return one, one.get("/v1/limits").json()["tier"]


def line(lab: Lab, request_id: str) -> Json:
    """The line of a request in the access log."""
    found: list[Json] = []

    def read() -> bool:
        text = (lab.folder / "log").read_text()
        found[:] = [one for one in map(json.loads, text.splitlines()) if one["request_id"] == request_id]
        return bool(found)

    wait_until(read, "the log has the request")
    return found[0]


def held(lab: Lab, tier: str) -> list[float]:
    """Calls in flight of the tier, and the amounts that they hold."""
    amounts = [metric(lab.gateway, "aigw_reserved_in_flight", tier=tier, meter=meter) for meter in METERS]
    return [metric(lab.gateway, "aigw_calls_in_flight", tier=tier), *amounts]


def test_counters_agree_with_a_settled_call(lab: Lab) -> None:
    one, tier = caller(lab, {"tokens": 100_000, "per": "year"}, {"spend": 1, "per": "year"})
    usage = {"prompt_tokens": 9, "completion_tokens": 20}
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": usage}))
    answer = one.post(chat(model="scripted", max_tokens=100))
    assert answer.status_code == 200, answer.text
    price = 1_000_000 + 9 * 500 + 20 * 1000
    assert sorted(one.used()) == [29, price]

    def total(name: str) -> list[float]:
        return [metric(lab.gateway, name, tier=tier, meter=meter) for meter in METERS]

    reserved, settled = total("aigw_reserved_total"), total("aigw_settled_total")
    assert settled == [29, 9, 20, price]
    assert reserved[2] == 100 and reserved[0] == reserved[1] + 100 and reserved[1] >= 9
    over = [most - used for most, used in zip(reserved, settled, strict=True)]
    assert total("aigw_over_reserved_total") == over
    assert metric(lab.gateway, "aigw_price_nanodollars_total", tier=tier, model="scripted") == price
    assert metric(lab.gateway, "aigw_overrun_total", tier=tier, model="scripted") == 0
    assert held(lab, tier) == [0, 0, 0, 0, 0]
    logged = line(lab, answer.headers["x-request-id"])
    assert (logged["input_tokens"], logged["output_tokens"], logged["price_nanodollars"]) == (9, 20, price)
    assert (logged["usage_source"], logged["overrun"]) == ("provider", False)


def test_overrun_is_counted_and_logged(lab: Lab) -> None:
    one, tier = caller(lab, {"tokens": 100_000, "per": "year"})
    usage = {"prompt_tokens": 9, "completion_tokens": 500}
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": usage}))
    answer = one.post(chat(model="scripted", max_tokens=100))
    assert one.used() == [509]
    assert metric(lab.gateway, "aigw_overrun_total", tier=tier, model="scripted") == 1
    assert line(lab, answer.headers["x-request-id"])["overrun"] is True


def test_usage_below_the_streamed_text_is_counted_and_logged(lab: Lab) -> None:
    one, tier = caller(lab, {"tokens": 100_000, "per": "year"})
    text = event({"choices": [{"index": 0, "delta": {"content": " a"}}]}) * 5
    labels = {"tier": tier, "model": "scripted"}
    for told, total in ((5, 0), (2, 1)):
        usage = event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": told}})
        lab.act = lambda wire, usage=usage: wire.send(HEAD + text + usage + b"0\r\n\r\n")
        answer = one.post(chat(model="scripted", stream=True))
        one.used()
        assert metric(lab.gateway, "aigw_understated_total", **labels) == total
        logged = line(lab, answer.headers["x-request-id"])
        assert (logged["usage_source"], logged["output_tokens"]) == ("provider", told)
        assert logged["understated"] is (total == 1)
    assert one.used() == [9 + 5 + 9 + 2]


def test_answer_without_usage_is_logged_with_its_reservation(lab: Lab) -> None:
    one, _ = caller(lab, {"tokens": 100_000, "per": "year"})
    lab.act = lambda wire: wire.send(document({"choices": []}))
    answer = one.post(chat(model="scripted", max_tokens=100))
    logged = line(lab, answer.headers["x-request-id"])
    assert (logged["usage_source"], logged["output_tokens"]) == ("reserved", 100)


def test_cut_stream_is_counted_as_such(lab: Lab) -> None:
    one, tier = caller(lab, {"tokens": 1000, "per": "year"})
    answer = one.post(chat(model="endless", stream=True))
    assert b"budget_exhausted" in answer.content and one.used() == [1000]
    labels = {"tier": tier, "model": "endless"}
    assert metric(lab.gateway, "aigw_model_requests_total", outcome="limit_cut", **labels) == 1
    assert metric(lab.gateway, "aigw_model_requests_total", outcome="completed", **labels) == 0
    assert metric(lab.gateway, "aigw_tokens_total", **labels) == 1000
    for result in ("granted", "refused"):
        assert metric(lab.gateway, "aigw_budget_extensions_total", result=result, **labels) >= 1
    logged = line(lab, answer.headers["x-request-id"])
    assert (logged["outcome"], logged["usage_source"], logged["overrun"]) == ("limit_cut", "counted", False)


def test_gauges_and_top_show_a_stream_in_flight(lab: Lab) -> None:
    go = threading.Event()

    def act(wire: Wire) -> None:
        wire.send(HEAD + event({"choices": [{"index": 0, "delta": {"content": "a"}}]}))
        assert go.wait(PATIENCE_S)
        usage = {"prompt_tokens": 9, "completion_tokens": 1}
        wire.send(event({"choices": [], "usage": usage}) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    lab.act = act
    one, tier = caller(lab, {"tokens": 100_000, "per": "year"}, {"spend": 1, "per": "year"})
    stream = threading.Thread(target=one.post, args=(chat(model="scripted", stream=True),))
    stream.start()
    try:
        assert_held(lab, one, tier)
    finally:
        go.set()
        stream.join()
    wait_until(lambda: held(lab, tier) == [0, 0, 0, 0, 0], "nothing is held")


def assert_held(lab: Lab, one: Caller, tier: str) -> None:
    """Metrics, standing and `aigw top` agree about the one stream in flight."""
    wait_until(lambda: held(lab, tier)[0] == 1, "the call is in flight")
    _, tokens, input_tokens, output_tokens, spend = held(lab, tier)
    assert (tokens, output_tokens) == (input_tokens + 256, 256)
    assert spend == 1_000_000 + input_tokens * 500 + 256 * 1000
    assert {row["meter"]: row["reserved"] for row in one.limits()} == {"tokens": tokens, "spend": spend}
    top = ["top", "--once", "--every", "0.1", "--output", "json", "--admin", lab.gateway.admin.removeprefix("http://")]
    shown = subprocess.run([sys.executable, "-m", "aigw", *top], capture_output=True, text=True, timeout=60, check=True)
    (row,) = [row for row in json.loads(shown.stdout)["tiers"] if row["tier"] == tier]
    assert (row["in_flight"], row["reserved_tokens"], row["reserved_spend_nanodollars"]) == (1, tokens, spend)


def test_call_near_the_boundary_is_timed(lab: Lab) -> None:
    one, _ = caller(lab, {"tokens": 100_000, "per": "year"}, prompt={"max_tokens": 50})
    before = metric(lab.gateway, "aigw_tokenize_seconds_count")
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}))
    assert one.post(chat(model="scripted", messages=[{"role": "user", "content": "a " * 30}])).status_code == 200
    assert metric(lab.gateway, "aigw_tokenize_seconds_count") == before + 1


def test_killed_worker_leaves_nothing_in_the_gauges(lab: Lab) -> None:
    go = threading.Event()

    def act(wire: Wire) -> None:
        wire.send(HEAD + event({"choices": [{"index": 0, "delta": {"content": "a"}}]}))
        go.wait(PATIENCE_S)

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):
            one.post(chat(model="scripted", stream=True))

    lab.act = act
    one, tier = caller(lab, {"tokens": 100_000, "per": "year"})
    stream = threading.Thread(target=ask)
    stream.start()
    try:
        wait_until(lambda: held(lab, tier)[0] == 1, "the call is in flight")
        for worker in httpx.get(lab.gateway.admin + "/status", trust_env=False).json()["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: held(lab, tier) == [0, 0, 0, 0, 0], "nothing is held")
        assert one.used()[0] >= 1, "the call was sent"
    finally:
        go.set()
        stream.join()
