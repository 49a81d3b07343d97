"""Refusals in the ledger: as many as clients got, by caller, tier, model, reason and minute."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable

import httpx2 as httpx

from tests.support.ends import ask
from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, metric, occupy

ALL = "consumer,tier,model,reason"


def denials(gateway: Gateway, group_by: str, **query: str) -> list[Json]:
    answer = httpx.get(f"{gateway.admin}/denials", params={"group_by": group_by, **query}, trust_env=False)
    assert answer.status_code == 200, answer.text
    rows: list[Json] = answer.json()["data"]
    return rows


def counts(gateway: Gateway, **query: str) -> Counter[tuple[str | None, ...]]:
    return Counter({tuple(row["group"].values()): row["denials"] for row in denials(gateway, ALL, **query)})


def test_every_refusal_is_counted_by_caller_tier_model_and_reason(books: Gateway) -> None:
    began = int(time.time()) // 60 * 60
    expected: Counter[tuple[str | None, ...]] = Counter()

    def refused(who: Caller, tier: str | None, times: int, body: Json | None = None, model: str | None = None) -> None:
        for _ in range(times):
            answer = who.post(body or chat())
            assert answer.status_code >= 400, answer.text
            expected[who.name, tier, model, answer.json()["error"]["aigw"]["reason"]] += 1

    daily, bucket, busy, poor = (caller(books, tier) for tier in ("daily", "bucket", "one-at-once", "poor"))
    refused(daily, "daily", 3, chat("hidden-chat"), "hidden-chat")
    refused(daily, "daily", 1, chat("no-such-model"))
    for who in (daily, bucket):
        assert [who.post(chat()).status_code for _ in range(2)] == [200, 200]
    refused(daily, "daily", 4)
    refused(bucket, "bucket", 2)
    with occupy(busy):
        refused(busy, "one-at-once", 3)
    long = {**chat(), "messages": [{"role": "user", "content": "word " * 300}]}
    refused(poor, "poor", 2, long, "small-chat")
    refused(caller(books, None), None, 1)
    for _ in range(2):
        assert ask(books.proxy, "GET", "/echo/get").status == 401
    assert ask(books.proxy, "GET", "/nowhere").status == 404
    assert Caller(books, "x", "sk-unknown").post(chat()).status_code == 401
    nobody: Counter[tuple[str | None, ...]] = Counter(
        {
            (None, None, None, "no_api_key"): 2,
            (None, None, None, "no_route"): 1,
            (None, None, None, "invalid_api_key"): 1,
        }
    )
    reasons = {key[3] for key in expected}
    assert {
        "insufficient_quota",
        "rate_limited",
        "concurrency_limit_exceeded",
        "no_tier",
        "above_limit",
        "feature_not_in_tier",
    } <= reasons
    wait_until(lambda: counts(books) == expected + nobody, "every refusal is in the ledger")
    minutes = denials(books, "minute")
    assert sum(row["denials"] for row in minutes) == sum((expected + nobody).values())
    stamps = [time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(at)) for at in range(began, int(time.time()) + 1, 60)]
    assert {row["group"]["minute"] for row in minutes} <= set(stamps)
    hours, months = denials(books, "reason,hour"), denials(books, "month")
    assert sum(row["denials"] for row in hours) == months[0]["denials"] and len(months) == 1
    assert counts(books, consumer=daily.name, model="hidden-chat") == {
        (daily.name, "daily", "hidden-chat", "feature_not_in_tier"): 3
    }
    assert counts(books, tier="bucket") == {(bucket.name, "bucket", None, "rate_limited"): 2}
    # The sums by group of usage have them, too.
    usage = httpx.get(f"{books.admin}/usage?group_by=consumer", trust_env=False).json()["data"]
    by_consumer = {row["group"]["consumer"]: row["denials"] for row in usage}
    assert by_consumer[daily.name] == 8 and by_consumer[None] == 4
    assert metric(books, "aigw_ledger_denials_dropped_total") == 0


def test_killed_worker_loses_the_refusals_of_its_last_second_at_most(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway()
    gateway.make("/plugins", name="key-auth")
    gateway.route("http://127.0.0.1:9", "/s")

    def refuse(times: int) -> None:
        for _ in range(times):
            assert ask(gateway.proxy, "GET", "/s").status == 401

    def counted() -> int:
        return sum(row["denials"] for row in denials(gateway, "reason"))

    refuse(5)
    wait_until(lambda: counted() == 5, "the refusals are in the ledger")
    refuse(3)
    os.kill(gateway.children()["worker-1"], signal.SIGKILL)
    gateway.wait_event("died")
    gateway.wait_event("ready")
    refuse(2)
    wait_until(lambda: counted() >= 7, "the next worker counts on")
    assert counted() <= 10
    before = counted()
    refuse(4)
    assert gateway.process.end() == 0
    gateway = new_gateway(data=gateway.data)
    assert counted() == before + 4, "a drain loses nothing"
