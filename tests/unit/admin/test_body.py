"""Forms: keys that spell a structure, text typed by the schema."""

import gzip
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigw.admin.body import parse_form
from aigw.admin.envelope import Refusal
from conftest import Gateway


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("config.minute=5", {"config": {"minute": "5"}}),
        ("config[minute]=5", {"config": {"minute": "5"}}),
        ("paths[]=/a&paths[]=/b", {"paths": ["/a", "/b"]}),
        ("paths[2]=/b&paths[1]=/a", {"paths": ["/a", "/b"]}),
        ("paths=/a&paths=/b", {"paths": ["/a", "/b"]}),
        ("paths=/a&paths=/b&paths=/c", {"paths": ["/a", "/b", "/c"]}),
        ("a.b[c]=d", {"a": {"b": {"c": "d"}}}),
        ("headers.x-version[]=v1&headers.x-version[]=v2", {"headers": {"x-version": ["v1", "v2"]}}),
        ("config.key_names[]=k", {"config": {"key_names": ["k"]}}),
        ("a=", {"a": ""}),
        ("a[1].b=c", {"a": [{"b": "c"}]}),
    ],
)
def test_form_keys_build_a_tree(text: str, value: dict[str, Any]) -> None:
    assert parse_form(text.encode()) == value


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=5)), max_size=8))
def test_any_form_gives_an_object_or_a_refusal(pairs: list[tuple[str, str]]) -> None:
    try:
        assert isinstance(parse_form(urlencode(pairs).encode()), dict)
    except Refusal as refusal:
        assert refusal.status == 400


def test_the_schema_gives_text_its_type(gateway: Gateway) -> None:
    route = gateway.call("POST", "/routes", 201, data={
        "paths": "/a", "strip_path": "false", "headers.X-Version": "v1", "regex_priority": "7", "name": ""})  # fmt: skip
    assert route["paths"] == ["/a"]
    assert (route["strip_path"], route["regex_priority"], route["name"]) == (False, 7, None)
    assert route["headers"] == {"X-Version": ["v1"]}
    wrong = gateway.call("POST", "/services", 400, data={"host": "h", "retries": "many", "enabled": "1"})
    assert wrong["fields"] == {"retries": "expected an integer", "enabled": "expected a boolean"}
    named = gateway.call("POST", "/consumers", 201, data={"username": "123"})
    assert named["username"] == "123"
    plugin = gateway.call("POST", "/plugins", 201, data={
        "name": "rate-limiting", "config[minute]": "5", "config.redis_port": "6380", "config.hide_client_headers": "true"})  # fmt: skip
    assert plugin["config"]["minute"] == 5
    assert plugin["config"]["redis"]["port"] == 6380
    assert plugin["config"]["hide_client_headers"] is True


def test_the_schema_gives_records_of_a_list_their_types(gateway: Gateway) -> None:
    form = {"limits[2].requests": "50", "limits[1][requests]": "5", "limits[1].per": "minute", "limits[2][per]": "hour",
            "limits[1].burst": "7", "allow.features[]": "standard"}  # fmt: skip
    tier = gateway.call("PUT", "/tiers/t", 200, data=form)
    assert [(limit["requests"], limit["per"], limit["burst"]) for limit in tier["limits"]] == [
        (5, "minute", 7), (50, "hour", None)]  # fmt: skip
    assert tier["allow"]["features"] == ["standard"]


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ('{"host": "a", "host": "b"}', "host"),
        ('{"host": "a", "h\\u006fst": "b"}', "host"),
        ('{"host": "a", "host": null}', "host"),
        ('{"name": "rate-limiting", "config": {"minute": 5, "minute": 5000}}', "minute"),
        ('{"host": "h", "tags": [{"x": 1, "x": 1}]}', "x"),
    ],
)
@pytest.mark.parametrize("path", ["/services", "/plugins", "/consumer_groups"])
def test_json_refuses_a_repeated_member(gateway: Gateway, path: str, text: str, twice: str) -> None:
    refused = gateway.call("POST", path, 400, content=text, headers={"content-type": "application/json"})
    assert refused == {"message": f"Cannot parse JSON body: '{twice}' stands twice"}


def test_a_form_refuses_a_repeated_configuration(gateway: Gateway) -> None:
    text = '{"config": "tiers: {a: {}}", "config": "tiers: {b: {}}"}'
    refused = gateway.call("POST", "/config", 400, content=text, headers={"content-type": "application/json"})
    assert refused == {"message": "Cannot parse JSON body: 'config' stands twice"}


@pytest.mark.parametrize("nested", ["[" * 1020 + "]" * 1020, '{"a":' * 1020 + "1" + "}" * 1020])
def test_deep_json_gets_an_answer(gateway: Gateway, nested: str) -> None:
    text = f'{{"host": "h", "tags": {nested}}}'
    gateway.call("POST", "/services", 400, content=text, headers={"content-type": "application/json"})


def test_numbers_of_any_length_get_an_answer(gateway: Gateway) -> None:
    text = f'{{"host": "h", "retries": {"9" * 6000}}}'
    gateway.call("POST", "/services", 400, content=text, headers={"content-type": "application/json"})


@pytest.mark.parametrize("path", ["/services", "/config", "/tiers/free"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_compressed_body_is_refused_with_the_reason(gateway: Gateway, path: str, kind: str) -> None:
    method = "PUT" if path.startswith("/tiers") else "POST"
    headers = {"content-type": kind, "content-encoding": "GZip"}
    answer = gateway.client.request(method, path, content=gzip.compress(b"{}"), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert answer.json() == {
        "message": "a body with Content-Encoding 'gzip' cannot be read: send it without an encoding"
    }
    plain = {"content-type": "application/json", "content-encoding": "identity"}
    gateway.call("POST", "/services", 201, content=b'{"host": "h"}', headers=plain)


def test_multipart_forms_are_read(gateway: Gateway) -> None:
    service = gateway.call(
        "POST", "/services", 201, files={"name": (None, "s"), "url": (None, "http://h:1/p"), "tags[]": (None, "t")}
    )
    assert (service["name"], service["port"], service["tags"]) == ("s", 1, ["t"])
    broken = gateway.client.post("/services", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert broken.status_code == 400
    many = {f"a{i}": (None, "1") for i in range(1001)}
    assert gateway.call("POST", "/services", 400, files=many) == {"message": "Too many arguments"}
