"""`/usage`, `/usage/events` and `/denials`: Kong's paging and errors over the ledger, with the names of the entities of now."""

import re
from typing import Any

import pytest

from conftest import Gateway
from ledgers import NOON, entry


@pytest.fixture
def used(gateway: Gateway) -> Gateway:
    """A consumer of a tier with six calls of two models, a call of a route, and three refusals."""
    models = "".join(f"  {name}: {{upstreams: [{{url: 'http://10.0.0.1:9100/v1'}}]}}\n" for name in ("large", "small"))
    text = f"models:\n{models}tiers: {{free: {{}}}}\nconsumers: [{{username: alice, tier: free}}]\n"
    gateway.call("POST", "/config", content=text, headers={"content-type": "text/yaml"})
    gateway.post("/services", name="echo", url="http://127.0.0.1:5000")
    gateway.post("/services/echo/routes", name="echo-route", paths=["/echo"])
    assert gateway.control is not None
    numbers = gateway.control.publication.row_numbers.calls.known
    upstream = next(n for (_, key), n in numbers.items() if key.endswith("10.0.0.1:9100/small"))
    names = {m.entity.name: m.n for m in gateway.control.publication.world.models.values()}
    for n in range(6):
        model = names[("small", "large")[n % 2]]
        gateway.segments.append(
            entry(at=NOON + n, credential=0, model=model, upstream=upstream + 1, input=n, request_id=bytes([n]) * 16)
        )
    gateway.segments.append(
        entry(at=NOON + 9, credential=0, tier=0, model=0, upstream=0, route=1, service=1, cost=0, price=0)
    )
    gateway.segments.append((NOON, 1, 1, names["small"], 0, 3))
    gateway.control.ledger.compactor.round()
    return gateway


def test_events_are_paged_as_kong_does(used: Gateway) -> None:
    first = used.call("GET", "/usage/events?size=3&consumer=alice&tier=free")
    assert [e["input_tokens"] for e in first["data"]] == [0, 1, 2]
    assert re.fullmatch(r"/usage/events\?size=3&consumer=alice&tier=free&offset=[\w-]+", first["next"])
    assert first["offset"] in first["next"]
    second = used.call("GET", first["next"])
    assert ([e["input_tokens"] for e in second["data"]], second["next"]) == ([3, 4, 5], None)
    again = used.call("GET", f"/usage/events?consumer=alice&tier=free&offset={second['offset']}")
    assert (again["data"], again["next"]) == ([], None)
    assert used.control is not None
    used.segments.append(entry(input=77, credential=0))
    used.control.ledger.compactor.round()
    polled = used.call("GET", f"/usage/events?consumer=alice&tier=free&offset={again['offset']}")
    assert [e["input_tokens"] for e in polled["data"]] == [77]


def test_events_have_the_names_of_entities(used: Gateway) -> None:
    *calls, kong = used.call("GET", "/usage/events")["data"]
    assert {(e["consumer"], e["tier"], e["upstream"]) for e in calls} == {("alice", "free", "10.0.0.1:9100/small")}
    assert [e["model"] for e in calls] == ["small", "large"] * 3
    assert (kong["model"], kong["route"], kong["upstream"], kong["tier"]) == (
        None,
        "echo-route",
        "127.0.0.1:5000",
        None,
    )


def test_one_request_has_its_event(used: Gateway) -> None:
    found = used.call("GET", f"/usage/events/{'02' * 16}")
    assert (found["input_tokens"], found["model"], "attempts" in found) == (2, "small", False)
    for unknown in ("ff" * 16, "02", "x", "02" * 17):
        assert used.call("GET", f"/usage/events/{unknown}", 404) == {"message": "Not found"}


def test_usage_is_summed_by_group(used: Gateway) -> None:
    rows = used.call("GET", "/usage?group_by=consumer,model,day")["data"]
    assert [(r["group"]["model"], r["requests"], r["denials"]) for r in rows] == [
        (None, 1, 0),
        ("large", 3, 0),
        ("small", 3, 3),
    ]
    assert rows[2]["group"] == {"consumer": "alice", "model": "small", "day": "2026-09-21"}
    (total,) = used.call("GET", f"/usage?after={NOON}&before={NOON + 3}&consumer=alice")["data"]
    assert total == {
        "group": {}, "requests": 3, "errors": 0, "input_tokens": 3, "cached_input_tokens": 0, "cache_write_input_tokens": 0,
        "output_tokens": 15, "reasoning_tokens": 0, "cost_nanodollars": 900, "price_nanodollars": 2100, "unpriced": 0,
        "overruns": 0, "denials": 3,
    }  # fmt: skip


def test_denials_are_summed_by_group(used: Gateway) -> None:
    found = used.call("GET", "/denials?group_by=tier,reason,hour")["data"]
    assert found == [{"group": {"tier": "free", "reason": "no_api_key", "hour": "2026-09-21T12:00:00Z"}, "denials": 3}]


@pytest.mark.parametrize(
    ("path", "code", "field", "words"),
    [
        ("/usage/events?size=0", 9, "size", "size must be an integer between 1 and 1000"),
        ("/usage/events?size=1001", 9, "size", "size must be an integer between 1 and 1000"),
        ("/usage/events?offset=zzz", 7, "offset", "is not an offset"),
        ("/usage?offset=zzz", 11, "offset", "unknown parameter"),
        ("/usage/events?after=noon", 11, "after", "invalid option (after: 'noon' is no time"),
        ("/usage/events?group_by=day", 11, "group_by", "unknown parameter"),
        ("/usage?group_by=colour", 11, "group_by", "'colour' is no group: expected some of: consumer, credential"),
        ("/usage?group_by=day,hour", 11, "group_by", "expected one of: minute, hour, day, month"),
        ("/usage?size=5", 11, "size", "unknown parameter"),
        ("/denials?group_by=route", 11, "group_by", "'route' is no group"),
        ("/denials?before=2026-02-30", 11, "before", "is no time"),
    ],
)
def test_a_wrong_query_is_refused_in_kongs_form(gateway: Gateway, path: str, code: int, field: str, words: str) -> None:
    answer: dict[str, Any] = gateway.call("GET", path, 400)
    assert (answer["code"], list(answer["fields"])) == (code, [field]) and words in answer["message"]


def test_an_offset_of_another_query_is_refused(used: Gateway) -> None:
    offset = used.call("GET", "/usage/events?size=2")["offset"]
    answer = used.call("GET", f"/usage/events?size=2&consumer=alice&offset={offset}", 400)
    assert answer["name"] == "invalid offset" and "other filters" in answer["fields"]["offset"]


def test_an_offset_of_a_ledger_that_is_another_one_now_is_refused(used: Gateway) -> None:
    offset = used.call("GET", "/usage/events?size=6")["offset"]
    assert used.control is not None
    with used.control.ledger.store.writing() as connection:
        connection.exec_driver_sql("UPDATE events SET request_id = x'00' WHERE n = 6")
    answer = used.call("GET", f"/usage/events?offset={offset}", 400)
    assert (answer["code"], answer["name"], list(answer["fields"])) == (7, "invalid offset", ["offset"])
    assert "restored from a backup" in answer["message"] and "after set to the time of the restore" in answer["message"]


@pytest.mark.parametrize("path", ["/usage?", "/usage/events?", "/denials?", "/usage?group_by=hour&", "/prices?at"])
def test_times_of_any_year_have_an_answer(used: Gateway, path: str) -> None:
    for at in ("9999-12-31", "9999-12-31T23:59:59.999Z", "2262-04-12", "0001-01-01", "253402300799"):
        for name in ("=",) if path.endswith("at") else ("before=", "after="):
            used.call("GET", f"{path}{name}{at}")
    if not path.endswith("at"):
        assert used.call("GET", f"{path}before=9999-12-31")["data"] == used.call("GET", path[:-1])["data"]


def test_answers_have_notes(used: Gateway) -> None:
    for path in ("/usage", "/usage/events", "/denials"):
        assert used.call("GET", path)["notes"] == []
        assert used.call("GET", f"{path}?consumer=alcie")["notes"] == [
            "the ledger has no call and no refusal of a consumer 'alcie': check the name"
        ]


def test_status_and_metrics_tell_of_the_ledger(used: Gateway) -> None:
    status = used.call("GET", "/status")["ledger"]
    assert list(status) == ["entries", "lag_seconds", "unsynced_entries", "segments", "error"]
    assert (status["entries"], status["segments"], status["error"]) == (7, 1, None) and status["lag_seconds"] < 60
    assert "aigw_ledger_entries_total 7\n" in used.client.get("/metrics").text


def test_a_deleted_consumer_keeps_its_name(used: Gateway) -> None:
    used.call("POST", "/config", content="models: {}\n", headers={"content-type": "text/yaml"})
    assert used.call("GET", "/consumers")["data"] == []
    assert used.control is not None
    used.control.ledger.compactor._names._refreshed = -1
    while used.control.ledger.compactor._names.is_stale:
        used.control.ledger.compactor._tidy()
    assert used.call("GET", "/usage?group_by=consumer")["data"][0]["group"] == {"consumer": "alice"}
    assert len(used.call("GET", "/usage/events?consumer=alice")["data"]) == 7


def test_the_file_rules_the_retention(gateway: Gateway) -> None:
    yaml = {"content-type": "text/yaml"}
    assert gateway.control is not None
    sweeper = gateway.control.ledger.compactor._sweeper
    assert sweeper._retention() == (400 * 86400, 14 * 86400, 400 * 86400, None, 50 * 2**30)
    text = "ledger: {events: 30d, minutes: 36h, max_disk: 1GiB}\n"
    diff = gateway.call("POST", "/config/diff", content=text, headers=yaml)["changes"]
    assert [(c["action"], c["kind"]) for c in diff] == [("updated", "ledger")]
    lines = gateway.call("POST", "/config", content=text, headers=yaml)["diff"]["lines"]
    assert lines == ["~ ledger: days, events, hours, max_disk, minutes"]
    assert gateway.call("GET", "/config")["ledger"] == {"events": "30d", "minutes": "36h", "max_disk": "1GiB"}
    assert sweeper._retention() == (30 * 86400, 36 * 3600, 400 * 86400, None, 2**30)
    for bad, words in (
        ("{events: 5}", "ledger.events"),
        ("{events: 30s}", "expected an age from 1m to 36500d"),
        ("{max_disk: 1MiB}", "at least 16MiB"),
        (
            "{hours: 3d}",
            "hours must stay at least as long as minutes: hours 3d is shorter than minutes 14d (its default); raise the one or lower",
        ),
        ("{event: 3d}", "unknown field"),
        ("[]", "expected a record"),
    ):
        answer = gateway.call("POST", "/config", 400, content=f"ledger: {bad}\n", headers=yaml)
        assert words in str(answer), bad
