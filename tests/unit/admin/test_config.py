"""POST /config: a body of text or a field of a form; the refusal of another body names the right types."""

from typing import Any

import pytest

from conftest import Gateway

FORM = {"content-type": "application/x-www-form-urlencoded"}
TEXT = "tiers: {free: {}}"


@pytest.mark.parametrize("path", ["/config", "/config/diff"])
@pytest.mark.parametrize(
    "sent",
    [
        "tiers: {}",
        "&",
        "consumers: [{username: eve, keyauth_credentials: [{key: a-secret-key-0123456789}]}]",
        "file=tiers.yaml",
        "config=tiers: {a: {limits: [&one {requests: 1, per: day}]}}",
        "&".join(["a"] * 2000),
        b"tiers: {\xff: {}}",
    ],
)
def test_a_form_without_the_field_is_refused(gateway: Gateway, path: str, sent: str | bytes) -> None:
    refused = gateway.call("POST", path, 400, content=sent, headers=FORM)
    assert "'config' of a form (curl -F config=@FILE)" in refused["message"]
    assert "Content-Type: application/yaml" in refused["message"]
    assert "secret" not in refused["message"]
    assert gateway.call("GET", "/consumer_groups")["data"] == []


@pytest.mark.parametrize(
    "request_",
    [
        {"data": {"config": TEXT}},
        {"files": {"config": TEXT}},
        {"json": {"config": TEXT}},
        {"json": {"tiers": {"free": {}}}},
        {"content": TEXT, "headers": {"content-type": "application/yaml"}},
        {"content": TEXT},
    ],
)
def test_config_accepts_every_body_type(gateway: Gateway, request_: dict[str, Any]) -> None:
    assert gateway.call("POST", "/config", 201, **request_)["diff"]["added"] == 1


def test_the_refusal_of_a_body_type_names_the_right_ones(gateway: Gateway) -> None:
    refused = gateway.call("POST", "/config", 415, content=TEXT, headers={"content-type": "application/octet-stream"})
    assert "cannot read application/octet-stream: send the text" in refused["message"]


@pytest.mark.parametrize("kind", [{}, FORM, {"content-type": "application/yaml"}])
def test_an_empty_body_loads_the_file(gateway: Gateway, kind: dict[str, str]) -> None:
    refused = gateway.call("POST", "/config", headers=kind, expect=400)
    assert "there is no configuration file" in refused["message"]
