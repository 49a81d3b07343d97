"""The forms that Kong's clients compare: letter case, schemas, deprecated fields, fractions, protocols, writes that change nothing."""

from pathlib import Path

import pytest

from conftest import Gateway


def test_letter_case_is_kept_and_folded_when_matching(gateway: Gateway) -> None:
    service = gateway.post("/services", name="s", host="API.Example.com")
    route = gateway.post(
        "/routes", hosts=["Www.Example.com", "www.example.COM"], headers={"X-Kind": ["Pro"]}, service=service
    )
    assert service["host"] == "API.Example.com"
    assert route["hosts"] == ["Www.Example.com", "www.example.COM"]
    assert route["headers"] == {"X-Kind": ["Pro"]}
    policy = gateway.publisher.policy or {}
    assert policy["services"][0]["host"] == "api.example.com"
    assert (policy["routes"][0]["hosts"], policy["routes"][0]["headers"]) == (
        ["www.example.com"],
        [["x-kind", ["Pro"]]],
    )
    twice = gateway.post("/routes", 400, headers={"X-Kind": ["a"], "x-kind": ["b"]})
    assert twice["fields"] == {"headers": "'x-kind' stands twice: names of headers have no letter case"}


def test_records_of_a_schema_are_required_so_that_clients_fill_their_defaults(gateway: Gateway) -> None:
    config = gateway.call("GET", "/schemas/plugins/rate-limiting")["fields"][-1]["config"]
    fields = {name: schema for field in config["fields"] for name, schema in field.items()}
    assert (fields["redis"]["type"], fields["redis"]["required"]) == ("record", True)
    assert "required" not in fields["minute"]
    assert (fields["minute"]["type"], fields["minute"]["gt"], "between" in fields["minute"]) == ("number", 0, False)
    short = {name: schema for field in config["shorthand_fields"] for name, schema in field.items()}
    assert short["redis_host"] == {
        "type": "string",
        "deprecation": {
            "replaced_with": [{"path": ["redis", "host"]}],
            "message": "rate-limiting: config.redis_host is deprecated, please use config.redis.host instead",
            "removal_in_version": "4.0",
        },
    }


def test_deprecated_fields_follow_the_fields_that_replace_them(gateway: Gateway) -> None:
    made = gateway.post("/plugins", name="rate-limiting", config={"minute": 5, "redis_host": "old", "redis_port": 7})
    assert (made["config"]["redis_host"], made["config"]["redis"]["host"]) == ("old", "old")
    path = f"/plugins/{made['id']}"
    assert gateway.call("GET", path) == made == gateway.call("GET", "/plugins")["data"][0]
    assert gateway.call("PUT", path, 200, json=made) == made
    for change in ({"redis_host": "new"}, {"redis": {"host": "new"}}, {"redis_host": None, "redis": {"host": "new"}}):
        gateway.call("PATCH", path, json={"config": {"redis_host": "old"}})
        changed = gateway.call("PATCH", path, json={"config": change})["config"]
        assert (changed["redis_host"], changed["redis"]["host"], changed["redis_port"]) == ("new", "new", 7)
    text = "both deprecated and new field are used but their values mismatch: redis_host and redis.host"
    for method in ("PUT", "PATCH"):
        differs = {"name": "rate-limiting", "config": {"minute": 5, "redis_host": "a", "redis": {"host": "b"}}}
        assert gateway.call(method, path, 400, json=differs)["fields"] == {"config": {"redis_host": text}}
    assert gateway.call("PATCH", path, json={"config": {"redis_host": None}})["config"]["redis"]["host"] is None


@pytest.mark.parametrize(("limit", "whole"), [(2.5, 2), (5.0, 5), (0.5, 0), (1e3, 1000)])
def test_of_a_fraction_the_whole_calls_count(gateway: Gateway, limit: float, whole: int) -> None:
    made = gateway.post("/plugins", name="rate-limiting", config={"minute": limit})
    assert made["config"]["minute"] == limit
    gateway.post("/routes", paths=["/"])
    policy = gateway.publisher.policy or {}
    profile = policy["rate_limiting"][policy["routes"][0]["rate_limiting"]["profile"]]
    assert profile["limits"][0]["fields"]["requests"] == whole


def test_a_number_of_zero_or_text_is_no_limit(gateway: Gateway) -> None:
    for limit, text in ((0, "value must be greater than 0"), (-0.5, "value must be greater than 0"),
                        ("5", "expected a number"), (2**33, "value should be between 1 and 4294967295")):  # fmt: skip
        answer = gateway.post("/plugins", 400, name="rate-limiting", config={"minute": limit})
        assert answer["fields"]["config"] == {"minute": text}
    page = gateway.post("/plugins", name="cors", config={"max_age": 10.5})
    assert page["config"]["max_age"] == 10.5


@pytest.mark.parametrize("tls", [False, True])
def test_a_plugin_runs_on_its_protocols_only(tmp_path: Path, tls: bool) -> None:
    gateway = Gateway(tmp_path, tls=tls).open()
    gateway.post("/routes", name="r", paths=["/"])
    gateway.post("/consumers", username="bob")
    plain = gateway.post("/plugins", name="key-auth", protocols=["http"])
    assert plain["protocols"] == ["http"]
    gateway.post("/routes/r/plugins", name="rate-limiting", protocols=["https"], config={"minute": 1})
    gateway.post("/consumers/bob/plugins", name="rate-limiting", protocols=["https", "grpc"], config={"minute": 2})
    (route,) = (gateway.publisher.policy or {})["routes"]
    assert (route["key_auth"] is None, route["rate_limiting"] is None) == (tls, not tls)
    assert bool(gateway.publisher.consumers[1].refs) == tls
    gateway.close()


def test_a_put_that_changes_nothing_publishes_nothing(gateway: Gateway) -> None:
    service = gateway.post("/services", name="s", host="h")
    route = gateway.post("/routes", name="r", paths=["/"], service=service)
    consumer = gateway.post("/consumers", username="bob")
    plugin = gateway.post("/plugins", name="rate-limiting", config={"minute": 5}, consumer=consumer)
    acl = gateway.call("PUT", "/consumers/bob/acls/gold", 200, json={})
    group = gateway.call("PUT", "/consumer_groups/pro", 200, json={})
    before = list(gateway.publisher.calls)
    gateway.now += 60
    for path, entity in ((f"/services/{service['id']}", service), ("/routes/r", route), ("/consumers/bob", consumer),
                         (f"/plugins/{plugin['id']}", plugin), (f"/consumers/bob/acls/{acl['id']}", acl)):  # fmt: skip
        assert gateway.call("PUT", path, 200, json=entity) == entity
        assert gateway.call("PATCH", path, json={}) == entity
    assert gateway.call("PUT", "/consumer_groups/pro", 200, json=group) == group
    assert gateway.publisher.calls == before
    changed = gateway.call("PUT", "/routes/r", 200, json={**route, "paths": ["/b"]})
    assert changed["updated_at"] == route["updated_at"] + 60
    assert gateway.publisher.calls != before


def test_put_of_an_acl_by_its_group_is_stable(gateway: Gateway) -> None:
    bob, eve = (gateway.post("/consumers", username=name) for name in ("bob", "eve"))
    made = gateway.call("PUT", "/acls/gold", 200, json={"consumer": {"id": bob["id"]}})
    again = gateway.call("PUT", "/acls/gold", 200, json={"consumer": {"username": "bob"}, "tags": ["a"]})
    assert (again["id"], again["tags"]) == (made["id"], ["a"])
    assert gateway.call("PUT", "/acls/gold", 200, json={"consumer": eve})["id"] != made["id"]
    nested = [gateway.call("PUT", "/consumers/bob/acls/silver", 200, json={})["id"] for _ in range(2)]
    assert nested[0] == nested[1]
    assert len(gateway.call("GET", "/acls")["data"]) == 3
    assert gateway.call("PUT", "/acls/gold", 400, json={})["fields"] == {"consumer": "required field missing"}
