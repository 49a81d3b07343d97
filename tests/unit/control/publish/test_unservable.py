"""Entities that workers could not load are refused before they are stored, with their field if it is known."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from aigw.config import ConfigErrors, read_text
from aigw.entities import Route, Service
from aigw.plugins.key_auth.schema import KeyAuthConfig
from conftest import Gateway

REGEXES = [
    r"a{,3}", r"\Z", r"a{2", r"\d{1000}{", r"(?#c)a", r"(?a:a)", r"\07", r"\é", r"\N{DOLLAR SIGN}", r"(a{1000}){1000}",
    r"(.*){5000}", r"a)|(b", "[a",
]  # fmt: skip
PATHS = ["/%00", "/%ff", "/%80", "/%0a", "/%7f", "/%5c", "/%2f/"]


def made(model: type[Route] | type[Service], **fields: object) -> None:
    model.model_validate({"id": "5f2b0e0c-6f0a-5d4e-9d3c-0a1e6b7c8d90", "created_at": 1, "updated_at": 1, **fields})


@pytest.mark.parametrize("regex", REGEXES)
def test_the_engine_of_workers_judges_regular_expressions(regex: str) -> None:
    for fields in ({"paths": [f"~/{regex}"]}, {"paths": ["/"], "headers": {"x-a": [f"~*{regex}"]}}):
        with pytest.raises(ValidationError, match="invalid regex"):
            made(Route, **fields)


def test_the_check_accepts_expressions_that_only_this_engine_knows() -> None:
    for regex in (r"\p{L}+", "a{1000}", "(?i)x", "(?<year>[0-9]{4})", "[a--b]"):
        made(Route, paths=[f"~/{regex}"], headers={"x-a": [f"~*{regex}"]})


@pytest.mark.parametrize("path", PATHS)
def test_a_route_refuses_a_path_that_no_request_can_have(path: str) -> None:
    with pytest.raises(ValidationError):
        made(Route, paths=[path])


def test_a_service_refuses_a_path_with_a_query() -> None:
    for path in ("/a?b", "/a#b", "/é", "/a b"):
        with pytest.raises(ValidationError):
            made(Service, host="h", path=path)


def test_the_check_refuses_hosts_and_realms_that_workers_refuse() -> None:
    for host in ("*.", "*.:80", ".*"):
        with pytest.raises(ValidationError):
            made(Route, hosts=[host])
    with pytest.raises(ValidationError, match="ASCII"):
        KeyAuthConfig.model_validate({"realm": "é"})


def test_a_finding_of_the_compiler_has_its_line() -> None:
    text = """services:
- name: s
  url: http://h/
  routes:
  - {name: a, paths: ["~/a{,3}", "/%00"]}
models:
  m: {upstreams: [{url: "http://h/é/v1"}]}
"""
    with pytest.raises(ConfigErrors) as wrong:
        read_text("f.yaml", text.encode(), {})
    assert [(f.line, f.path) for f in wrong.value.findings] == [
        (5, "services[0].routes[0].paths[0]"),
        (5, "services[0].routes[0].paths[1]"),
        (7, "models.m.upstreams[0].url"),
    ]


def test_an_entity_that_does_not_compile_is_not_stored_and_delays_nobody(gateway: Gateway) -> None:
    gateway.publisher.refuses = "/poison"
    gateway.post("/services", name="s", host="h")
    wrong = gateway.post("/services/s/routes", 400, name="bad", paths=["/poison"])
    assert wrong["message"] == "no worker could load this, so nothing was changed: route 'bad': refused"
    gateway.call("GET", "/routes/bad", 404)
    with ThreadPoolExecutor(8) as pool:  # in one group or in several, each gets its own answer
        paths = [f"/{name}" for name in ("a", "poison", "b", "c", "poison2", "d")]
        calls = [pool.submit(gateway.client.post, "/services/s/routes", json={"paths": [path]}) for path in paths]
    assert [call.result().status_code for call in calls] == [201, 400, 201, 201, 400, 201]
    assert len(gateway.publisher.policy["routes"]) == 4  # type: ignore[index]
    assert gateway.call("GET", "/status")["configuration"]["error"] is None


def test_an_unservable_file_changes_nothing_and_names_the_entity(gateway: Gateway, tmp_path: Path) -> None:
    gateway.publisher.refuses = "/poison"
    text = "services:\n- {name: s, url: http://h, routes: [{name: a, paths: [/poison]}]}\n"
    answer = gateway.call("POST", "/config", 400, json={"config": text})
    assert "route 'a'" in answer["message"], answer
    error = gateway.call("GET", "/status")["configuration"]["error"]
    assert (error["line"], "route 'a'" in error["message"]) == (2, True)
    gateway.call("POST", "/config", json={"config": text.replace("/poison", "/fine")})
    assert gateway.call("GET", "/status")["configuration"]["error"] is None
    assert len(gateway.publisher.policy["routes"]) == 1  # type: ignore[index]
