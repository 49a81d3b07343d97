"""Bodies and requests that the Admin API must refuse in words, and faults that it must show, log and count."""

import logging

import httpx
import pytest

from aigw.admin.body import MAX_NESTING
from aigw.admin.guard import Guard
from aigw.schema.violations import MOST_FOUND, flatten
from aigw.types import HostPort
from conftest import Gateway

FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}


def send(gateway: Gateway, path: str, body: str | bytes, kind: dict[str, str] = JSON) -> httpx.Response:
    answer: httpx.Response = gateway.client.post(path, content=body, headers=kind)
    return answer


@pytest.mark.parametrize(
    "text",
    ["name=acl&name=acl", "name.x=", "name[]=", "name[]=acl", "name[1]=acl", "name[a]=b", "name.x.y.z=1",
     "name[][a]=1&name[]=2", "name[]=a&name.b=c"],
)  # fmt: skip
@pytest.mark.parametrize(
    "path", ["/plugins", "/routes/r/plugins", "/schemas/plugins/validate", "/services", "/consumer_groups"]
)
def test_list_or_record_in_a_text_field_of_a_form_is_a_schema_violation(gateway: Gateway, path: str, text: str) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/services/s/routes", name="r", paths=["/a"])
    answer = send(gateway, path, text + "&config.minute=5", FORM)
    found = answer.json()
    assert (answer.status_code, found["code"], found["name"]) == (400, 2, "schema violation")
    assert "name" in found["fields"]


@pytest.mark.parametrize("depth", [MAX_NESTING + 2, 300, 900, 100_000])
@pytest.mark.parametrize("inner", [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("path", ["/services", "/plugins", "/schemas/services/validate", "/config"])
def test_body_nested_too_deep_is_400(gateway: Gateway, path: str, inner: tuple[str, str], depth: int) -> None:
    opened, closed = inner
    answer = send(gateway, path, '{"tags":' + opened * depth + "1" + closed * depth + "}")
    assert answer.status_code == 400 and answer.json()["message"], answer.text


def test_nesting_within_the_bound_is_judged_by_the_schema(gateway: Gateway) -> None:
    depth = MAX_NESTING - 1
    answer = send(gateway, "/services", '{"host":"h","tags":' + "[" * depth + "]" * depth + "}")
    assert (answer.status_code, answer.json()["code"]) == (400, 2)


def test_list_of_problems_is_bounded(gateway: Gateway) -> None:
    body = {f"unknown-{n:06}": 1 for n in range(20_000)}
    answer = gateway.client.post("/services", json={"host": "h", **body})
    found = answer.json()
    assert answer.status_code == 400 and len(answer.content) < 64 * 1024
    assert len(list(flatten(found["fields"]))) == MOST_FOUND
    assert found["message"].startswith("20000 schema violations (unknown-000000: unknown field; ")
    assert found["message"].endswith("; and 19900 more)")
    answer = gateway.client.post("/routes", json={"paths": ["x"] * 1000})
    assert len(list(flatten(answer.json()["fields"]))) <= MOST_FOUND


def test_fault_is_json_with_its_request_id_in_log_and_metrics(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[object]:
        raise ZeroDivisionError("secret detail")

    assert len(gateway.client.get("/services").headers["x-request-id"]) == 32
    monkeypatch.setattr(gateway.publisher, "slots", fail)
    with caplog.at_level(logging.ERROR):
        answer = gateway.client.get("/status")
    request_id = answer.headers["x-request-id"]
    assert answer.status_code == 500
    assert answer.json() == {"message": "An unexpected error occurred", "request_id": request_id}
    (record,) = [record for record in caplog.records if record.name == "aigw.admin"]
    assert request_id in record.getMessage() and record.exc_info is not None
    monkeypatch.undo()
    assert "aigw_admin_faults_total 1\n" in gateway.client.get("/metrics").text


def test_line_of_a_fault_has_no_key_of_the_path(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_key: bytes) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(gateway.publisher, "hash_key", fail)
    with caplog.at_level(logging.ERROR):
        gateway.call("GET", "/key-auths/a-key-in-the-path", 500)
    (record,) = [record for record in caplog.records if record.name == "aigw.admin"]
    assert record.getMessage().endswith("GET /key-auths/***")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([("host", "127.0.0.1:8001")], None),
        ([], 400),
        ([("host", "127.0.0.1:8001")] * 2, 400),
        ([("host", "127.0.0.1:8001"), ("origin", "http://127.0.0.1:8001"), ("origin", "https://evil.example")], 403),
    ],
)
def test_request_has_exactly_one_host(lines: list[tuple[str, str]], status: int | None) -> None:
    refused = Guard(HostPort("127.0.0.1", 8001), None).refuse(lines)
    assert (refused[0] if refused else None) == status


@pytest.mark.parametrize(
    ("tokens", "passes"),
    [
        (["kong-admin-token: t"], True),
        (["authorization: Bearer t"], True),
        (["kong-admin-token: t", "authorization: Bearer t"], True),
        (["kong-admin-token: t", "authorization: Basic other"], True),
        (["kong-admin-token: t", "kong-admin-token: other"], False),
        (["kong-admin-token: other", "kong-admin-token: t"], False),
        (["kong-admin-token: t", "authorization: Bearer other"], False),
        (["authorization: Bearer other", "authorization: Bearer t"], False),
        ([], False),
    ],
)
def test_two_values_of_the_token_are_401(tokens: list[str], passes: bool) -> None:
    lines = [("host", "127.0.0.1:8001"), *(tuple(one.split(": ")) for one in tokens)]
    refused = Guard(HostPort("127.0.0.1", 8001), "t").refuse(lines)  # type: ignore[arg-type]
    assert (refused is None) == passes and (passes or refused == (401, "Unauthorized"))
