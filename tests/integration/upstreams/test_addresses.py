"""Upstreams at any address: path and query of the base URL, own headers and arguments, other headers for the key, any model's name."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, start_configured
from tests.support.wire import Message, Upstream, upstream

SECRET = "planted-header-0123456789"
ARGUMENT = "planted argument&=0123456789"
NAME = '/models/a "quoted" \\ ünï😀 name, 32B'
PATHS = ("/chat/completions", "/completions", "/embeddings")
UPSTREAMS: dict[str, Json] = {
    "bare": {"url": ""},
    "slash": {"url": "/"},
    "deep": {"url": "/openai/deployments/a%20b%2Fc:d/"},
    "azure": {
        "url": "/openai/deployments/x?api-version=2026-05-01&b=%20",
        "api_key": "${KEY}",
        "auth": {"header": "api-key", "scheme": ""},
    },
    "gemini": {"url": "/v1beta/openai", "query": {"key": "${ARGUMENT}", "a b": "c&d"}, "headers": {"x-goog-user_project": "p"}},
    "token": {"url": "/v1", "api_key": "${KEY}", "auth": {"scheme": "Token"}},
    "headers": {"url": "/v1", "headers": {"X-Team": "${SECRET}", "user-agent": "ours", "Authorization": "Basic ${SECRET}"}},
    "named": {"url": "/v1", "model": NAME},
}  # fmt: skip


@dataclass(frozen=True)
class World:
    gateway: Gateway
    upstream: Upstream
    who: Caller

    def sent(self, model: str, path: str = "/chat/completions", **headers: str) -> Message:
        answer = self.who.post({**chat(model), "prompt": "x", "input": "x"}, "/v1" + path, **headers)
        assert answer.status_code == 200, answer.text
        (request,) = self.upstream.take()
        return request


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    def answer(_: Message) -> bytes:
        body = b'{"choices":[],"usage":{"prompt_tokens":1}}'
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    with upstream(answer) as raw:
        models = {name: {"upstreams": [{**one, "url": raw.url + one["url"]}]} for name, one in UPSTREAMS.items()}
        folder = tmp_path_factory.mktemp("addresses")
        variables = {"KEY": "k-0123456789abcdef", "SECRET": SECRET, "ARGUMENT": ARGUMENT}
        gateway = start_configured(folder / "data", {"models": models, "tiers": {"open": {}}}, env=variables)
        yield World(gateway, raw, caller(gateway, "open"))
        gateway.process.end()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("model", "base", "query"),
    [
        ("bare", "", ""),
        ("slash", "", ""),
        ("deep", "/openai/deployments/a%20b%2Fc:d", ""),
        ("azure", "/openai/deployments/x", "api-version=2026-05-01&b=%20"),
        ("gemini", "/v1beta/openai", "key=planted%20argument%26%3D0123456789&a%20b=c%26d"),
    ],
)
def test_endpoints_path_is_appended_and_the_query_kept(
    world: World, path: str, model: str, base: str, query: str
) -> None:
    assert world.sent(model, path).target == base + path + ("?" + query if query else "")
    theirs = f"{path}?x=%2B1&api-version=other&api%2Dversion=third&a+b=4&key=theirs&apikey=theirs&y"
    own = {"azure": "x=%2B1&a+b=4&key=theirs&y", "gemini": "x=%2B1&api-version=other&api%2Dversion=third&y"}
    others = own.get(model, "x=%2B1&api-version=other&api%2Dversion=third&a+b=4&key=theirs&y")
    assert world.sent(model, theirs).target == f"{base}{path}?{query + '&' if query else ''}{others}"


def test_key_travels_in_the_header_that_the_upstream_reads(world: World) -> None:
    sent = world.sent("azure")
    assert (sent.one("api-key"), sent.all("authorization")) == ("k-0123456789abcdef", [])
    assert world.sent("token").one("authorization") == "Token k-0123456789abcdef"


def test_own_headers_replace_the_callers(world: World) -> None:
    sent = world.sent(
        "headers", **{"X-Team": "theirs", "x_team": "theirs", "User-Agent": "theirs", "x-other_name": "kept"}
    )
    assert sent.one("x-team") == SECRET and sent.all("x_team") == []
    assert (sent.one("user-agent"), sent.one("authorization")) == ("ours", f"Basic {SECRET}")
    assert sent.one("x-other_name") == "kept" and "theirs" not in str(sent.headers)
    sent = world.sent("gemini", **{"x-goog-user-project": "theirs"})
    assert "theirs" not in str(sent.headers) and sent.one("x-goog-user_project") == "p"


@pytest.mark.parametrize("path", PATHS)
def test_name_of_a_model_is_the_upstreams_business(world: World, path: str) -> None:
    assert world.sent("named", path).json()["model"] == NAME


def test_secrets_appear_nowhere(world: World) -> None:
    world.sent("headers")
    world.sent("gemini")
    pages = [
        httpx.get(world.gateway.admin + path, trust_env=False).text
        for path in ("/models", "/models/gemini", "/models/headers", "/metrics", "/status", "/config")
    ]
    for secret in (SECRET, ARGUMENT, ARGUMENT.replace(" ", "%20"), "k-0123456789abcdef"):
        assert all(secret not in page for page in pages), secret
    shown = json.loads(pages[2])
    assert shown["upstreams"][0]["headers"] == {"X-Team": None, "user-agent": "ours", "Authorization": None}


def test_changed_secret_is_in_force_after_a_reload(world: World) -> None:
    secret = world.gateway.data.with_name("secret.txt")
    file = world.gateway.data.with_suffix(".yaml")
    secret.write_text("first-0123456789")
    configuration = json.loads(file.read_text())
    one = {"url": world.upstream.url, "headers": {"x-rotating": f"${{file:{secret}}}"}}
    configuration["models"]["rotating"] = {"upstreams": [one]}
    file.write_text(json.dumps(configuration))
    wait_until(lambda: world.who.get("/v1/models/rotating").status_code == 200, "the model is in force")
    assert world.sent("rotating").one("x-rotating") == "first-0123456789"
    secret.write_text("second-0123456789")
    wait_until(lambda: world.sent("rotating").one("x-rotating") == "second-0123456789", "the new secret is in force")
