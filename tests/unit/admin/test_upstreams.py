"""Kong's upstreams and targets through the Admin API, the file and the dump."""

import errno
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import sqlalchemy as sa
import yaml

from aigw.control.store import tables
from aigw.entities.target import address, canonical
from conftest import Gateway

TARGET = {"target": "10.0.0.1:80", "weight": 10}


def test_upstreams_and_targets_have_every_field_of_kong(gateway: Gateway) -> None:
    upstream = gateway.post("/upstreams", name="api.internal")
    assert {k: v for k, v in upstream.items() if k not in ("id", "created_at", "updated_at", "healthchecks")} == {
        "name": "api.internal", "algorithm": "round-robin", "hash_on": "none", "hash_fallback": "none",
        "hash_on_header": None, "hash_fallback_header": None, "hash_on_cookie": None, "hash_on_cookie_path": "/",
        "hash_on_query_arg": None, "hash_fallback_query_arg": None, "hash_on_uri_capture": None,
        "hash_fallback_uri_capture": None, "slots": 10000, "tags": None, "host_header": None, "client_certificate": None,
        "use_srv_name": False,
    }  # fmt: skip
    checks = upstream["healthchecks"]
    assert checks["passive"]["unhealthy"] == {"http_statuses": [429, 500, 503], "tcp_failures": 0, "timeouts": 0,
                                              "http_failures": 0}  # fmt: skip
    assert (checks["active"]["timeout"], checks["active"]["concurrency"], checks["threshold"]) == (1, 10, 0)
    target = gateway.post("/upstreams/api.internal/targets", **TARGET, tags=["blue"])
    assert set(target) == {"id", "created_at", "updated_at", "upstream", "target", "weight", "tags"}
    assert gateway.call("GET", "/targets/" + target["id"]) == target
    assert gateway.call("GET", f"/upstreams/{upstream['id']}/targets?tags=blue")["data"] == [target]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("10.0.0.1", "10.0.0.1:8000"),
        ("API.test:81", "API.test:81"),
        ("API.test", "API.test:8000"),
        ("[::1]:80", "[0000:0000:0000:0000:0000:0000:0000:0001]:80"),
        ("FD00::a", "[fd00:0000:0000:0000:0000:0000:0000:000a]:8000"),
        ("[::ffff:0a00:1]:1", "[0000:0000:0000:0000:0000:ffff:0a00:0001]:1"),
    ],
)
def test_targets_are_shown_in_kongs_form_and_unique_in_every_spelling(
    gateway: Gateway, given: str, stored: str
) -> None:
    gateway.post("/services", name="s", host="u")
    gateway.post("/upstreams", name="u")
    target = gateway.post("/upstreams/u/targets", target=given)
    assert target["target"] == stored
    called = gateway.publisher.policy["services"][0]["upstream"]["targets"]
    host, port = address(canonical(given))
    assert called == [{"host": host, "port": port, "weight": 100}] and host == host.lower(), "workers get one form"
    for same in (given, stored, stored.upper(), stored.lower()):
        assert gateway.post("/upstreams/u/targets", 409, target=same)["code"] == 5
    assert gateway.call("PATCH", f"/upstreams/u/targets/{given}", json={"weight": 7})["weight"] == 7
    assert gateway.call("PUT", f"/upstreams/u/targets/{given}", 200, json={})["id"] == target["id"]
    gateway.call("DELETE", f"/upstreams/u/targets/{given}", 204)
    gateway.call("GET", f"/upstreams/u/targets/{given}", 404)


def test_a_target_in_another_spelling_under_a_new_id_takes_the_place_of_the_first(gateway: Gateway) -> None:
    for name in ("u", "v"):
        gateway.post("/upstreams", name=name)
    old = gateway.post("/upstreams/u/targets", target="api.test:81")["id"]
    new, other = str(uuid4()), str(uuid4())
    body = {"target": "Api.Test:81", "weight": 7}
    assert gateway.call("PUT", f"/upstreams/u/targets/{new}", 200, json=body)["id"] == new
    gateway.call("DELETE", f"/upstreams/v/targets/{old}", 404)
    gateway.call("DELETE", f"/upstreams/u/targets/{old}", 204)
    assert [t["id"] for t in gateway.call("GET", "/upstreams/u/targets")["data"]] == [new]
    assert gateway.call("PUT", f"/upstreams/u/targets/{other}", 409, json=body)["code"] == 5, "the same text clashes"
    gateway.now += 601
    gateway.call("DELETE", f"/upstreams/u/targets/{old}", 404)


def test_targets_of_earlier_versions_go_on(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="u")
    gateway.post("/upstreams", name="u")
    made = gateway.post("/upstreams/u/targets", target="[::1]:80")
    t = tables.targets
    with gateway.control.store.writing() as session:  # type: ignore[union-attr]
        body = orjson.dumps({**made, "target": "[::1]:80"}).decode()
        session.connection.execute(sa.update(t).values(body=body, target="[::1]:80"))
        session.commit()
    gateway.close()
    gateway.open()
    assert gateway.call("GET", "/targets")["data"] == [made], "shown as others are"
    health = gateway.call("GET", "/upstreams/u/health")["data"]
    assert [(row["id"], row["target"]) for row in health] == [(made["id"], made["target"])]
    assert gateway.publisher.policy["services"][0]["upstream"]["targets"][0]["host"] == "[::1]"
    assert gateway.call("GET", "/upstreams/u/targets/::1:80", 404)
    assert gateway.call("GET", "/upstreams/u/targets/[0::1]:80")["id"] == made["id"]
    assert gateway.post("/upstreams/u/targets", 409, target="[::0:1]:80")["code"] == 5
    gateway.call("PUT", f"/upstreams/u/targets/{made['id']}", 200, json={"target": "[::1]:80", "weight": 3})
    assert gateway.call("GET", "/targets")["data"][0]["target"] == made["target"]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "name", "required field missing"),
        ({"name": "1.2.3.4"}, "name", "no ip addresses allowed"),
        ({"name": "u:80"}, "name", "no port allowed"),
        ({"name": "u v"}, "name", "must be a valid hostname"),
        ({"name": "u", "slots": 9}, "slots", "between 10 and 65536"),
        ({"name": "u", "hash_on": "header"}, "@entity", "failed conditional validation"),
        ({"name": "u", "hash_fallback": "ip"}, "@entity", "'hash_on'"),
        ({"name": "u", "hash_on": "ip", "hash_fallback": "ip"}, "@entity", "must differ"),
        ({"name": "u", "hash_on": "cookie"}, "hash_on", "not supported"),
        ({"name": "u", "algorithm": "latency"}, "algorithm", "not supported"),
        ({"name": "u", "healthchecks": {"active": {"healthy": {"interval": 5}}}}, "healthchecks", "not supported"),
        ({"name": "u", "healthchecks": {"passive": {"unhealthy": {"http_failures": 256}}}}, "healthchecks", "255"),
    ],
)
def test_wrong_upstreams_are_refused_by_field(gateway: Gateway, body: dict[str, Any], field: str, words: str) -> None:
    found = gateway.post("/upstreams", 400, **body)
    assert field in found["fields"] and words in str(found["fields"][field]), found


@pytest.mark.parametrize("target", ["", "a b", "h:0", "h:99999", "h:x", "169.254.169.254:80", "[::1", "[::1]80"])
def test_wrong_targets_are_refused(gateway: Gateway, target: str) -> None:
    gateway.post("/upstreams", name="u")
    assert "target" in gateway.post("/upstreams/u/targets", 400, target=target)["fields"]


def test_a_service_gets_the_targets_of_the_upstream_that_its_host_names(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="API.internal")
    assert "upstream" not in gateway.publisher.policy["services"][0]
    gateway.post("/upstreams", name="api.internal", hash_on="header", hash_on_header="X-Team", hash_fallback="ip",
                 host_header="h.test", healthchecks={"passive": {"unhealthy": {"http_failures": 3}}})  # fmt: skip
    gateway.post("/upstreams/api.internal/targets", **TARGET)
    gateway.post("/upstreams/api.internal/targets", target="10.0.0.2:80", weight=0)
    found = gateway.publisher.policy["services"][0]["upstream"]
    assert found["targets"] == [{"host": "10.0.0.1", "port": 80, "weight": 10}], "weight 0 gets nothing"
    assert (found["host_header"], found["passive"]["http_failures"]) == ("h.test", 3)
    assert found["hash"] == [{"by": "header", "name": "X-Team"}, {"by": "ip", "name": None}]
    gateway.call("DELETE", "/upstreams/api.internal", 204)
    assert "upstream" not in gateway.publisher.policy["services"][0]
    assert gateway.call("GET", "/targets")["data"] == []


def test_marks_take_a_target_out_and_health_shows_them(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="u")
    gateway.post("/upstreams", name="u")
    one, two = (gateway.post("/upstreams/u/targets", target=f"10.0.0.{n}:80") for n in (1, 2))

    def health() -> dict[str, str]:
        return {row["target"]: row["health"] for row in gateway.call("GET", "/upstreams/u/health")["data"]}

    def whole() -> str:
        return str(gateway.call("GET", "/upstreams/u/health?balancer_health=1")["data"]["health"])

    assert (set(health().values()), whole()) == ({"HEALTHCHECKS_OFF"}, "HEALTHCHECKS_OFF")
    gateway.call("PUT", f"/upstreams/u/targets/{two['target']}/unhealthy", 204)
    assert health() == {one["target"]: "HEALTHCHECKS_OFF", two["target"]: "UNHEALTHY"}, "a mark works without checks"
    assert whole() == "HEALTHCHECKS_OFF"
    shown = {row["target"]: row["data"]["weight"] for row in gateway.call("GET", "/upstreams/u/health")["data"]}
    assert shown[two["target"]] == {"total": 100, "available": 0, "unavailable": 100}
    gateway.call("PUT", f"/upstreams/u/targets/{one['target']}/unhealthy", 204)
    assert whole() == "UNHEALTHY" and gateway.publisher.policy["services"][0]["upstream"]["targets"] == []
    for target in (one, two):
        gateway.call("PUT", f"/upstreams/u/targets/{target['id']}/healthy", 204)
    gateway.call("PATCH", "/upstreams/u", json={"healthchecks": {"passive": {"unhealthy": {"tcp_failures": 1}}}})
    assert set(health().values()) == {"HEALTHY"}
    gateway.call("PUT", f"/upstreams/u/targets/{one['target']}/unhealthy", 204)
    assert health() == {one["target"]: "UNHEALTHY", two["target"]: "HEALTHY"}
    assert [t["host"] for t in gateway.publisher.policy["services"][0]["upstream"]["targets"]] == ["10.0.0.2"]
    gateway.call("POST", f"/upstreams/u/targets/{two['id']}/unhealthy", 204)
    facts = gateway.call("GET", "/upstreams/u/health?balancer_health=1")["data"]
    assert (facts["health"], facts["name"]) == ("UNHEALTHY", "u")
    for target in (one, two):
        gateway.call("PUT", f"/upstreams/u/targets/{target['id']}/healthy", 204)
    assert set(health().values()) == {"HEALTHY"}
    assert len(gateway.call("GET", "/upstreams/u/targets/all")["data"]) == 2
    gateway.call("PUT", "/upstreams/u/targets/10.0.0.9:80/healthy", 404)
    gateway.call("GET", "/upstreams/none/health", 404)


def test_a_mark_stays_with_its_server(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="u")
    gateway.post("/upstreams", name="u")
    made = gateway.post("/upstreams/u/targets", target="Srv.test:80")
    gateway.call("PUT", f"/upstreams/u/targets/{made['id']}/unhealthy", 204)

    def word() -> str:
        (row,) = gateway.call("GET", "/upstreams/u/health")["data"]
        return str(row["health"])

    # decK makes the new spelling first, then deletes the old id
    new = gateway.call("PUT", f"/upstreams/u/targets/{uuid4()}", 200, json={"target": "srv.test:80"})
    assert word() == "UNHEALTHY" and gateway.publisher.policy["services"][0]["upstream"]["targets"] == []
    gateway.call("DELETE", f"/upstreams/u/targets/{new['id']}", 204)
    gateway.post("/upstreams/u/targets", target="srv.test:80")
    assert word() == "HEALTHCHECKS_OFF", "the mark ended with its target"


def test_a_mark_that_was_not_stored_is_none(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="u")
    gateway.post("/upstreams", name="u")
    gateway.post("/upstreams/u/targets", target="10.0.0.1:80")
    gateway.publisher.fail = {"stage": OSError(errno.ENOSPC, "No space left on device")}
    gateway.call("PUT", "/upstreams/u/targets/10.0.0.1:80/unhealthy", 503)
    gateway.publisher.fail = {}
    gateway.post("/upstreams/u/targets", target="10.0.0.2:80")
    assert len(gateway.publisher.policy["services"][0]["upstream"]["targets"]) == 2


FILE = """
upstreams:
- name: api.internal
  hash_on: consumer
  targets:
  - {target: "10.0.0.1:80", weight: 10}
  - {target: "10.0.0.2"}
services:
- {name: s, host: api.internal, routes: [{name: r, paths: [/x]}]}
consumer_groups:
- name: gold
  plugins:
  - {name: rate-limiting, config: {minute: 5}}
"""


def test_a_file_has_upstreams_and_plugins_of_groups_and_a_dump_gives_them_back(
    gateway: Gateway, tmp_path: Path
) -> None:
    def load(text: str) -> None:
        gateway.call("POST", "/config", 201, content=text, headers={"Content-Type": "application/yaml"})

    load(FILE)
    assert len(gateway.publisher.policy["services"][0]["upstream"]["targets"]) == 2
    assert gateway.publisher.policy["tiers"][0]["limits"][0]["fields"]["requests"] == 5
    first = gateway.client.get("/config").text
    shown = yaml.safe_load(first)
    targets = {one["target"]: one.get("weight", 100) for one in shown["upstreams"][0]["targets"]}
    assert targets == {"10.0.0.1:80": 10, "10.0.0.2:8000": 100}
    assert shown["consumer_groups"][0]["plugins"][0]["config"] == {"minute": 5}
    load(first)
    assert gateway.client.get("/config").text == first
    twice = FILE.replace("10.0.0.2", "10.0.0.1:80")
    answer = gateway.client.post("/config", content=twice, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 400 and "stands twice" in answer.text
