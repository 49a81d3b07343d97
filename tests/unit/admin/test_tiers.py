"""Tiers by their own API, and as the consumer groups that Kong's clients see."""

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Gateway

FREE = {"limits": [{"requests": 100, "per": "day"}, {"requests": 5, "per": "second", "burst": 10}],
        "allow": {"features": ["standard"], "parameters": {"tools": False, "n": 1}},
        "output": {"max_tokens": 512}, "price": {"input": 0.30, "output": 1.2, "request": 0}}  # fmt: skip


def put(gateway: Gateway, name: str, **spec: Any) -> Any:
    return gateway.call("PUT", f"/tiers/{name}", 200, json=spec)


def tier_of(gateway: Gateway, name: str) -> str | None:
    """Name of the tier in a consumer's published record."""
    (n,) = [c.tier for c in gateway.publisher.consumers.values() if c.username == name]
    tiers = {t["n"]: t["name"] for t in gateway.publisher.policy["tiers"]}  # type: ignore[index]
    return tiers[n] if n else None


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (
            {"requests": 5, "per": "second", "burst": 3, "scope": "ip"},
            "limits.1.burst: a limit by address has none: leave it out, or write scope: consumer, credential or model",
        ),
        (
            {"tokens": 5, "per": "second", "burst": 3, "scope": "ip"},
            "limits.1.scope: an address has a limit on requests alone: write requests, or scope: consumer, credential or model",
        ),
        (
            {"spend": 5, "per": "day", "scope": "ip"},
            "limits.1.scope: an address has a limit on requests alone: write requests, or scope: consumer, credential or model",
        ),
        ({"spend": 5, "per": "day", "burst": 3}, "limits.1.burst: spend has no burst: leave it out, or limit tokens"),
        ({"requests": 1, "per": "366d", "burst": 1_000_000}, "would take more than 366 days to come back"),
        ({"requests": 5, "per": "month", "burst": 3}, "needs a period of fixed length"),
        ({"requests": 0, "per": "day", "burst": 3}, "requests above 0"),
    ],
)
def test_a_tier_refuses_a_bucket_beyond_the_bounds(gateway: Gateway, limit: dict[str, Any], words: str) -> None:
    answer = gateway.call("PUT", "/tiers/x", 400, json={"limits": [limit]})
    assert words in answer["message"]


def test_get_returns_the_tier_with_its_defaults(gateway: Gateway) -> None:
    made = put(gateway, "free", **FREE)
    assert set(made) == {"limits", "allow", "prompt", "output", "request", "timeouts", "weight", "reserved_concurrency", "price",
                         "durability", "description"}  # fmt: skip
    assert made["limits"][0] == {
        "requests": 100, "tokens": None, "input_tokens": None, "output_tokens": None, "spend": None, "concurrency": None,
        "per": "day", "burst": None, "window": "fixed", "scope": "consumer", "mode": "enforce",
    }  # fmt: skip
    assert made["allow"]["models"] == ["*"]
    assert made["allow"]["parameters"] == {"tools": False, "n": 1, "logprobs": True, "stream": True,
                                           "response_format": True, "reasoning_effort": True}  # fmt: skip
    assert made["price"]["input"] == 0.3
    assert gateway.call("GET", "/tiers/free") == made
    assert put(gateway, "free", **made) == made, "what is answered can be put again"
    assert gateway.call("GET", "/tiers") == {"data": [{"name": "free", **made}], "next": None}
    assert put(gateway, "free")["limits"] == [], "what is not given returns to its default"
    gateway.call("DELETE", "/tiers/free", 204)
    for method in ("GET", "DELETE"):
        assert gateway.call(method, "/tiers/free", 404) == {"message": "Not found"}
    assert gateway.call("POST", "/tiers", 405)
    assert gateway.call("PATCH", "/tiers/free", 405)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"limits": [{"requests": 5}]}, "limits.1.per: required field missing: write the window, as in per: day"),
        ({"limits": [{"per": "day"}]}, "limits.1: name the amount that is limited: requests, tokens, "
         "input_tokens, output_tokens, spend, concurrency"),
        ({"limits": [{"requests": 5, "per": "fortnight"}]}, "limits.1.per: expected one of: second, minute, hour, day, "
         "month, year, or a duration of at most 366d as in 90s, 5h"),
        ({"limits": [{"requests": 5, "per": "day", "window": "sliding"}]},
         "limits.1.window: 'sliding' is not supported in this version"),
        ({"limits": [{"requests": 5, "per": "day", "scope": "agent"}]},
         "limits.1.scope: 'agent' is not supported in this version"),
        ({"limits": [{"requests": 1, "per": "5h"}, {"requests": 2, "per": "300m"}]},
         "limits.2: two limits on requests per 300m by consumer (enforce): keep one"),
        ({"allow": {"parameters": {"n": 0}}}, "allow.parameters.n: value should be between 1 and 128"),
        ({"weight": 4}, "weight: not supported in this version"),
        ({"surprise": 1}, "surprise: unknown field"),
        ({"timeouts": {"total": "10 s"}}, "timeouts.total: expected a duration from 1ms to 24h as in 250ms, 10s, 1.5m"),
    ],
)  # fmt: skip
def test_wrong_tiers_get_kongs_violations(gateway: Gateway, spec: dict[str, Any], message: str) -> None:
    answer = gateway.call("PUT", "/tiers/t", 400, json=spec)
    assert (answer["code"], answer["name"]) == (2, "schema violation")
    assert answer["message"] == f"schema violation ({message})"
    assert gateway.call("GET", "/tiers")["data"] == []
    assert gateway.call("POST", "/schemas/tiers/validate", 400, json=spec)["message"] == answer["message"]


def test_a_tier_refuses_names_unfit_for_a_header(gateway: Gateway) -> None:
    for name in ("a b", "caf%C3%A9", str(uuid4())):
        assert "name: invalid value" in gateway.call("PUT", f"/tiers/{name}", 400, json={})["message"]


def test_a_consumer_group_becomes_a_tier_without_limits(gateway: Gateway) -> None:
    group = gateway.post("/consumer_groups", name="gold", tags=["x"])
    assert set(group) == {"id", "name", "created_at", "updated_at", "tags"}
    assert gateway.call("GET", "/tiers/gold")["limits"] == []
    assert gateway.call("GET", "/consumer_groups") == {"data": [group], "next": None}
    assert gateway.call("GET", "/consumer_groups?tags=y")["data"] == []
    assert gateway.call("GET", "/tags/x")["data"][0]["entity_name"] == "consumer_groups"
    for key in ("gold", group["id"]):
        assert gateway.call("GET", f"/consumer_groups/{key}") == {
            "consumer_group": group, "consumers": [], "plugins": []}  # fmt: skip
    twice = gateway.post("/consumer_groups", 409, name="gold")
    assert (twice["code"], twice["message"]) == (5, "UNIQUE violation detected on '{name=\"gold\"}'")
    assert gateway.post("/consumer_groups", 400)["fields"] == {"name": "required field missing"}
    assert gateway.post("/consumer_groups", 400, name="a", spec={})["fields"] == {"spec": "unknown field"}
    put(gateway, "gold", **FREE)
    key = str(uuid4())
    assert gateway.call("PUT", f"/consumer_groups/{key}", 200, json={"name": "new"})["id"] == key
    assert gateway.call("PUT", "/consumer_groups/gold", 200, json={})["tags"] is None
    assert gateway.call("PATCH", "/consumer_groups/gold", json={"name": "au"})["name"] == "au"
    assert len(gateway.call("GET", "/tiers/au")["limits"]) == 2, "writing the group leaves the tier's limits alone"
    by_form = gateway.call("PUT", "/consumer_groups/au", 200, data={"tags[]": "t"})
    assert by_form["tags"] == ["t"]
    gateway.call("DELETE", "/consumer_groups/au", 204)
    gateway.call("DELETE", "/consumer_groups/au", 204)
    assert gateway.call("GET", "/consumer_groups/au", 404)


def test_a_group_has_plugins_that_limit_its_tier(gateway: Gateway) -> None:
    group = gateway.post("/consumer_groups", name="gold")
    limit = {"name": "rate-limiting", "config": {"minute": 5, "hour": 50}}
    plugin = gateway.post("/consumer_groups/gold/plugins", **limit)
    assert plugin["consumer_group"] == {"id": group["id"]}
    size = {"name": "request-size-limiting", "config": {"allowed_payload_size": 1, "size_unit": "kilobytes"}}
    other = gateway.post("/plugins", **size, consumer_group={"name": "gold"})
    listed = gateway.call("GET", "/consumer_groups/gold/plugins")["data"]
    assert sorted(one["id"] for one in listed) == sorted([plugin["id"], other["id"]])
    assert len(gateway.call("GET", "/consumer_groups/gold")["plugins"]) == 2
    assert gateway.call("GET", f"/consumer_groups/gold/plugins/{plugin['id']}") == plugin
    tier = gateway.publisher.policy["tiers"][0]
    assert [(one["fields"]["requests"], one["fields"]["per"]) for one in tier["limits"]] == [
        (5, "minute"),
        (50, "hour"),
    ]
    assert (tier["prompt_max_bytes"], tier["route_max_bytes"]) == (1024, 1024)
    gateway.call("PATCH", f"/plugins/{plugin['id']}", json={"enabled": False})
    assert gateway.publisher.policy["tiers"][0]["limits"] == []
    gateway.call("DELETE", "/consumer_groups/gold", 204)
    assert gateway.call("GET", "/plugins")["data"] == []


def test_a_groups_plugin_keeps_the_stricter_limit_of_its_tier(gateway: Gateway) -> None:
    gateway.call(
        "PUT", "/tiers/gold", json={"limits": [{"requests": 9, "per": "minute"}, {"requests": 20, "per": "hour"}]}
    )
    gateway.post("/consumer_groups/gold/plugins", name="rate-limiting", config={"minute": 10, "hour": 15, "day": 99})
    limits = gateway.publisher.policy["tiers"][0]["limits"]
    found = {one["fields"]["per"]: one["fields"]["requests"] for one in limits}
    assert found == {"minute": 9, "hour": 15, "day": 99}
    assert len(gateway.call("GET", "/tiers/gold")["limits"]) == 2, "the tier's own document stays as it was written"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"name": "acl", "config": {"allow": ["a"]}}, {"consumer_group": "value must be null"}),
        ({"name": "rate-limiting", "config": {"minute": 5, "limit_by": "ip"}}, {"config": ["limit_by"]}),
        ({"name": "rate-limiting", "config": {"minute": 5, "error_code": 418}}, {"config": ["error_code"]}),
    ],
)
def test_a_group_refuses_plugins_that_a_tier_cannot_be(gateway: Gateway, body: Any, fields: Any) -> None:
    gateway.post("/consumer_groups", name="gold")
    found = gateway.post("/consumer_groups/gold/plugins", 400, **body)["fields"]
    assert {k: list(v) if isinstance(v, dict) else v for k, v in found.items()} == fields
    assert gateway.call("GET", "/consumer_groups/none/plugins", 404)
    gateway.post("/plugins", name="rate-limiting", config={"minute": 5}, consumer_group=None)


def test_joining_a_tier_leaves_the_earlier_one(gateway: Gateway) -> None:
    bob, eve = (gateway.post("/consumers", username=n) for n in ("bob", "eve"))
    gold, iron = (gateway.post("/consumer_groups", name=n) for n in ("gold", "iron"))
    assert gateway.post("/consumer_groups/gold/consumers", consumer="bob") == {
        "consumer_group": gold, "consumers": [bob]}  # fmt: skip
    gateway.post(f"/consumer_groups/{gold['id']}/consumers", consumer=eve["id"])
    assert [tier_of(gateway, n) for n in ("bob", "eve")] == ["gold", "gold"]
    assert gateway.post("/consumers/bob/consumer_groups", group="iron") == {
        "consumer": bob, "consumer_groups": [iron]}  # fmt: skip
    assert tier_of(gateway, "bob") == "iron"
    listed = gateway.call("GET", "/consumer_groups/gold/consumers")
    assert (listed["data"], listed["consumers"], listed["next"]) == ([eve], [eve], None)
    assert gateway.call("GET", "/consumer_groups/iron")["consumers"] == [bob]
    assert gateway.call("GET", "/consumers/bob/consumer_groups")["consumer_groups"] == [iron]
    assert gateway.call("GET", "/consumer_groups/iron/consumers/bob") == {"consumer": bob}
    assert gateway.call("GET", "/consumers/bob/consumer_groups/iron") == {"consumer_group": iron}
    for path in ("/consumer_groups/gold/consumers/bob", "/consumers/bob/consumer_groups/gold"):
        assert gateway.call("GET", path, 404)
        gateway.call("DELETE", path, 204)  # decK joins the new group first, then deletes the old membership
    assert tier_of(gateway, "bob") == "iron"
    for path in ("/consumer_groups/none/consumers/bob", "/consumer_groups/gold/consumers/none",
                 "/consumers/none/consumer_groups/gold", "/consumers/bob/consumer_groups/none"):  # fmt: skip
        assert gateway.call("DELETE", path, 404)
    gateway.call("DELETE", "/consumer_groups/iron/consumers/bob", 204)
    assert tier_of(gateway, "bob") is None
    gateway.post("/consumers/bob/consumer_groups", group=gold["id"])
    gateway.call("DELETE", "/consumers/bob/consumer_groups/gold", 204)
    gateway.post("/consumers/bob/consumer_groups", group="gold")
    gateway.call("DELETE", "/consumers/bob/consumer_groups", 204)
    assert tier_of(gateway, "bob") is None
    gateway.call("DELETE", "/consumer_groups/gold/consumers", 204)
    assert tier_of(gateway, "eve") is None
    assert gateway.call("GET", "/consumers/bob") == bob, "a consumer is Kong's, whatever its tier"


def test_joining_a_tier_needs_a_consumer_and_a_group(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    gateway.post("/consumer_groups", name="gold")
    assert gateway.post("/consumer_groups/gold/consumers", 400)["message"] == (
        "schema violation (consumer: required field missing)"
    )
    assert gateway.post("/consumers/bob/consumer_groups", 400, group=["a", "b"])["code"] == 2
    assert gateway.post("/consumers/bob/consumer_groups", 400, group=5)["code"] == 2
    for path, body in (("/consumer_groups/gold/consumers", {"consumer": "no"}), ("/consumers/bob/consumer_groups",
                       {"group": "no"}), ("/consumer_groups/no/consumers", {"consumer": "bob"})):  # fmt: skip
        assert gateway.post(path, 404, **body) == {"message": "Not found"}


def test_deleting_a_tier_leaves_its_consumers_without_one(gateway: Gateway) -> None:
    put(gateway, "free", **FREE)
    for name in ("bob", "eve"):
        gateway.post("/consumers", username=name)
        gateway.post("/consumer_groups/free/consumers", consumer=name)
    gateway.call("DELETE", "/tiers/free", 204)
    assert [c.tier for c in gateway.publisher.consumers.values()] == [0, 0]
    assert gateway.publisher.policy["tiers"] == []  # type: ignore[index]
    gateway.call("DELETE", "/consumers/bob", 204)


def test_a_tier_publishes_the_policy_and_a_move_one_record(gateway: Gateway) -> None:
    for i in range(5):
        gateway.post("/consumers", username=f"c{i}")
    put(gateway, "free", **FREE)
    put(gateway, "pro", limits=[{"requests": 5000, "per": "day"}])
    gateway.post("/consumer_groups/free/consumers", consumer=["c0", "c1"])
    gateway.publisher.calls.clear()
    put(gateway, "free", limits=[{"requests": 7, "per": "day"}])
    assert gateway.publisher.calls == ["publish policy"]
    gateway.publisher.calls.clear()
    before = gateway.publisher.delta_records()
    gateway.post("/consumer_groups/pro/consumers", consumer="c0")
    assert gateway.publisher.calls == ["append", "publish"]
    assert gateway.publisher.delta_records() == before + 1
    gateway.publisher.calls.clear()
    gateway.post("/consumer_groups/pro/consumers", consumer="c0")
    assert gateway.publisher.calls == []


PERS = st.sampled_from(["second", "minute", "day", "month", "90s", "5h"])
LIMIT = st.fixed_dictionaries({"requests": st.integers(1, 9), "per": PERS, "scope": st.sampled_from(["consumer", "credential", "ip"]),
                               "mode": st.sampled_from(["enforce", "shadow"])})  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.lists(LIMIT, max_size=4)), max_size=5))
def test_columns_and_numbers_keep_their_meaning(
    gateway: Gateway, steps: list[tuple[str, list[dict[str, Any]]]]
) -> None:
    """A column number belongs to one key for ever, and a tier's number to one id."""
    seen: dict[tuple[str, Any], Any] = getattr(gateway, "seen", {})
    gateway.seen = seen  # type: ignore[attr-defined]  # one gateway for all examples: numbers outlive each of them
    for name, limits in steps:
        answer = gateway.client.put(f"/tiers/{name}", json={"limits": limits})
        assert answer.status_code in (200, 400)
        if answer.status_code == 200 and not limits:
            gateway.client.delete(f"/tiers/{name}")
        policy = gateway.publisher.policy or {}
        for tier in policy["tiers"]:
            assert seen.setdefault(("tier", tier["n"]), tier["id"]) == tier["id"]
            for limit in tier["limits"]:
                key = f"tier:{limit['scope']}:{limit['fields']['per']}" + (":shadow" if limit["shadow"] else "")
                assert seen.setdefault(("column", limit["column"]), key) == key
        for column in policy["columns"]:
            if column["kind"] == "dense":
                assert column["n"] in gateway.publisher.columns


def test_schemas_describe_tiers_and_models(gateway: Gateway) -> None:
    def fields(name: str) -> set[str]:
        return {k for f in gateway.call("GET", f"/schemas/{name}")["fields"] for k in f}

    assert fields("tiers") >= {"limits", "allow", "price"}
    assert fields("models") >= {"upstreams", "features"}
    assert fields("consumer_groups") == {"id", "created_at", "updated_at", "name", "tags"}
    assert fields("acls") == {"id", "created_at", "consumer", "group", "tags"}
    assert gateway.call("POST", "/schemas/tiers/validate", 200, json=FREE)
    assert gateway.call("POST", "/schemas/consumer_groups/validate", 200, json={"name": "x"})
    assert gateway.call("GET", "/models") == {"data": [], "next": None}
    assert gateway.call("GET", "/models/none", 404)
    assert gateway.call("POST", "/models", 405)
    assert gateway.call("PUT", "/models/m", 405)


def test_metrics_get_the_names_of_tiers(gateway: Gateway) -> None:
    put(gateway, "free")
    assert "# tiers [(1, 'free')]" in gateway.client.get("/metrics").text


def test_limits_of_a_tier(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    key = gateway.post("/consumers/bob/key-auth")
    put(gateway, "free", limits=[
        {"requests": 100, "per": "5h"}, {"requests": 5, "per": "second", "burst": 10},
        {"requests": 7, "per": "day", "scope": "credential", "mode": "shadow"}, {"requests": 1, "per": "day", "scope": "ip"},
    ])  # fmt: skip
    assert gateway.call("GET", "/consumers/bob/limits")["data"] == []
    gateway.post("/consumers/bob/consumer_groups", group="free")
    columns = {c["key"]: c["n"] for c in gateway.publisher.policy["columns"]}  # type: ignore[index]
    gateway.publisher.cells[columns["tier:consumer:18000s"], 1] = (4, 1, 1_700_010_000)
    gateway.publisher.cells[columns["tier:credential:day:shadow"], 1] = (9, 0, 1_700_006_400)
    gateway.publisher.buckets[columns["rate:tier:consumer:second"], 1] = (
        3,
        int(gateway.now * 1e9) + 200_000_000 * 2 + 64,
    )
    bucket, window, shadow = gateway.call("GET", "/consumers/bob/limits")["data"]
    named = {"model": None, "credential": None, "service": None}
    assert window == {"meter": "requests", "per": "5h", "scope": "consumer", **named, "mode": "enforce", "limit": 100, "used": 3,
                      "reserved": 1, "remaining": 96, "resets_at": 1_700_010_000, "source": "tier free"}  # fmt: skip
    assert bucket == {"meter": "requests", "per": "second", "scope": "consumer", **named, "mode": "enforce", "limit": 10, "used": 3,
                      "reserved": 0, "remaining": 7, "resets_at": 1_700_000_001, "source": "tier free"}  # fmt: skip
    assert (shadow["scope"], shadow["credential"], shadow["mode"], shadow["used"], shadow["remaining"]) == (
        "credential", key["id"], "shadow", 9, 0)  # fmt: skip
    gateway.now += 5
    full = gateway.call("GET", "/consumers/bob/limits")["data"][0]
    assert (full["used"], full["remaining"], full["resets_at"]) == (0, 10, 1_700_000_005)
    put(gateway, "pro", limits=[{"requests": 5000, "per": "5h"}])
    gateway.post("/consumers/bob/consumer_groups", group="pro")
    (moved,) = gateway.call("GET", "/consumers/bob/limits")["data"]
    assert (moved["limit"], moved["used"], moved["source"]) == (5000, 3, "tier pro"), "what was used comes along"


def test_a_description_may_have_lines_and_a_name_no_slash(gateway: Gateway) -> None:
    text = "Two lines,\nand an end.\n"
    made = gateway.call("PUT", "/tiers/free", json={"description": text})
    assert made["description"] == text
    assert "control characters" in gateway.call("PUT", "/tiers/free", 400, json={"description": "a\x1bb"})["message"]
    assert "takes it out of a path" in gateway.post("/consumer_groups", 400, name="..")["message"]
