"""Bursts of tokens: reserved before the call, settled by its usage, refilled steadily, and waited for by OpenAI's own client."""

import httpx2 as httpx
from openai import OpenAI

from tests.integration.budgets.conftest import Lab, document
from tests.support.processes import wait_until
from tests.support.surface import Caller, Json, chat, is_error

HI = 9
"""Tokens of the input of `chat()`."""


def answers(lab: Lab, **usage: int) -> None:
    lab.act = lambda wire: wire.send(document({"choices": [], "usage": usage}))


def row(one: Caller) -> Json:
    (found,) = one.limits()
    return found


def test_unused_part_of_a_reservation_goes_back_to_the_bucket(lab: Lab) -> None:
    # A token comes back in 20 min: the test sees no refill.
    one = lab.caller(limits=[{"tokens": 72, "per": "day", "burst": 1000}])
    answers(lab, prompt_tokens=8, completion_tokens=2)
    answer = one.post(chat("scripted", max_tokens=900))
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
    assert lab.sent()["max_tokens"] == 900
    wait_until(lambda: (row(one)["used"], row(one)["reserved"]) == (10, 0), "the call is settled")
    assert (row(one)["meter"], row(one)["limit"], row(one)["remaining"]) == ("tokens", 1000, 990)


def test_cap_above_the_burst_is_lowered_to_it(lab: Lab) -> None:
    one = lab.caller(limits=[{"output_tokens": 72, "per": "day", "burst": 50}])
    answers(lab, prompt_tokens=8, completion_tokens=2)
    assert one.post(chat("scripted", max_tokens=900)).status_code == 200
    assert lab.sent()["max_tokens"] == 50


def test_call_waits_for_its_whole_amount_and_overrun_lengthens_the_wait(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 10, "per": "second", "burst": 200}])
    answers(lab, prompt_tokens=8, completion_tokens=392)
    assert one.post(chat("scripted", max_tokens=100)).status_code == 200
    wait_until(lambda: row(one)["used"] > 300, "the call is settled")
    refused = one.post(chat("scripted", max_tokens=100 - HI))
    error = is_error(refused, 429)
    assert error["code"] == "rate_limit_exceeded"
    # 400 are used and 100 more are wanted of 200: 300 come back at ten a second.
    assert 20_000 < int(refused.headers["retry-after-ms"]) < 38_500
    assert "x-should-retry" not in refused.headers
    assert refused.headers["x-aigw-limit"] == "10 tokens per second (burst 200)"


def test_prompt_larger_than_the_burst_is_never_asked_again(lab: Lab) -> None:
    one = lab.caller(limits=[{"input_tokens": 10, "per": "second", "burst": HI}])
    answers(lab, prompt_tokens=8, completion_tokens=2)
    assert one.post(chat("scripted", max_tokens=5)).status_code == 200
    long = [{"role": "user", "content": "many more words than fit"}]
    refused = one.post(chat("scripted", messages=long, max_tokens=5))
    is_error(refused, 429)
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after-ms" not in refused.headers


def test_openai_client_waits_for_the_bucket_and_succeeds(lab: Lab) -> None:
    one = lab.caller(limits=[{"tokens": 100, "per": "second", "burst": 100}])
    answers(lab, prompt_tokens=HI, completion_tokens=91)
    made: list[httpx.Request] = []
    with httpx.Client(event_hooks={"request": [made.append]}, trust_env=False) as http:
        api = OpenAI(api_key=one.key, base_url=f"{lab.gateway.proxy}/v1", http_client=http)  # type: ignore[arg-type]
        for _ in range(2):
            api.chat.completions.create(
                model="scripted", messages=[{"role": "user", "content": "hi"}], max_tokens=100 - HI
            )
    assert 3 <= len(made) <= 4, "the second call comes back once, or twice if the first was settled late"
