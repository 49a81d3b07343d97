"""Each block of docs/guides/upstreams.md works: it passes the check, and the upstream sees the request that its vendor documents.

The gateway serves all blocks at once, with each host replaced by an upstream that records requests.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from aigw._native import load_yaml
from tests.support.processes import AIGW
from tests.support.surface import Caller, Json, caller, start_configured
from tests.support.wire import Message, Upstream, upstream

ROOT: Final = Path(__file__).parents[3]
GUIDE: Final = (ROOT / "docs/guides/upstreams.md").read_text(encoding="utf-8")
BLOCKS: Final = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
OWN_VOCABULARY: Final = BLOCKS.pop("A vocabulary of your own")
HOST: Final = re.compile(r"https?://[^/\s\"]+")
CAP: Final = 512
ENVIRONMENT: Final = {name: f"sk-{name.lower()}" for name in re.findall(r"\$\{(\w+_API_KEY)\}", GUIDE)}


@dataclass(frozen=True)
class Wanted:
    """A vendor's documented request: path and query, header of the key, model, name of the output cap, usage of streams asked for."""

    target: str
    key: tuple[str, str] | None
    model: str
    cap: str = "max_tokens"
    usage: bool = True
    embeddings: bool = True


def bearer(variable: str) -> tuple[str, str]:
    return "authorization", f"Bearer {ENVIRONMENT[variable]}"


AZURE: Final = "/openai/deployments/my-deployment/{}?api-version=2024-10-21"
WANTED: Final = {
    "OpenAI": Wanted("/v1/{}", bearer("OPENAI_API_KEY"), "gpt-5-mini", "max_completion_tokens"),
    "Azure OpenAI": Wanted(
        AZURE, ("api-key", ENVIRONMENT["AZURE_OPENAI_API_KEY"]), "my-deployment", "max_completion_tokens"
    ),
    "Anthropic": Wanted("/v1/{}", bearer("ANTHROPIC_API_KEY"), "claude-sonnet-4-5", embeddings=False),
    "Gemini": Wanted("/v1beta/openai/{}", bearer("GEMINI_API_KEY"), "gemini-2.5-flash"),
    "DeepSeek": Wanted("/{}", bearer("DEEPSEEK_API_KEY"), "deepseek-chat", embeddings=False),
    "Mistral": Wanted("/v1/{}", bearer("MISTRAL_API_KEY"), "mistral-small-latest", usage=False),
    "vLLM": Wanted("/v1/{}", bearer("VLLM_API_KEY"), "meta-llama/Llama-3.1-8B-Instruct"),
    "llama.cpp": Wanted("/v1/{}", None, "any"),
    "Ollama": Wanted("/v1/{}", None, "llama3.2:3b"),
}


def answer(request: Message) -> bytes:
    """A chat, a stream of one event, or an embedding."""
    body = json.loads(request.body)
    if body.get("stream"):
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
        text = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(text) + text
    told = json.dumps(
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}}
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(told) + told


def models(block: str) -> Json:
    document = load_yaml(block.encode()).value()
    assert isinstance(document, dict)
    found: Json = document["models"]
    return found


def public(vendor: str) -> str:
    (name,) = models(BLOCKS[vendor])
    return name


@pytest.fixture(scope="module")
def vendors() -> Iterator[Upstream]:
    with upstream(answer) as kept:
        yield kept


@pytest.fixture(scope="module")
def who(vendors: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    served = {name: spec for block in BLOCKS.values() for name, spec in models(HOST.sub(vendors.url, block)).items()}
    configuration = {"models": served, "tiers": {"pro": {"output": {"max_tokens": CAP}}}}
    data = tmp_path_factory.mktemp("guide") / "data"
    gateway = start_configured(data, configuration, "--drain-timeout", "1", env=ENVIRONMENT)
    yield caller(gateway, "pro")
    gateway.process.end()


def seen(vendors: Upstream) -> tuple[Message, Json]:
    """The only request, and its body."""
    (request,) = vendors.take()
    return request, json.loads(request.body)


def test_guide_has_a_block_for_each_vendor() -> None:
    assert BLOCKS.keys() == WANTED.keys()


def test_block_with_a_vocabulary_of_its_own_passes_the_check(tmp_path: Path) -> None:
    (tmp_path / "aigw.yaml").write_text(OWN_VOCABULARY, encoding="utf-8")
    tokenizer = tmp_path / "llama" / "tokenizer.json"
    tokenizer.parent.mkdir()
    tokenizer.write_bytes((ROOT / "tests/golden/tokenizers/byte_level_pattern.json").read_bytes())
    checked = subprocess.run([*AIGW, "check", str(tmp_path / "aigw.yaml")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("vendor", WANTED)
def test_block_passes_the_check(tmp_path: Path, vendor: str) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text(BLOCKS[vendor] + "tiers:\n  pro: {}\n")
    done = subprocess.run([*AIGW, "check", str(file)], env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("vendor", WANTED)
@pytest.mark.parametrize("stream", [False, True])
def test_block_makes_the_documented_chat(vendors: Upstream, who: Caller, vendor: str, stream: bool) -> None:
    wanted = WANTED[vendor]
    message = {"role": "user", "content": "hi"}
    told = who.post({"model": public(vendor), "messages": [message], "stream": stream}, **{"x-team": "mine"})
    assert told.status_code == 200, told.text
    request, body = seen(vendors)
    assert request.first == f"POST {wanted.target.format('chat/completions')} HTTP/1.1"
    assert request.one("content-type") == "application/json"
    assert who.key not in repr(request)
    if wanted.key is None:
        assert request.all("authorization") == []
    else:
        assert request.one(wanted.key[0]) == wanted.key[1]
        assert {"authorization", "api-key"} & {name for name, _ in request.headers} == {wanted.key[0]}
    asked = {"stream_options": {"include_usage": True}} if stream and wanted.usage else {}
    assert body == {"model": wanted.model, "messages": [message], "stream": stream, wanted.cap: CAP, **asked}


@pytest.mark.parametrize("vendor", [vendor for vendor, wanted in WANTED.items() if wanted.embeddings])
def test_block_makes_the_documented_embedding(vendors: Upstream, who: Caller, vendor: str) -> None:
    told = who.post({"model": public(vendor), "input": "hi"}, "/v1/embeddings")
    assert told.status_code == 200, told.text
    request, body = seen(vendors)
    assert request.first == f"POST {WANTED[vendor].target.format('embeddings')} HTTP/1.1"
    assert body == {"model": WANTED[vendor].model, "input": "hi"}
