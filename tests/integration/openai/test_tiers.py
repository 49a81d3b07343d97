"""What a tier sells, on /v1 and on routes: several limits at once, by key, model and address, in shadow; moved and changed live."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from tests.support.ends import ask
from tests.support.failing import YEAR
from tests.support.load import Client, hammer, request
from tests.support.processes import AIGW, Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, grown, is_error, metric, start_configured, stats

CHAT = "/v1/chat/completions"
BODY = json.dumps(chat()).encode()
BURST = 20

TIERS: Json = {
    "open": {},
    "several": {"limits": [{"requests": 3, "per": "month"}, {"requests": 3, "per": "year"}, {"requests": 9, "per": "day"}]},
    "shadow": {"limits": [YEAR, {"requests": 2, "per": "month", "mode": "shadow"}]},
    "by-key": {"limits": [{"requests": 2, "per": "year", "scope": "credential"}]},
    "by-model": {"limits": [{"requests": 2, "per": "year", "scope": "model"}, {"requests": 3, "per": "year"}]},
    "by-ip": {"limits": [{"requests": 2, "per": "year", "scope": "ip"}]},
    "small": {"limits": [{"requests": 2, "per": "year"}]},
    "large": {"limits": [{"requests": 5, "per": "year"}]},
    "two-days": {"limits": [{"requests": 1, "per": "48h"}]},
    "none": {"limits": [{"requests": 0, "per": "day"}]},
    "thousand": {"limits": [{"requests": 1_000, "per": "day"}]},
    "bucket": {"limits": [{"requests": 1, "per": "day", "burst": BURST}]},
    "many": {
        "limits": [
            {"requests": 10, "per": "year"},
            {"requests": 8, "per": "90s"},
            {"requests": 7, "per": "day", "mode": "shadow"},
            {"requests": 6, "per": "month", "scope": "model"},
            {"requests": 1, "per": "day", "burst": 5},
            {"requests": 4, "per": "month", "scope": "ip"},
        ]
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(mock_llm: str, echo: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    model = {"upstreams": [{"url": mock_llm + "/v1"}]}
    routes = [{"name": "echo", "paths": ["/echo"]}]
    services = [{"name": "echo", "url": echo, "routes": routes, "plugins": [{"name": "key-auth"}]}]
    configuration = {"models": {"small-chat": model, "other-chat": model}, "tiers": TIERS, "services": services}
    folder = tmp_path_factory.mktemp("tiers")
    running = start_configured(folder / "data", configuration, "--drain-timeout", "1", workers=4)
    yield running
    running.process.end()


def statuses(who: Caller, times: int, model: str = "small-chat") -> list[int]:
    return [who.post(chat(model)).status_code for _ in range(times)]


def test_of_several_limits_the_one_that_resets_last_is_named(gateway: Gateway) -> None:
    who = caller(gateway, "several")
    assert statuses(who, 3) == [200] * 3
    answer = who.post(chat())
    error = is_error(answer, 429)
    facts = error["aigw"]
    assert (facts["policy"], facts["limit"], facts["used"], facts["scope"]) == ("3 requests per year", 3, 3, "consumer")
    assert (
        facts["reset_at"] - time.time() - 2 < int(answer.headers["retry-after"]) <= facts["reset_at"] - time.time() + 2
    )
    assert error["code"] == "insufficient_quota"
    assert who.used() == [3, 3, 3]  # a refused call counts nowhere


def test_a_duration_is_told_as_it_is_written(gateway: Gateway) -> None:
    who = caller(gateway, "two-days")
    assert statuses(who, 1) == [200]
    answer = who.post(chat())
    assert is_error(answer, 429)["aigw"]["policy"] == "1 requests per 48h"
    assert answer.headers["x-aigw-limit"] == "1 requests per 48h"
    routed = httpx.get(f"{gateway.proxy}/echo/get", headers={"apikey": who.key}, trust_env=False)
    assert (routed.status_code, routed.headers["x-aigw-limit"]) == (429, "1 requests per 48h")
    assert [row["per"] for row in who.limits()] == ["48h"]
    own = httpx.get(f"{gateway.proxy}/v1/limits", headers={"apikey": who.key}, trust_env=False).json()
    assert [row["per"] for row in own["data"]] == ["48h"]
    assert httpx.get(f"{gateway.admin}/tiers/two-days", trust_env=False).json()["limits"][0]["per"] == "48h"
    for words in (["tiers", "two-days"], ["tiers"], ["dump"]):
        end = subprocess.run(
            [*AIGW, *words, "--admin", gateway.admin.removeprefix("http://")],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "48h" in end.stdout and "172800" not in end.stdout, words


def test_the_tightest_limit_is_shown(gateway: Gateway) -> None:
    who = caller(gateway, "several")
    headers = who.post(chat()).headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("3", "2")


def test_an_exhausted_window_wins_over_what_the_body_has_wrong(gateway: Gateway) -> None:
    who = caller(gateway, "none")
    for body in (chat(), chat("nothing-like-it"), b"no JSON"):
        assert is_error(who.post(body), 429)["code"] == "insufficient_quota"


def test_a_shadow_limit_is_counted_and_never_refuses(gateway: Gateway) -> None:
    who = caller(gateway, "shadow")
    before = metric(gateway, "aigw_shadow_exceeded_total", tier="shadow")
    answers = [who.post(chat()) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert answers[-1].headers["x-ratelimit-limit-requests"] == "1000000"
    rows = {row["mode"]: row for row in who.limits()}
    assert (rows["enforce"]["used"], rows["shadow"]["used"], rows["shadow"]["remaining"]) == (5, 2, 0)
    assert metric(gateway, "aigw_shadow_exceeded_total", tier="shadow") == before + 3


def test_each_key_has_its_own(gateway: Gateway) -> None:
    who = caller(gateway, "by-key")
    second = Caller(gateway, who.name, who.key + "-2")
    gateway.make(f"/consumers/{who.name}/key-auth", key=second.key)
    assert statuses(who, 3) == [200, 200, 429]
    assert statuses(second, 3) == [200, 200, 429]
    assert is_error(second.post(chat()))["aigw"]["scope"] == "credential"
    assert who.used() == [2, 2]


def test_each_model_has_its_own_within_what_all_have(gateway: Gateway) -> None:
    who = caller(gateway, "by-model")
    assert statuses(who, 3) == [200, 200, 429]
    assert is_error(who.post(chat()))["aigw"]["scope"] == "model"
    assert statuses(who, 2, "other-chat") == [200, 429]
    assert is_error(who.post(chat("other-chat")))["aigw"]["scope"] == "consumer"
    by_scope = {(row["scope"], row["model"]): row["used"] for row in who.limits()}
    assert by_scope == {("model", "small-chat"): 2, ("model", "other-chat"): 1, ("consumer", None): 3}


def test_each_address_has_its_own(gateway: Gateway) -> None:
    who = caller(gateway, "by-ip")
    one = request(CHAT, who.key, BODY, "POST")

    async def from_address(address: str) -> list[int | None]:
        client = Client(gateway.proxy, address)
        found = [await client.send(one) for _ in range(3)]
        client.close()
        return found

    for address in ("127.0.0.2", "127.0.0.3"):
        assert asyncio.run(from_address(address)) == [200, 200, 429]
    assert statuses(who, 1) == [200]
    forged = {"x-forwarded-for": "127.0.0.9", "x-real-ip": "127.0.0.9"}
    assert [who.post(chat(), **forged).status_code for _ in range(2)] == [200, 429]


def test_a_tiers_limits_hold_on_routes_with_headers_that_name_them(gateway: Gateway) -> None:
    who = caller(gateway, "small")
    first = ask(gateway.proxy, "GET", "/echo/get", f"apikey: {who.key}")
    assert (first.status, first.header("x-ratelimit-remaining-year")) == (200, "1")
    assert statuses(who, 1) == [200]  # one counter for both surfaces
    for lines in ((f"apikey: {who.key}",), (f"apikey: {who.key}", "Accept: text/html")):
        refused = ask(gateway.proxy, "GET", "/echo/get", *lines)
        assert refused.status == 429
        assert refused.header("x-aigw-limit") == "2 requests per year"
        assert (refused.header("x-aigw-scope"), refused.header("x-aigw-tier")) == ("consumer", "small")
        (row,) = who.limits()
        assert refused.header("x-aigw-reset") == str(row["resets_at"])
        wait = int(refused.header("retry-after") or 0)
        assert wait > 0
        assert refused.header("x-should-retry") == ("false" if wait > 60 else None)
        assert refused.header("x-kong-request-id") == refused.header("x-request-id")
    assert who.post(chat()).headers["x-aigw-tier"] == "small"
    assert who.used() == [2]


def test_moving_a_consumer_is_instant_and_keeps_what_was_used(gateway: Gateway) -> None:
    who = caller(gateway, "small")
    assert statuses(who, 3) == [200, 200, 429]
    who.join("large")
    assert statuses(who, 4) == [200, 200, 200, 429]
    assert who.used() == [5]
    who.join("small")
    assert statuses(who, 1) == [429]
    assert who.used() == [5]
    who.join("none")
    assert statuses(who, 1) == [429]
    who.join("open")
    answer = who.post(chat())
    assert (answer.status_code, "x-ratelimit-limit-requests" in answer.headers) == (200, False)


def test_back_and_forth_a_hundred_times(gateway: Gateway) -> None:
    """The answer of the Admin API is the moment from which every worker knows."""
    who = caller(gateway, "none")
    for _ in range(50):
        assert statuses(who, 1) == [429]
        who.join("open")
        assert statuses(who, 1) == [200]
        who.join("none")


def put(gateway: Gateway, tier: str, spec: Json) -> int:
    answer = httpx.put(f"{gateway.admin}/tiers/{tier}", json=spec, trust_env=False)
    return answer.status_code


def test_a_changed_tier_is_in_force_for_the_next_request(gateway: Gateway) -> None:
    assert put(gateway, "live", {"limits": [{"requests": 1, "per": "year"}]}) == 200
    who = caller(gateway, "live")
    assert statuses(who, 2) == [200, 429]
    for most in range(2, 30):
        assert put(gateway, "live", {"limits": [{"requests": most, "per": "year"}]}) == 200
        assert statuses(who, 2) == [200, 429]
    assert put(gateway, "live", {"limits": [], "allow": {"models": ["other-*"]}}) == 200
    assert is_error(who.post(chat()), 403)["code"] == "model_not_allowed"
    assert statuses(who, 1, "other-chat") == [200]
    assert put(gateway, "live", {"limits": [{"requests": 30, "per": "year"}]}) == 200
    assert statuses(who, 2) == [200, 429]  # the amount used under the previous limit still counts


def test_a_tier_of_the_file_is_the_files(gateway: Gateway) -> None:
    assert put(gateway, "small", {"limits": []}) == 409
    who = caller(gateway, "small")
    assert statuses(who, 3) == [200, 200, 429]


def test_a_thousand_a_day_from_64_clients_on_4_workers(gateway: Gateway, mock_llm: str) -> None:
    who = caller(gateway, "thousand")
    before = stats(mock_llm)
    one = request(CHAT, who.key, BODY, "POST")
    counts = asyncio.run(hammer(gateway.proxy, lambda _: one, clients=64, requests=1_500))
    assert counts == {200: 1_000, 429: 500}
    assert grown(before, mock_llm, "requests") == [1_000]
    assert who.used() == [1_000]
    assert metric(gateway, "aigw_tier_denials_total", tier="thousand", reason="insufficient_quota") == 500
    assert metric(gateway, "aigw_model_requests_total", tier="thousand", outcome="completed") == 1_000


def test_of_a_burst_exactly_the_burst_passes_at_once(gateway: Gateway, mock_llm: str) -> None:
    who = caller(gateway, "bucket")
    before = stats(mock_llm)
    one = request(CHAT, who.key, BODY, "POST")
    counts = asyncio.run(hammer(gateway.proxy, lambda _: one, clients=64, requests=300))
    assert counts == {200: BURST, 429: 300 - BURST}
    assert grown(before, mock_llm, "requests") == [BURST]
    assert who.used() == [BURST]


def test_both_pages_of_limits_say_the_same(gateway: Gateway) -> None:
    who = caller(gateway, "many")
    for n in range(3):
        shown = who.get("/v1/limits").json()
        assert (shown["object"], shown["tier"]) == ("list", "many")
        # The two are read one after the other: a second may end between them.
        wait_until(lambda: who.get("/v1/limits").json()["data"] == who.limits(), "both say the same")
        used = {(row["per"], row["scope"], row["model"], row["mode"]): row["used"] for row in shown["data"]}
        assert used["year", "consumer", None, "enforce"] == n
        assert used["month", "model", "small-chat", "enforce"] == n
        assert statuses(who, 1) == [200]
    keyed = caller(gateway, "by-key")
    assert statuses(keyed, 1) == [200]
    (own,), (admins,) = keyed.get("/v1/limits").json()["data"], keyed.limits()
    (key,) = httpx.get(f"{gateway.admin}/consumers/{keyed.name}/key-auth", trust_env=False).json()["data"]
    assert own == admins
    assert (own["scope"], own["credential"], own["model"]) == ("credential", key["id"], None)


def test_a_duration_is_told_as_it_was_written_wherever_it_is_told(gateway: Gateway) -> None:
    for per in ("7d", "48h", "120s", "60m"):
        assert put(gateway, "weekly", {"limits": [{"requests": 1, "per": per}]}) == 200
        who = caller(gateway, "weekly")
        assert statuses(who, 1) == [200]
        assert is_error(who.post(chat()), 429)["aigw"]["policy"] == f"1 requests per {per}"
        assert [row["per"] for row in (*who.limits(), *who.get("/v1/limits").json()["data"])] == [per, per]


def test_looking_at_limits_takes_nothing(gateway: Gateway) -> None:
    who = caller(gateway, "small")
    for _ in range(5):
        assert who.get("/v1/limits").status_code == 200
        assert who.get("/v1/models").status_code == 200
    assert statuses(who, 3) == [200, 200, 429]
    assert who.get("/v1/limits").status_code == 200  # nor is it refused


def test_tokenize_counts_input_and_uses_no_limit(gateway: Gateway) -> None:
    who = caller(gateway, "none")
    asked = {"model": "small-chat", "messages": [{"role": "user", "content": "tiktoken is great!"}]}
    answer = who.post(asked, "/v1/tokenize")
    # 6 tokens of text, 1 of the role, 4 of the message and 3 of the request.
    assert (answer.status_code, answer.json()["tokens"]) == (200, 14)
    assert answer.json()["bound"] >= 14
    assert who.post({}, "/v1/tokenize").status_code == 400
    megabytes = who.post({"model": "small-chat", "input": " a" * 2_000_000}, "/v1/tokenize")
    assert (megabytes.status_code, megabytes.json()["tokens"]) == (200, 2_000_000)
    long = who.post({"model": "small-chat", "input": "x" * 4 * 1024 * 1024}, "/v1/tokenize")
    assert (long.status_code, "in parts" in long.json()["error"]["message"]) == (413, True)
    assert Caller(gateway, "nobody", "sk-unknown").post(asked, "/v1/tokenize").status_code == 401
