"""acls, and the plugins acl and request-size-limiting, as Kong's clients know them."""

from typing import Any
from uuid import uuid4

import pytest

from conftest import Gateway

LISTS = "'config.allow', 'config.deny'"
EXACTLY, AT_LEAST = (f"{w} one of these fields must be non-empty: {LISTS}" for w in ("exactly", "at least"))


def test_a_consumer_gains_and_loses_groups(gateway: Gateway) -> None:
    bob = gateway.post("/consumers", username="bob")
    made = gateway.post("/consumers/bob/acls", group="gold", tags=["x"])
    assert set(made) == {"id", "created_at", "consumer", "group", "tags"}
    assert (made["consumer"], made["group"]) == ({"id": bob["id"]}, "gold")
    gateway.post("/acls", group="admin", consumer={"id": bob["id"]})
    assert gateway.publisher.consumers[1].groups == ["admin", "gold"]
    twice = gateway.post("/consumers/bob/acls", 409, group="gold")
    assert (twice["code"], twice["fields"]) == (5, {"consumer": {"id": bob["id"]}, "group": "gold"})
    assert twice["message"] == f'UNIQUE violation detected on \'{{consumer={{id="{bob["id"]}"}},group="gold"}}\''
    gateway.post("/consumers", username="eve")
    gateway.post("/consumers/eve/acls", group="gold")
    for key in ("gold", made["id"]):
        assert gateway.call("GET", f"/consumers/bob/acls/{key}") == made
    assert gateway.call("GET", f"/acls/{made['id']}") == made
    assert gateway.call("GET", "/acls/gold", 404)
    assert gateway.call("GET", f"/acls/{made['id']}/consumer")["username"] == "bob"
    assert len(gateway.call("GET", "/acls")["data"]) == 3
    assert [a["group"] for a in gateway.call("GET", "/consumers/eve/acls")["data"]] == ["gold"]
    assert gateway.call("PUT", "/consumers/bob/acls/new", 200, json={})["group"] == "new"
    assert gateway.call("PUT", "/consumers/bob/acls/gold", 200, json={"tags": ["y"]})["id"] == made["id"]
    key = str(uuid4())
    assert gateway.call("PUT", f"/consumers/bob/acls/{key}", 200, json={"group": "by-id"})["id"] == key
    gateway.call("PATCH", "/consumers/bob/acls/new", json={"group": "newer"})
    assert gateway.publisher.consumers[1].groups == ["admin", "by-id", "gold", "newer"]
    gateway.call("DELETE", "/consumers/bob/acls/gold", 204)
    gateway.call("DELETE", "/consumers/bob/acls/gold", 404)
    assert gateway.publisher.consumers[2].groups == ["gold"]
    assert gateway.post("/consumers/bob/acls", 400)["message"] == "schema violation (group: required field missing)"
    gateway.call("DELETE", "/consumers/bob", 204)
    assert [a["group"] for a in gateway.call("GET", "/acls")["data"]] == ["gold"]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("acl", {}, f"2 schema violations ({EXACTLY}; {AT_LEAST})"),
        ("acl", {"allow": [], "deny": []}, f"2 schema violations ({EXACTLY}; {AT_LEAST})"),
        ("acl", {"allow": ["a"], "deny": ["b"]}, f"schema violation ({EXACTLY})"),
        ("acl", {"allow": ["a"], "include_consumer_groups": True},
         "schema violation (config.include_consumer_groups: true is not supported in this version)"),
        ("acl", {"allow": ["a"], "always_use_authenticated_groups": True},
         "schema violation (config.always_use_authenticated_groups: true is not supported in this version)"),
        ("acl", {"whitelist": ["a"]}, "schema violation (config.whitelist: unknown field)"),
        ("request-size-limiting", {"size_unit": "gigabytes"},
         "schema violation (config.size_unit: expected one of: megabytes, kilobytes, bytes)"),
        ("request-size-limiting", {"allowed_payload_size": -1},
         "schema violation (config.allowed_payload_size: value should be between 0 and 2147483647)"),
        ("request-size-limiting", {"allowed_payload_size": 1.5},
         "schema violation (config.allowed_payload_size: expected an integer)"),
    ],
)  # fmt: skip
def test_acl_refuses_the_configs_that_kong_refuses(
    gateway: Gateway, name: str, config: dict[str, Any], message: str
) -> None:
    answer = gateway.post("/plugins", 400, name=name, config=config)
    assert (answer["code"], answer["message"]) == (2, message)


def test_acl_stands_on_routes_and_not_on_consumers(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/services/s/routes", name="r", paths=["/"])
    gateway.post("/consumers", username="bob")
    assert gateway.post("/consumers/bob/plugins", 400, name="acl", config={"allow": ["a"]})["fields"] == {
        "consumer": "value must be null"}  # fmt: skip
    plugin = gateway.post("/services/s/plugins", name="acl", config={"deny": ["bad"], "allow": []})
    assert plugin["config"] == {"allow": [], "deny": ["bad"], "hide_groups_header": False,
                                "include_consumer_groups": False, "always_use_authenticated_groups": False}  # fmt: skip
    policy = gateway.publisher.policy or {}
    assert policy["acl"][policy["routes"][0]["acl"]] == {"allow": [], "deny": ["bad"], "hide_groups_header": False}


def test_request_size_limiting_accepts_a_consumer(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/services/s/routes", name="r", paths=["/"])
    gateway.post("/consumers", username="bob")
    shared = gateway.post("/plugins", name="request-size-limiting")
    assert shared["config"] == {"allowed_payload_size": 128, "size_unit": "megabytes", "require_content_length": False}
    gateway.post("/consumers/bob/plugins", name="request-size-limiting", config={"size_unit": "kilobytes"})
    policy = gateway.publisher.policy or {}
    ((route, service, kind, index),) = gateway.publisher.consumers[1].refs
    assert (route, service, kind) == (0, 0, 1)
    assert policy["size_limiting"][index]["bytes"] == 131072
    assert policy["size_limiting"][policy["routes"][0]["size_limiting"]["profile"]]["bytes"] == 134217728
