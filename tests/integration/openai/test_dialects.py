"""Clients of Azure's dialect, compressed bodies, and keys in several headers: the same models, gates and limits as on `/v1`."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator

import brotlicffi
import httpx2 as httpx
import openai
import pytest
import zstandard
from openai import AzureOpenAI, OpenAI

from tests.support.failing import Surface
from tests.support.surface import Caller, caller, chat

AZURE = "/openai/deployments/small-chat/chat/completions?api-version=2024-10-21"
CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in capitals": ("GZIP", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's header": ("deflate", lambda data: zlib.compress(data, wbits=-15)),
    "br": ("br", brotlicffi.compress),
    "zstd": ("zstd", zstandard.compress),
    "zstd in a stream": ("zstd", lambda data: _streamed(data)),
}


def _streamed(data: bytes) -> bytes:
    """A frame that does not tell its size, as streaming encoders write it."""
    encoder = zstandard.ZstdCompressor().compressobj()
    return encoder.compress(data) + encoder.flush()


@pytest.mark.parametrize("what", CODINGS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", AZURE])
def test_compressed_body_is_served_and_counts_once(surface: Surface, what: str, path: str) -> None:
    name, encode = CODINGS[what]
    who = caller(surface.gateway, "free")
    body = {**chat(), "prompt": "hi", "input": "hi"}
    answer = who.post(encode(json.dumps(body).encode()), path, **{"content-encoding": name})
    assert answer.status_code == 200, answer.text
    assert who.used() == [1]


def test_bound_of_the_tier_holds_for_the_decoded_body(surface: Surface) -> None:
    who = caller(surface.gateway, "free")  # 20,000 bytes
    body = gzip.compress(json.dumps({**chat(), "user": "x" * 20_000}).encode())
    assert len(body) < 1_000
    answer = who.post(body, **{"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert who.used() == [0]


@pytest.mark.parametrize("name", ["apikey", "api-key", "x-api-key", "authorization"])
@pytest.mark.parametrize("second", ["apikey", "api-key", "x-api-key"])
def test_same_key_in_two_headers_is_one_key(surface: Surface, name: str, second: str) -> None:
    who = caller(surface.gateway, "pro")
    value = who.key if name != "authorization" else f"Bearer {who.key}"
    for headers, status in (([(name, value), (second, who.key)], 200), ([(name, value), (second, "another")], 401)):
        answer = httpx.post(surface.gateway.proxy + AZURE, json=chat(), headers=headers, trust_env=False)
        assert answer.status_code == status, answer.text
    assert who.used() == [1]


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """The transport of the official clients."""
    with httpx.Client(trust_env=False) as client:
        yield client


def azure(who: Caller, http: httpx.Client, **more: str) -> AzureOpenAI:
    return AzureOpenAI(
        azure_endpoint=who.gateway.proxy, api_version="2024-10-21", api_key=who.key, http_client=http, **more
    )  # type: ignore[call-overload, no-any-return]


def test_azures_client_calls_the_same_models(surface: Surface, http: httpx.Client) -> None:
    who = caller(surface.gateway, "free")
    client = azure(who, http)
    plain = client.chat.completions.create(model="small-chat", messages=[{"role": "user", "content": "hi"}])
    assert plain.usage is not None and plain.usage.completion_tokens > 0
    stream = client.chat.completions.create(
        model="small-chat", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert client.embeddings.create(model="small-chat", input="hi").data
    assert client.completions.create(model="small-chat", prompt="hi").choices
    assert "small-chat" in {model.id for model in client.models.list()}
    assert who.used() == [4]


def test_azures_client_gets_the_same_refusals(surface: Surface, http: httpx.Client) -> None:
    who = caller(surface.gateway, "free")
    client = azure(who, http)
    hi = [{"role": "user", "content": "hi"}]
    for model, kind, code in (
        ("hidden-chat", openai.PermissionDeniedError, "model_not_allowed"),
        ("nothing", openai.NotFoundError, "model_not_found"),
    ):
        with pytest.raises(kind) as failed:
            client.chat.completions.create(model=model, messages=hi)  # type: ignore[call-overload]
        assert failed.value.code == code  # type: ignore[attr-defined]
    nobody = Caller(surface.gateway, "nobody", "sk-nobody")
    with pytest.raises(openai.AuthenticationError):
        azure(nobody, http).chat.completions.create(model="small-chat", messages=hi)  # type: ignore[call-overload]
    daily = caller(surface.gateway, "daily")
    limited = azure(daily, http)
    for _ in range(2):
        limited.chat.completions.create(model="small-chat", messages=hi)  # type: ignore[call-overload]
    with pytest.raises(openai.RateLimitError) as refused:
        limited.chat.completions.create(model="small-chat", messages=hi)  # type: ignore[call-overload]
    assert refused.value.code == "insufficient_quota"
    assert who.used() == [0]


def test_path_of_azure_names_the_model(surface: Surface, http: httpx.Client) -> None:
    who = caller(surface.gateway, "free")
    for body in ({"messages": [{"role": "user", "content": "hi"}]}, chat("hidden-chat"), {**chat(), "model": None}):
        answer = who.post(body, AZURE)
        assert answer.status_code == 200, answer.text
    client = azure(who, http, azure_deployment="small-chat")
    assert client.chat.completions.create(model="another", messages=[{"role": "user", "content": "hi"}]).choices
    refused = who.post(chat("small-chat"), AZURE.replace("small-chat", "hidden-chat"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert who.used() == [4]


def test_azures_second_interface_takes_openais_client(surface: Surface, http: httpx.Client) -> None:
    who = caller(surface.gateway, "free")
    client = OpenAI(base_url=surface.gateway.proxy + "/openai/v1/", api_key=who.key, http_client=http)
    assert client.chat.completions.create(model="small-chat", messages=[{"role": "user", "content": "hi"}]).choices
    assert client.models.retrieve("small-chat").id == "small-chat"
    assert who.used() == [1]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/files", "/openai/v1/responses"])
def test_endpoint_that_is_not_there_names_the_way_out(surface: Surface, path: str) -> None:
    answer = caller(surface.gateway, "pro").post({"model": "small-chat", "input": "hi"}, path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "unsupported_endpoint")
    assert path in error["message"] and "/v1/chat/completions" in error["message"]


def test_route_below_openai_keeps_its_requests(surface: Surface) -> None:
    made = surface.gateway.make("/services", name="theirs", url=surface.llm)
    surface.gateway.make(f"/services/{made['name']}/routes", name="theirs", paths=["/openai/deployments/theirs"])
    answer = httpx.get(surface.gateway.proxy + "/openai/deployments/theirs/__stats", trust_env=False)
    assert answer.status_code == 200 and "requests" in answer.json()
    httpx.delete(f"{surface.gateway.admin}/routes/theirs", trust_env=False)
    httpx.delete(f"{surface.gateway.admin}/services/theirs", trust_env=False)
