"""`GET /v1/usage`: a caller reads its own calls with prices, and never costs or the calls of others."""

import os
import signal
import stat
from datetime import UTC, datetime
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, is_error, start_configured

ROW = (
    "day model requests errors input_tokens cached_input_tokens cache_write_input_tokens output_tokens reasoning_tokens"
    " price_nanodollars"
)


def usage(who: Caller, query: str = "") -> Json:
    answer = who.get("/v1/usage" + query)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
    page: Json = answer.json()
    return page


def calls(who: Caller) -> int:
    return sum(row["requests"] for row in usage(who)["data"])


def test_own_calls_are_told_by_model_and_day_with_prices(books: Gateway) -> None:
    who, other = caller(books, "paying"), caller(books, "paying")
    assert usage(who) == {"object": "list", "data": [], "after": None, "before": None}
    tokens = [who.post(chat(model)).json()["usage"] for model in ("small-chat", "small-chat", "free-chat")]
    assert other.post(chat()).status_code == 200
    assert httpx.get(f"{books.proxy}/echo/get", headers={"apikey": who.key}, trust_env=False).status_code == 200
    assert who.post(chat("hidden-chat", n=-1)).status_code == 400  # no entry
    wait_until(lambda: calls(who) == 4, "the calls are in the ledger")
    rows = usage(who)["data"]
    assert {" ".join(sorted(row)) for row in rows} == {" ".join(sorted(ROW.split()))}
    by_model = {row["model"]: row for row in rows}
    assert sorted(by_model, key=str) == [None, "free-chat", "small-chat"] and len(rows) == 3
    small = by_model["small-chat"]
    assert small["requests"] == 2 and small["day"] == f"{datetime.now(UTC):%Y-%m-%d}"
    assert small["input_tokens"] == sum(one["prompt_tokens"] for one in tokens[:2])
    assert small["output_tokens"] == sum(one["completion_tokens"] for one in tokens[:2])
    assert small["price_nanodollars"] == small["input_tokens"] * 300 + small["output_tokens"] * 1200
    assert by_model[None]["price_nanodollars"] == 0
    assert "cost" not in who.get("/v1/usage").text
    assert who.used() == [4]  # reading takes nothing


def test_range_is_taken_as_dates_and_seconds(books: Gateway) -> None:
    who = caller(books, "paying")
    assert who.post(chat()).status_code == 200
    wait_until(lambda: calls(who) == 1, "the call is in the ledger")
    for query, found in (
        ("?after=2020-01-01", 1), ("?before=2020-01-01", 0), ("?after=2020-01-01&before=2099-01-01T00:00:00%2B02:00", 1),
        ("?after=1577836800", 1), ("?after=2099-01-01", 0), ("?apikey=x", 1), ("?", 1),
    ):  # fmt: skip
        assert len(usage(who, query)["data"]) == found, query
    assert usage(who, "?after=2020-01-01")["after"] == "2020-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("after=yesterday", "after"), ("before=2026-13-01", "before"), ("after=", "after"), ("after=-1", "after"),
        ("after=2026-02-01&before=2026-01-01", "before"), ("after=1&after=2", "after"), ("consumer=caller-1", "consumer"),
        ("group_by=day", "group_by"), ("model=small-chat", "model"), ("size=1", "size"), ("after=1&%00=%FF", "\x00"),
        ("after=" + "9" * 1100, None),
    ],
)  # fmt: skip
def test_wrong_query_is_refused(books: Gateway, query: str, param: str | None) -> None:
    who = caller(books, "paying")
    error = is_error(who.get(f"/v1/usage?{query}"), 400)
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_request", param)


def test_caller_is_judged_as_on_the_other_pages(books: Gateway) -> None:
    who, nobody = caller(books, "paying"), Caller(books, "nobody", "sk-unknown")
    assert is_error(nobody.get("/v1/usage"), 401)["code"] == "invalid_api_key"
    assert is_error(caller(books, None).get("/v1/usage"), 403)["code"] == "no_tier"
    refused = who.post(chat(), path="/v1/usage")
    assert is_error(refused, 405)["code"] == "unsupported_method" and refused.headers["allow"] == "GET, HEAD"
    assert is_error(who.get("/v1/usage/"), 404)["code"] == "unsupported_endpoint"
    own = {"authorization": f"Bearer {who.key}", "origin": "https://app.example"}
    for path in ("/v1/usage", "/v1/usage?x=1"):
        page = httpx.get(books.proxy + path, headers=own, trust_env=False)
        assert page.headers["access-control-allow-origin"] == "https://app.example"
    head = httpx.head(books.proxy + "/v1/usage", headers=own, trust_env=False)
    assert (head.status_code, head.content) == (200, b"")
    with_body = httpx.request("GET", books.proxy + "/v1/usage", headers=own, content=b"x" * 100_000, trust_env=False)
    assert with_body.status_code == 200 and with_body.json()["object"] == "list"
    azure = httpx.get(books.proxy + "/openai/v1/usage?api-version=1", headers={"api-key": who.key}, trust_env=False)
    assert azure.json()["object"] == "list"


def test_consumer_that_was_made_again_begins_with_nothing(books: Gateway) -> None:
    who = caller(books, "paying")
    assert who.post(chat()).status_code == 200
    wait_until(lambda: calls(who) == 1, "the call is in the ledger")
    assert httpx.delete(f"{books.admin}/consumers/{who.name}", trust_env=False).status_code == 204
    books.make("/consumers", username=who.name)
    books.make(f"/consumers/{who.name}/key-auth", key=who.key)
    who.join("paying")
    assert calls(who) == 0


def test_control_process_that_is_away_is_told_and_comes_back(mock_llm: str, tmp_path: Path) -> None:
    model = {"upstreams": [{"url": mock_llm + "/v1", "model": "mock-small"}]}
    long = tmp_path / ("d" * 120) / ("e" * 60)  # longer than a socket's path may be
    long.parent.mkdir()
    gateway = start_configured(long, {"models": {"small-chat": model}, "tiers": {"t": {}}})
    try:
        who = caller(gateway, "t")
        assert who.post(chat()).status_code == 200
        wait_until(lambda: calls(who) == 1, "the call is in the ledger")
        socket = long / "control.sock"
        assert stat.S_ISSOCK(socket.stat().st_mode) and stat.S_IMODE(socket.stat().st_mode) == 0o600
        control = gateway.children()["control"]
        os.kill(control, signal.SIGSTOP)
        refused = who.get("/v1/usage")
        assert is_error(refused, 503)["code"] == "control_unavailable" and refused.headers["retry-after"] == "1"
        assert who.post(chat()).status_code == 200, "calls go on"
        os.kill(control, signal.SIGKILL)
        wait_until(lambda: who.get("/v1/usage").status_code == 200, "the next control process answers")
        wait_until(lambda: calls(who) == 2, "both calls are in the ledger")
    finally:
        assert gateway.process.end() == 0
    assert not (long / "control.sock").exists()
