"""Pages of other origins: `v1.cors` of the file, and Kong's plugin `cors` on routes.

A preflight needs no key and counts nothing; every answer to a page has the headers, refusals too; without rules no answer has them.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, start_configured, stats
from tests.support.wire import Connection, upstream

APP = "https://app.example"
DAY = {"requests": 3, "per": "day"}
ACCESS = "access-control-"
New = Callable[..., Gateway]


def configuration(url: str, **v1: object) -> Json:
    made: Json = {"models": {"small": {"upstreams": [{"url": url + "/v1"}]}}, "tiers": {"daily": {"limits": [DAY]}}}
    return {**made, "v1": {"cors": v1}} if v1 else made


@pytest.fixture(scope="module")
def gate(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two origins may call, one with a port that its scheme has by default."""
    folder = tmp_path_factory.mktemp("cors")
    v1: Json = {"origins": [APP, "http://localhost:80"], "headers": ["authorization", "content-type"], "max_age": "2m"}
    gateway = start_configured(folder / "data", configuration(mock_llm, **v1), "--drain-timeout", "1")
    yield gateway
    gateway.process.end()


def access(answer: httpx.Response) -> dict[str, str]:
    """The headers of an answer that are for pages."""
    return {name.removeprefix(ACCESS): value for name, value in answer.headers.items() if name.startswith(ACCESS)}


def preflight(url: str, origin: str = APP, asked: str = "authorization", method: str = "POST") -> httpx.Response:
    headers = {"origin": origin, f"{ACCESS}request-method": method, f"{ACCESS}request-headers": asked}
    return httpx.options(url, headers=headers, trust_env=False)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/responses", "/openai/v1/embeddings"])
def test_preflight_needs_no_key_and_counts_nothing(gate: Gateway, mock_llm: str, path: str) -> None:
    before = stats(mock_llm)
    answer = preflight(gate.proxy + path, asked="authorization,x-stainless-os,x-other")
    assert (answer.status_code, answer.content) == (204, b"")
    assert access(answer) == {
        "allow-origin": APP,
        "allow-headers": "authorization, content-type, x-stainless-os",
        "allow-methods": "GET, HEAD, POST",
        "max-age": "120",
    }
    assert answer.headers["vary"] == "Origin" and "retry-after" not in answer.headers
    assert stats(mock_llm) == before


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://app.example", "https://app.example:8443", "https://app.example.evil", "null"],
)
def test_another_origin_gets_no_permission(gate: Gateway, origin: str) -> None:
    for answer in (
        preflight(gate.proxy + "/v1/chat/completions", origin),
        httpx.get(gate.proxy + "/v1/models", headers={"origin": origin}, trust_env=False),
    ):
        assert "allow-origin" not in access(answer) and answer.headers["vary"] == "Origin"


def test_request_without_an_origin_gets_no_headers(gate: Gateway) -> None:
    assert access(httpx.get(gate.proxy + "/v1/models", trust_env=False)) == {}
    answer = httpx.options(gate.proxy + "/v1/chat/completions", headers={"origin": APP}, trust_env=False)
    assert answer.status_code == 405  # no preflight: it asks for no method


def check_readable(answer: httpx.Response, status: int, origin: str = APP) -> None:
    """A page can read this answer and the headers that tell about limits."""
    assert answer.status_code == status, answer.text
    found = access(answer)
    assert found["allow-origin"] == origin and "allow-credentials" not in found
    exposed = found["expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "x-ratelimit-remaining-requests", "x-should-retry"} <= set(exposed)
    assert "Origin" in answer.headers["vary"]


def test_page_can_read_answers_and_refusals(gate: Gateway) -> None:
    who = caller(gate, "daily")
    nobody = Caller(gate, "nobody", "sk-nobody")
    none = caller(gate, None)
    check_readable(nobody.post(chat("small"), origin=APP), 401)
    check_readable(none.post(chat("small"), origin=APP), 403)
    check_readable(who.post(b"{", origin=APP), 400)
    check_readable(who.post(chat("small"), "/v1/responses", origin=APP), 404)
    check_readable(who.post(chat("small"), origin="http://localhost"), 200, "http://localhost")
    check_readable(who.post({**chat("small"), "stream": True}, origin=APP), 200)
    check_readable(who.post(chat("small"), "/openai/deployments/small/chat/completions", origin=APP), 200)
    check_readable(who.post(chat("small"), origin=APP), 429)
    models = {"authorization": f"Bearer {who.key}", "origin": APP}
    check_readable(httpx.get(gate.proxy + "/v1/models", headers=models, trust_env=False), 200)
    assert who.used() == [3]


def test_page_can_read_that_its_body_is_too_large(gate: Gateway) -> None:
    who = caller(gate, "daily")
    lines = [who.bearer, f"Origin: {APP}", f"Content-Length: {11 * 2**20}"]
    request = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "Host: x", *lines, "", ""])
    with Connection(gate.proxy) as connection:
        answer = connection.ask(request.encode())
    assert (answer.status, answer.one(f"{ACCESS}allow-origin")) == (413, APP)


def test_page_can_read_that_an_upstream_failed(tmp_path: Path) -> None:
    file = tmp_path / "data"
    gateway = start_configured(file, configuration("http://127.0.0.1:9", origins=["*"]), "--drain-timeout", "1")
    try:
        who = caller(gateway, "daily")
        answer = who.post(chat("small"), origin=APP)
        check = access(answer)
        assert answer.status_code in (502, 503) and check["allow-origin"] == "*" and "vary" not in answer.headers
        asked = preflight(gateway.proxy + "/v1/chat/completions", asked="x-any")
        assert access(asked)["allow-origin"] == "*" and "allow-credentials" not in access(asked)
    finally:
        gateway.process.end()


def test_headers_of_a_models_upstream_about_pages_stay_behind(tmp_path: Path) -> None:
    body = b'{"object":"chat.completion","choices":[]}'
    lines = [
        "Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "Alt-Svc: h3=x", "CF-Ray: 1", "NEL: {}",
        "Strict-Transport-Security: max-age=1", "Set-Cookie: a=b", "Server: cloudflare", "Vary: Accept-Encoding", "X-Theirs: kept",
    ]  # fmt: skip
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, f"Content-Length: {len(body)}", "", ""]).encode()
    with upstream(lambda _: head + body) as other:
        gateway = start_configured(tmp_path / "data", configuration(other.url, origins=[APP]), "--drain-timeout", "1")
        try:
            who = caller(gateway, "daily")
            plain, page = who.post(chat("small")), who.post(chat("small"), origin=APP)
        finally:
            gateway.process.end()
    assert access(plain) == {} and plain.headers["vary"] == "Accept-Encoding"
    for answer in (plain, page):
        assert answer.headers["x-theirs"] == "kept" and answer.headers["server"].startswith("aigw/")
        assert not {"alt-svc", "cf-ray", "nel", "strict-transport-security", "set-cookie"} & set(answer.headers)
    assert access(page)["allow-origin"] == APP and "allow-credentials" not in access(page)
    assert page.headers["vary"] == "Accept-Encoding, Origin"


def test_rules_come_and_go_with_the_file(mock_llm: str, tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "data.yaml"
    gateway = start_configured(data, configuration(mock_llm), "--drain-timeout", "1")
    try:
        url = gateway.proxy + "/v1/chat/completions"
        assert preflight(url).status_code == 405 and access(preflight(url)) == {}
        file.write_text(json.dumps(configuration(mock_llm, origins=[APP])))
        wait_until(lambda: preflight(url).status_code == 204, "the rules are in force")
        dump = httpx.get(gateway.admin + "/config", trust_env=False).text
        assert APP in dump
        file.write_text(json.dumps(configuration(mock_llm)))
        wait_until(lambda: preflight(url).status_code == 405, "the rules are gone")
    finally:
        gateway.process.end()


CONFIGS: dict[str, tuple[Json, str, Json]] = {
    "every page": ({}, APP, {"allow-origin": "*"}),
    "every page by a star": ({"origins": ["*"]}, APP, {"allow-origin": "*"}),
    "one origin": ({"origins": [APP]}, "https://other.example", {"allow-origin": APP}),
    "one of several": ({"origins": [APP, "http://b.example:80"]}, "http://b.example", {"allow-origin": "http://b.example"}),
    "none of several": ({"origins": [APP, "http://b.example"]}, "https://evil.example", {}),
    "an expression": ({"origins": [r"https://.*\.example"]}, "https://x.example", {"allow-origin": "https://x.example"}),
    "an expression of a host": ({"origins": [r"^(.+\.)?b\.example$"]}, "http://a.b.example:81", {"allow-origin": "http://a.b.example:81"}),
    "an expression that does not match": ({"origins": [r"https://.*\.example"]}, "https://x.example.evil", {}),
    "cookies of every page": ({"credentials": True}, APP, {"allow-origin": APP, "allow-credentials": "true"}),
    "cookies of one": ({"credentials": True, "origins": [APP]}, APP, {"allow-origin": APP, "allow-credentials": "true"}),
    "exposed": ({"exposed_headers": ["x-a", "x-b"]}, APP, {"allow-origin": "*", "expose-headers": "x-a,x-b"}),
}  # fmt: skip


@pytest.mark.parametrize("what", CONFIGS)
def test_plugin_names_the_page_as_kong_does(new_gateway: New, echo: str, what: str) -> None:
    config, origin, wanted = CONFIGS[what]
    gateway = new_gateway()
    gateway.route(echo, "/open")
    gateway.make("/plugins", name="key-auth")
    gateway.make("/routes/s1-route/plugins", name="cors", config=config)
    url = gateway.proxy + "/open/get"
    refused = httpx.get(url, headers={"origin": origin}, trust_env=False)
    assert refused.status_code == 401 and access(refused) == wanted
    asked = preflight(url, origin, "x-any", "PUT")
    assert asked.status_code == 200
    without = {name: value for name, value in wanted.items() if name != "expose-headers"}
    methods = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT"
    assert access(asked) == {**without, "allow-headers": "x-any", "allow-methods": methods}
    gateway.make("/consumers", username="u")
    gateway.make("/consumers/u/key-auth", key="key-of-u-000000")
    passed = httpx.get(url, headers={"origin": origin, "apikey": "key-of-u-000000"}, trust_env=False)
    assert passed.status_code == 200 and access(passed) == wanted


def test_plugin_takes_kongs_fields(new_gateway: New, echo: str) -> None:
    gateway = new_gateway()
    gateway.route(echo, "/open")
    config: Json = {"methods": ["GET"], "headers": ["x-a", "x-b"], "max_age": 7, "private_network": True}
    config |= {"origins": [APP, "https://b.example"], "allow_origin_absent": False}
    made = gateway.make("/services/s1/plugins", name="cors", config=config)
    url = gateway.proxy + "/open/get"
    assert access(httpx.get(url, trust_env=False)) == {}
    headers = {"origin": APP, f"{ACCESS}request-method": "GET", f"{ACCESS}request-private-network": "true"}
    found = access(httpx.options(url, headers=headers, trust_env=False))
    assert found == {
        "allow-origin": APP,
        "allow-headers": "x-a,x-b",
        "allow-methods": "GET",
        "max-age": "7",
        "allow-private-network": "true",
    }
    patched = httpx.patch(
        f"{gateway.admin}/plugins/{made['id']}", json={"config": {"preflight_continue": True}}, trust_env=False
    )
    assert patched.status_code == 200
    assert access(httpx.options(url, headers=headers, trust_env=False)) == {}
    absent = gateway.make("/consumers", username="c")
    refused = httpx.post(f"{gateway.admin}/consumers/{absent['id']}/plugins", json={"name": "cors"}, trust_env=False)
    assert refused.status_code == 400
    wrong = httpx.post(
        f"{gateway.admin}/plugins", json={"name": "cors", "config": {"origins": ["(("]}}, trust_env=False
    )
    assert wrong.status_code == 400 and "not a valid regex" in wrong.text


def test_preflight_of_a_limited_route_counts_nothing(new_gateway: New, echo: str) -> None:
    gateway = new_gateway()
    gateway.route(echo, "/open")
    gateway.make("/plugins", name="rate-limiting", config={"minute": 100, "limit_by": "ip"})
    gateway.make("/plugins", name="cors")
    url = gateway.proxy + "/open/get"
    for _ in range(3):
        assert "ratelimit-remaining" not in preflight(url).headers
    answer = httpx.get(url, headers={"origin": APP}, trust_env=False)
    assert answer.headers["ratelimit-remaining"] == "99" and access(answer)["allow-origin"] == "*"
