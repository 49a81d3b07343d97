"""Prices above a length, of audio and by service tier on the real path: bills, limits, entries, versions and re-rating agree."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway, start_upstream, wait_until
from tests.support.surface import Caller, Json, caller, chat, events, metric, occupy, start_configured

COST: Json = {
    "input": 1, "output": 2, "cached_input": 0.5, "audio_input": 40, "request": 0.000001,
    "above": {"tokens": 100, "input": 3, "output": 4}, "service_tiers": {"flex": 0.5, "priority": 2.5},
}  # fmt: skip
PRICE: Json = {"input": 10, "output": 20, "request": 0.0001, "audio_input": 30, "above": {"tokens": 100, "output": 30},
               "service_tiers": {"flex": 0.5, "priority": 2}}  # fmt: skip


@pytest.fixture(scope="module")
def priced(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    audio, audio_url = start_upstream("mock-llm", "--audio-tokens", "1", "--chunks", "3")
    slow, slow_url = start_upstream("mock-llm", "--chunk-ms", "20", "--chunks", "100000")

    def model(url: str, **more: Any) -> Json:
        return {"upstreams": [{"url": url + "/v1", "model": "mock-small"}], "max_output_tokens": 4096, **more}

    models = {
        "small-chat": model(mock_llm, cost=COST),
        "audio-chat": model(audio_url, cost=COST),
        "slow-chat": model(slow_url, cost=COST),
        "uncosted": model(mock_llm),
    }
    limits = [{"spend": 100, "per": "year"}, {"tokens": 10_000_000, "per": "year"}]
    tiers = {"paying": {"limits": limits, "price": PRICE}, "free": {}}
    data = tmp_path_factory.mktemp("prices") / "data"
    gateway = start_configured(data, {"models": models, "tiers": tiers}, "--drain-timeout", "1", workers=1)
    yield gateway
    for process in (gateway.process, audio, slow):
        process.end()


def entries(one: Caller, count: int) -> list[Json]:
    """The caller's entries, once there are so many."""
    found: list[Json] = []

    def whole() -> bool:
        answer = httpx.get(f"{one.gateway.admin}/usage/events?consumer={one.name}", trust_env=False)
        assert answer.status_code == 200, answer.text
        found[:] = answer.json()["data"]
        return len(found) >= count

    wait_until(whole, f"{count} entries are in the ledger")
    return found


def versions(gateway: Gateway, **query: str) -> list[Json]:
    answer = httpx.get(f"{gateway.admin}/prices", params=query, trust_env=False)
    assert answer.status_code == 200, answer.text
    rows: list[Json] = answer.json()["data"]
    return rows


def rerated(gateway: Gateway, file: Path, *words: str) -> list[Json]:
    """`aigw usage --rerate`, asked of the gateway and of its folder: both say the same."""
    tool = [sys.executable, "-m", "aigw", "usage", "--rerate", str(file), "--output", "json", *words]
    texts = []
    for of in (("--admin", gateway.admin.removeprefix("http://")), ("--data", str(gateway.data))):
        done = subprocess.run([*tool, *of], capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    rows: list[Json] = json.loads(texts[0])
    return rows


def test_a_call_is_billed_by_the_service_tier_that_answered(priced: Gateway) -> None:
    one = caller(priced, "paying")
    bills = []
    for service in (None, "flex", "priority", "turbo"):
        answer = one.post(chat(max_tokens=5) | ({"service_tier": service} if service else {}))
        assert answer.status_code == 200, answer.text
        bills.append(round(float(answer.headers["x-aigw-price"]) * 1e9))
        prompt = answer.json()["usage"]["prompt_tokens"]
    whole = prompt * 10_000 + 5 * 20_000 + 100_000
    assert bills == [whole, whole // 2, whole * 2, whole]
    found = entries(one, 4)
    assert [e["price_nanodollars"] for e in found] == bills
    assert [e["service_tier"] for e in found] == [None, "flex", "priority", None]
    cost = prompt * 1000 + 5 * 2000 + 1000
    assert [e["cost_nanodollars"] for e in found] == [cost, -(-cost // 2), cost * 5 // 2, cost]
    assert one.used()[0] == sum(bills)


def test_a_long_input_and_audio_have_their_own_prices(priced: Gateway) -> None:
    one = caller(priced, "paying")
    words = " ".join(["word"] * 300)
    usage = one.post(chat(messages=[{"role": "user", "content": words}], max_tokens=2)).json()["usage"]
    assert usage["prompt_tokens"] > 100
    one.post(chat("audio-chat"))
    long, audio = entries(one, 2)
    assert long["price_nanodollars"] == usage["prompt_tokens"] * 10_000 + 2 * 30_000 + 100_000
    assert long["cost_nanodollars"] == usage["prompt_tokens"] * 3000 + 2 * 4000 + 1000
    text = audio["input_tokens"] - 1
    assert audio["audio_input_tokens"] == 1
    assert audio["price_nanodollars"] == text * 10_000 + 30_000 + 3 * 20_000 + 100_000
    assert audio["cost_nanodollars"] == text * 1000 + 40_000 + 3 * 2000 + 1000


def test_a_stream_tells_the_price_that_its_entry_has(priced: Gateway) -> None:
    one = caller(priced, "paying")
    body = chat(stream=True, stream_options={"include_usage": True}, max_tokens=7, service_tier="priority")
    told = [event for event in events(one.post(body).content) if isinstance(event, dict) and "aigw" in event]
    (entry,) = entries(one, 1)
    assert told[0]["aigw"]["price_nanodollars"] == entry["price_nanodollars"] == one.used()[0]
    assert (entry["service_tier"], entry["stream"]) == ("priority", True)


def test_a_spend_limit_reserves_the_dearest_that_can_apply(priced: Gateway) -> None:
    one = caller(priced, "paying")
    with occupy(one):
        (row,) = [limit for limit in one.limits() if limit["meter"] == "spend"]
        # Twice, for `priority`; 30 USD for audio of the input, 20 for the output.
        assert row["reserved"] >= 2 * (256 * 20_000 + 30_000 + 100_000)
    wait_until(lambda: one.limits()[0]["reserved"] == 0, "the stream is settled")


def test_calls_of_a_model_without_a_cost_have_none_and_are_counted(priced: Gateway) -> None:
    one = caller(priced, "free")
    before = metric(priced, "aigw_unpriced_total", tier="free", model="uncosted")
    one.post(chat("uncosted"))
    one.post(chat("small-chat"))
    found = entries(one, 2)
    assert [e["cost_nanodollars"] is None for e in found] == [True, False]
    assert (found[0]["cost_version"], found[1]["price_version"]) == (None, None)
    assert metric(priced, "aigw_unpriced_total", tier="free", model="uncosted") == before + 1
    assert metric(priced, "aigw_unpriced_total", model="small-chat") == 0


def test_the_file_in_force_prices_every_entry_as_it_was_recorded(priced: Gateway) -> None:
    """Plain, streamed, cut by the client, and left by a worker that was killed."""
    one = caller(priced, "paying")
    one.post(chat(service_tier="flex"))
    with occupy(one):
        pass
    entries(one, 2)
    with occupy(one):
        spent = one.limits()[0]["used"]
        os.kill(next(pid for name, pid in priced.children().items() if name != "control"), signal.SIGKILL)
        crashed = entries(one, 3)[2]
    assert (crashed["outcome"], one.used()[0] - spent) == ("crashed", crashed["price_nanodollars"])
    file = priced.data.with_suffix(".yaml")
    for row in rerated(priced, file, "--group-by", "consumer", "model"):
        assert row["price_difference_nanodollars"] == row["cost_difference_nanodollars"] == row["kept"] == 0, row
    other = file.with_name("other.yaml")
    tier = {
        "price": {
            **PRICE,
            "input": 20,
            "request": 0.0002,
            "output": 40,
            "above": {"tokens": 100, "output": 60},
            "audio_input": 60,
        }
    }
    other.write_text(json.dumps({"models": {}, "tiers": {"paying": tier, "free": {}}}))
    for row in rerated(priced, other, "--group-by", "tier", "--consumer", one.name):
        assert row["rerated_price_nanodollars"] == 2 * row["price_nanodollars"], row
        assert row["rerated_cost_nanodollars"] == row["cost_nanodollars"] and row["kept"] == row["requests"] == 3


def test_versions_have_a_history_and_the_ids_of_entries(priced: Gateway) -> None:
    def put(**spec: Any) -> None:
        answer = httpx.put(f"{priced.admin}/tiers/moving", json=spec, trust_env=False)
        assert answer.status_code == 200, answer.text

    put(price={"input": 1})
    one = caller(priced, "moving")
    one.post(chat())
    put(price={"input": 1, "output": 5})
    one.post(chat())
    put(price={"input": 1.0, "cached_input": 1, "output": 5.0})
    put()
    one.post(chat())
    first, second = versions(priced, tier="moving")
    assert [e["price_version"] for e in entries(one, 3)] == [first["id"], second["id"], None]
    assert (first["body"], second["body"]) == (
        {"input": 1, "output": 0, "request": 0},
        {"input": 1, "output": 5, "request": 0},
    )
    assert first["valid_until"] == second["valid_from"] < second["valid_until"]
    admitted = [e["admitted_at"] for e in entries(one, 3)]
    assert (
        first["valid_from"]
        <= admitted[0]
        <= second["valid_from"]
        <= admitted[1]
        <= second["valid_until"]
        <= admitted[2]
    )
    (cost,) = versions(priced, model="small-chat")
    assert (cost["kind"], cost["body"], cost["valid_until"]) == ("cost", COST, None)
    assert cost["id"] == entries(one, 3)[0]["cost_version"]
    assert [row["owner"] for row in versions(priced, kind="price", at=admitted[1])] == ["paying", "moving"]
    page = httpx.get(f"{priced.admin}/prices?size=2", trust_env=False).json()
    rest = httpx.get(priced.admin + page["next"], trust_env=False).json()
    assert len(page["data"]) == 2 and page["data"] + rest["data"] == versions(priced)[:4]
    refused = httpx.get(f"{priced.admin}/prices?consumer=a", trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (400, 11)
    for form in ("table", "json", "jsonl", "csv"):
        tool = [
            sys.executable,
            "-m",
            "aigw",
            "prices",
            "--tier",
            "moving",
            "--admin",
            priced.admin[7:],
            "--output",
            form,
        ]
        shown = subprocess.run(tool, capture_output=True, check=True, text=True).stdout
        assert first["id"] in shown and second["id"] in shown
