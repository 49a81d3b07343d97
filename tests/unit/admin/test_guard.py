"""The guard of the Admin API accepts its own Host and Origin, and in token mode only requests with the token."""

from pathlib import Path

import pytest

from aigw.admin.guard import Guard
from aigw.errors import ConfigError
from aigw.types import HostPort
from conftest import Gateway


@pytest.mark.parametrize(
    ("host", "passes"),
    [("127.0.0.1:8001", True), ("localhost:8001", True), ("LOCALHOST", True), ("[::1]:8001", True), ("127.8.8.8", True),
     ("evil.example", False), ("localhost.evil.example", False), ("127.0.0.1.evil.example:8001", False),
     ("10.0.0.1:8001", False), ("a@127.0.0.1", False), ("127.0.0.1:8001/x", False)],
)  # fmt: skip
def test_foreign_hosts_are_refused(gateway: Gateway, host: str, passes: bool) -> None:
    assert gateway.client.get("/", headers={"Host": host}).status_code == (200 if passes else 403)


@pytest.mark.parametrize("host", ["", " ", "\t"])
def test_an_empty_host_is_a_bad_request(gateway: Gateway, host: str) -> None:
    answer = gateway.client.get("/", headers={"Host": host})
    assert (answer.status_code, "Host header is empty" in answer.json()["message"]) == (400, True)


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("http://127.0.0.1:8001", True),
        ("http://127.0.0.1:9000", False),
        ("https://evil.example", False),
        ("null", False),
    ],
)
def test_foreign_origins_are_refused(gateway: Gateway, origin: str, passes: bool) -> None:
    answer = gateway.client.post("/consumers", data={"username": "x"}, headers={"Origin": origin})
    assert answer.status_code == (201 if passes else 403)
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_token_mode_refuses_everything_without_the_token(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, token="s3cret").open()
    try:
        for path in ("/", "/services", "/status", "/metrics", "/livez/x", "/nope"):
            for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE"):
                for headers in ({}, {"Kong-Admin-Token": "s3cre"}, {"Kong-Admin-Token": "s3cret2"}):
                    assert gateway.client.request(method, path, headers=headers).status_code == 401
        assert gateway.client.get("/services", headers={"Kong-Admin-Token": "s3cret"}).status_code == 200
    finally:
        gateway.close()


@pytest.mark.parametrize("host", ["aigw", "aigw:8001", "gateway.example", "10.0.0.1:8001", "127.0.0.1:8001"])
@pytest.mark.parametrize("bound", ["0.0.0.0", "127.0.0.1", "10.1.1.1"])
def test_the_token_allows_any_host_name(bound: str, host: str) -> None:
    guard = Guard(HostPort(bound, 8001), "s3cret")
    right = {"host": host, "kong-admin-token": "s3cret"}
    assert guard.refuse(right.items()) is None
    assert guard.refuse({**right, "origin": f"http://{host}"}.items()) is None
    for more in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        refused = guard.refuse({**right, **more}.items())
        assert refused is not None and refused[0] == 403, more


@pytest.mark.parametrize("sent", [{}, {"kong-admin-token": ""}, {"kong-admin-token": "s3cre"}])
def test_a_foreign_host_without_the_token_is_refused(sent: dict[str, str]) -> None:
    guard = Guard(HostPort("0.0.0.0", 8001), "s3cret")
    assert guard.refuse({"host": "10.0.0.1:8001", **sent}.items()) == (401, "Unauthorized")
    refused = guard.refuse({"host": "evil.example", **sent}.items())
    assert (
        refused is not None
        and refused[0] == 403
        and "send the token (Kong-Admin-Token, or Authorization: Bearer)" in refused[1]
    )


@pytest.mark.parametrize(
    ("sent", "passes"),
    [
        ("Bearer s3cret", True),
        ("bearer  s3cret", True),
        ("Bearer s3cre", False),
        ("s3cret", False),
        ("Basic s3cret", False),
    ],
)
def test_bearer_is_the_token(sent: str, passes: bool) -> None:
    guard = Guard(HostPort("0.0.0.0", 8001), "s3cret")
    assert (guard.refuse({"host": "10.0.0.1", "authorization": sent}.items()) is None) == passes


def test_an_empty_token_counts_as_unset() -> None:
    guard = Guard(HostPort("127.0.0.1", 8001), "")
    assert guard.refuse({"host": "127.0.0.1:8001", "kong-admin-token": ""}.items()) is None
    assert guard.refuse({"host": "evil.example", "kong-admin-token": ""}.items()) is not None


def test_a_wildcard_bind_accepts_addresses_and_refuses_names() -> None:
    guard = Guard(HostPort("0.0.0.0", 8001), None)
    assert guard.refuse({"host": "10.0.0.1:8001"}.items()) is None
    assert guard.refuse({"host": "evil.example:8001"}.items()) is not None


@pytest.mark.parametrize("text", ["8001", ":8001", "::1:8001", "h:", "h:x", "h:65536", "h:-1"])
def test_host_port_refuses_malformed_addresses(text: str) -> None:
    with pytest.raises(ConfigError):
        HostPort.parse(text)
    assert str(HostPort.parse("[::1]:8001")) == "[::1]:8001"
