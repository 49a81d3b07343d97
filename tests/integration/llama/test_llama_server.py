"""A real model server behind the gateway: the usage of a call through the gateway equals that of a direct call.

llama.cpp's server runs a model of one layer that the test writes. Skips where the server is not built (`make llama`).
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support import llama
from tests.support.gguf import write_model
from tests.support.processes import Gateway, Process, wait_until
from tests.support.surface import Caller, Json, caller, events, metric, start_configured

ASKED: Json = {"max_tokens": 6, "temperature": 0, "seed": 1, "cache_prompt": False}
CHAT: Json = {"messages": [{"role": "user", "content": "How is the weather?"}], **ASKED}
TEXT: Json = {"prompt": "How is the weather?", **ASKED}
CALLS = {"chat": ("/v1/chat/completions", CHAT), "completions": ("/v1/completions", TEXT)}


@dataclass(frozen=True)
class Fleet:
    """The gateway and the servers behind it: one for texts, one for embeddings."""

    gateway: Gateway
    texts: str
    embeddings: str


def start_server(program: Path, model: Path, *arguments: str) -> tuple[Process, str]:
    """Start llama.cpp's server on a free port. Returns the process and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(program), "--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ctx-size", "512", "--parallel", "2", "--threads", "1", *arguments]
    process = Process(command, stream="both")
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(url + "/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(ready, "llama.cpp's server is ready")
    return process, url


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    program = llama.find()
    if program is None:
        pytest.skip("needs llama.cpp's server: run make llama, or name one in AIGW_TEST_LLAMA_SERVER")
    folder = tmp_path_factory.mktemp("llama")
    model = folder / "tiny.gguf"
    write_model(model)
    with ExitStack() as stack:
        texts, texts_url = start_server(program, model)
        stack.callback(texts.end)
        vectors, vectors_url = start_server(program, model, "--embeddings", "--pooling", "mean")
        stack.callback(vectors.end)
        models = {
            "tiny": {"upstreams": [{"url": texts_url + "/v1"}]},
            "vectors": {"upstreams": [{"url": vectors_url + "/v1"}]},
        }
        gateway = start_configured(folder / "data", {"models": models, "tiers": {"pro": {}}}, "--drain-timeout", "1")
        stack.callback(gateway.process.end)
        yield Fleet(gateway, texts_url, vectors_url)


def tokens(fleet: Fleet, kind: str) -> float:
    return metric(fleet.gateway, "aigw_tokens_total", **{"class": kind})


def counted(fleet: Fleet, before: list[float], usage: Json) -> None:
    """The gateway's counters grew by the usage that the server reported."""
    wanted = [usage["prompt_tokens"], usage.get("completion_tokens", 0)]
    wait_until(
        lambda: [tokens(fleet, "input") - before[0], tokens(fleet, "output") - before[1]] == wanted,
        f"the gateway counted {wanted}",
    )


def direct(url: str, path: str, body: Json) -> httpx.Response:
    answer = httpx.post(url + path, json=body, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture
def who(fleet: Fleet) -> Caller:
    return caller(fleet.gateway, "pro")


@pytest.mark.parametrize("call", CALLS)
def test_plain_call_has_the_servers_usage(fleet: Fleet, who: Caller, call: str) -> None:
    path, body = CALLS[call]
    before = [tokens(fleet, "input"), tokens(fleet, "output")]
    straight = direct(fleet.texts, path, {"model": "tiny", **body}).json()
    through = who.post({"model": "tiny", **body}, path).json()
    assert through["usage"] == straight["usage"] and straight["usage"]["completion_tokens"] == 6
    assert through["choices"] == straight["choices"]
    counted(fleet, before, straight["usage"])


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("asked", [True, False])
def test_stream_has_the_servers_usage(fleet: Fleet, who: Caller, call: str, asked: bool) -> None:
    path, body = CALLS[call]
    body = {"model": "tiny", "stream": True, **body}
    with_usage = {**body, "stream_options": {"include_usage": True}}
    before = [tokens(fleet, "input"), tokens(fleet, "output")]
    straight = [event for event in events(direct(fleet.texts, path, with_usage).content) if isinstance(event, dict)]
    answer = who.post(with_usage if asked else body, path)
    *pieces, done = events(answer.content)
    through = [event for event in pieces if isinstance(event, dict)]
    assert answer.status_code == 200 and done == "[DONE]"
    (usage,) = [event["usage"] for event in straight if event.get("usage")]
    # llama.cpp sends the usage of completions unasked; through the gateway it may be taken out.
    unasked = (
        [] if asked else [event for event in events(direct(fleet.texts, path, body).content) if isinstance(event, dict)]
    )
    allowed = [[usage]] if asked else [[], [event["usage"] for event in unasked if event.get("usage")]]
    assert [event["usage"] for event in through if event.get("usage")] in allowed

    def said(chunks: list[Json]) -> list[Json]:
        return [choice for chunk in chunks for choice in chunk["choices"]]

    assert said(through) == said(straight)
    counted(fleet, before, usage)


def test_embeddings_have_the_servers_usage(fleet: Fleet, who: Caller) -> None:
    body = {"model": "vectors", "input": ["one", "another one"]}
    before = [tokens(fleet, "input"), tokens(fleet, "output")]
    straight = direct(fleet.embeddings, "/v1/embeddings", body).json()
    through = who.post(body, "/v1/embeddings").json()
    assert through["usage"] == straight["usage"] and straight["usage"]["prompt_tokens"] > 0
    assert through["data"] == straight["data"]
    counted(fleet, before, straight["usage"])
