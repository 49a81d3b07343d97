"""What `/metrics` says of calls of models, with OpenTelemetry's GenAI names, against what the upstreams themselves counted."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ends import Wire, connect, message, parse, read_to_end
from tests.support.failing import YEAR, Upstream, after_reading
from tests.support.processes import PATIENCE_S, Gateway, start_upstream, wait_until
from tests.support.surface import Json, caller, chat, is_error, metric, samples, start_configured, stats

CHAT = "/v1/chat/completions"
FIRST_BYTE_S = 0.03
OUTCOMES = ("completed", "client_cut", "upstream_cut", "upstream_error")


@dataclass(frozen=True)
class Ends:
    gateway: Gateway
    told: str  # reports all classes of tokens, waits before its first byte
    silent: str  # reports no usage
    slow: str  # streams without end


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    with ExitStack() as stack:

        def mock(*arguments: str) -> str:
            process, url = start_upstream("mock-llm", *arguments)
            stack.callback(process.end)
            return url

        thinking = ("--cached-tokens", "3", "--reasoning-tokens", "5", "--chunks", "7")
        told = mock(*thinking, "--first-byte-ms", str(int(FIRST_BYTE_S * 1000)), "--chunk-ms", "2")
        silent, slow = mock("--usage", "none"), mock("--chunk-ms", "10", "--chunks", "100000")
        cut = mock("--fail", "cut", "--chunk-ms", "2")
        reset = stack.enter_context(Upstream(after_reading(lambda wire: wire.reset())))
        urls = {"told": told, "silent": silent, "slow": slow, "cut": cut, "reset": reset.url}
        models: Json = {name: {"upstreams": [{"url": url + "/v1"}]} for name, url in urls.items()}
        tiers: Json = {"gold": {"limits": [YEAR]}, "iron": {"limits": [YEAR], "allow": {"models": ["told"]}}}
        folder = tmp_path_factory.mktemp("metrics")
        configuration: Json = {"models": models, "tiers": tiers}
        gateway = start_configured(folder / "data", configuration, "--drain-timeout", "1", workers=2)
        stack.callback(gateway.process.end)
        yield Ends(gateway, told, silent, slow)


def outcomes(gateway: Gateway, model: str) -> list[float]:
    return [metric(gateway, "aigw_model_requests_total", model=model, outcome=outcome) for outcome in OUTCOMES]


def errors(gateway: Gateway, model: str) -> dict[str, float]:
    """Failed calls by `error_type`: as the counter and the durations agree."""
    counted = {labels["error_type"]: n for name, labels, n in samples(gateway)
               if name == "aigw_model_requests_total" and labels["model"] == model and "error_type" in labels}  # fmt: skip
    timed = {labels["error_type"]: n for name, labels, n in samples(gateway)
             if name == "gen_ai_server_request_duration_seconds_count" and labels["gen_ai_original_model"] == model
             and "error_type" in labels}  # fmt: skip
    assert counted == timed
    return counted


def test_tokens_by_class_calls_and_times_are_the_upstreams_own(ends: Ends) -> None:
    gateway = ends.gateway
    gold, iron = caller(gateway, "gold"), caller(gateway, "iron")
    for _ in range(4):
        assert gold.post(chat("told")).status_code == 200
    for n in range(5):  # the caller sees no usage of its stream; the gateway does
        streamed = gold.post(chat("told", stream=True, max_tokens=n + 3))
        assert streamed.status_code == 200 and b'"usage"' not in streamed.content
    assert iron.post(chat("told", stream=True, stream_options={"include_usage": True})).status_code == 200
    assert gold.post({"model": "told", "input": "x"}, "/v1/embeddings").status_code == 200
    assert iron.post({"model": "told", "prompt": "x"}, "/v1/completions").status_code == 200
    assert is_error(iron.post(chat("slow")), 403)  # refused: no call of a model

    mock = stats(ends.told)
    assert (mock["requests"], mock["streams"], mock["completed"]) == (12, 6, 12)
    by_class = {
        name: metric(gateway, "aigw_tokens_total", model="told", **{"class": name})
        for name in ("input", "cached_input", "cache_write_input", "output", "reasoning")
    }
    assert by_class == {
        "input": mock["prompt_tokens"] - mock["cached_tokens"],
        "cached_input": mock["cached_tokens"],
        "cache_write_input": 0,
        "output": mock["completion_tokens"] - mock["reasoning_tokens"],
        "reasoning": mock["reasoning_tokens"],
    }
    # Each of the 12 prompts has one word, and so one token, which the cache has.
    assert mock["cached_tokens"] == 12 and mock["reasoning_tokens"] > 5 * 8
    assert outcomes(gateway, "told") == [12, 0, 0, 0]
    assert metric(gateway, "aigw_model_requests_total", model="told", tier="iron") == 2

    def genai(name: str, **labels: str) -> float:
        return metric(gateway, name, gen_ai_request_model="told", **labels)

    usage = "gen_ai_client_token_usage"
    assert genai(usage + "_sum", gen_ai_token_type="input") == mock["prompt_tokens"]
    assert genai(usage + "_sum", gen_ai_token_type="output") == mock["completion_tokens"]
    assert genai(usage + "_count", gen_ai_token_type="input") == 12
    assert genai(usage + "_count", gen_ai_token_type="output") == 11  # an embedding has no output
    took = "gen_ai_server_request_duration_seconds_count"
    assert genai(took) == 12 and genai(took, error_type="") == 0
    operations = {name: genai(took, gen_ai_operation_name=name) for name in ("chat", "text_completion", "embeddings")}
    assert operations == {"chat": 10, "text_completion": 1, "embeddings": 1}
    names = {"gen_ai_original_model": "told", "gen_ai_response_model": "told"}
    assert genai(took, gen_ai_provider_name=ends.told.removeprefix("http://"), **names) == 12
    assert genai(usage + "_sum", gen_ai_token_type="cached_input") == mock["cached_tokens"]
    assert genai(usage + "_sum", gen_ai_token_type="reasoning") == mock["reasoning_tokens"]
    assert genai("gen_ai_server_request_duration_seconds_sum") >= 12 * FIRST_BYTE_S
    first = "gen_ai_server_time_to_first_token_seconds"
    assert genai(first + "_count") == 6
    assert 6 * FIRST_BYTE_S <= genai(first + "_sum") <= genai("gen_ai_server_request_duration_seconds_sum")
    assert genai(first + "_bucket", le="0.02") == 0  # no answer began before its upstream's
    assert genai(first + "_bucket", le="+Inf") == 6
    assert genai("gen_ai_server_time_per_output_token_seconds_count") == 6
    assert metric(gateway, "aigw_usage_missing_total", model="told") == 0


def test_an_upstream_that_tells_no_usage_is_counted_as_such(ends: Ends) -> None:
    who = caller(ends.gateway, "gold")
    assert who.post(chat("silent")).status_code == 200
    assert who.post(chat("silent", stream=True)).status_code == 200
    assert metric(ends.gateway, "aigw_usage_missing_total", model="silent") == 2
    # The gateway counts the texts itself: 9 tokens of each prompt, 16 of each answer.
    assert metric(ends.gateway, "aigw_tokens_total", model="silent") == 50
    assert outcomes(ends.gateway, "silent") == [2, 0, 0, 0]


def test_how_calls_end(ends: Ends) -> None:
    who = caller(ends.gateway, "gold")
    assert is_error(who.post(chat("reset")), 502)
    assert outcomes(ends.gateway, "reset") == [0, 0, 0, 1]
    assert errors(ends.gateway, "reset") == {"upstream_reset": 1}

    body = json.dumps(chat("slow", stream=True)).encode()
    with connect(ends.gateway.proxy) as client:
        client.sendall(message("POST", CHAT, who.bearer, body=body))
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    wait_until(lambda: outcomes(ends.gateway, "slow") == [0, 1, 0, 0], "the call is cut by its client")
    assert stats(ends.slow)["cancelled"] == 1

    with connect(ends.gateway.proxy) as client:
        client.sendall(message("POST", CHAT, who.bearer, body=json.dumps(chat("cut", stream=True)).encode()))
        while client.recv(65536):
            pass
    wait_until(lambda: outcomes(ends.gateway, "cut") == [0, 0, 1, 0], "the call is cut by its upstream")
    # Nothing was reported: the prompt and the text until then count.
    assert 9 < metric(ends.gateway, "aigw_tokens_total", model="cut") <= 25
    assert errors(ends.gateway, "cut") == {"upstream_reset": 1}
    assert errors(ends.gateway, "slow") == {"client_gone": 1}


def test_a_call_cut_by_a_drain_is_not_blamed_on_the_client_and_not_retried(tmp_path: Path) -> None:
    taken = threading.Event()

    def silent(wire: Wire) -> None:
        wire.request()
        taken.set()
        wire.wait_closed()

    mock, slow = start_upstream("mock-llm", "--chunk-ms", "10", "--chunks", "100000")
    try:
        with Upstream(silent) as upstream:
            models: Json = {
                n: {"upstreams": [{"url": u + "/v1"}]} for n, u in (("silent", upstream.url), ("slow", slow))
            }
            configuration: Json = {"models": models, "tiers": {"gold": {"limits": [YEAR]}}}
            log = tmp_path / "access.log"
            arguments = ("--drain-timeout", "0.3", "--access-log", str(log))
            gateway = start_configured(tmp_path / "data", configuration, *arguments)
            who = caller(gateway, "gold")
            with connect(gateway.proxy) as plain, connect(gateway.proxy) as stream:
                stream.sendall(message("POST", CHAT, who.bearer, body=json.dumps(chat("slow", stream=True)).encode()))
                assert stream.recv(65536).startswith(b"HTTP/1.1 200")
                plain.sendall(message("POST", CHAT, who.bearer, body=json.dumps(chat("silent")).encode()))
                assert taken.wait(PATIENCE_S)
                assert gateway.process.end() == 0
                got, rest = read_to_end(plain), read_to_end(stream)
    finally:
        mock.end()
    answer = parse("POST", got)
    assert answer.status == 503
    assert answer.header("x-should-retry") == "false"
    assert json.loads(answer.body)["error"]["aigw"]["retryable"] is False
    told = rest.rpartition(b"data: ")[2]
    assert b"shut down" in told
    assert b"[DONE]" not in rest
    outcomes = {
        line["model"]: line["outcome"] for line in map(json.loads, log.read_text().splitlines()) if line["model"]
    }
    assert outcomes == {"slow": "upstream_cut", "silent": "upstream_error"}


def test_no_label_tells_who_called(ends: Ends) -> None:
    who = caller(ends.gateway, "gold")
    assert who.post(chat("told")).status_code == 200
    labels = {
        value for name, has, _ in samples(ends.gateway) for value in has.values() if name.startswith(("aigw", "gen_ai"))
    }
    assert who.name not in labels and who.key not in labels
