"""Failures of a model's upstreams that are the fleet's own: what callers read of them, what counts, and what metrics and logs say."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ends import Upstream, Wire, chunk, connect, message, parse, read_to_end
from tests.support.failing import YEAR
from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, is_error, metric, start_configured

CHAT = "/v1/chat/completions"
ENDPOINTS: dict[str, Json] = {
    CHAT: {"messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"prompt": "x"},
    "/v1/embeddings": {"input": "x"},
}
TOKENS: Json = {"tokens": 1_000, "per": "month"}
SECRET = "sk-proj-part-of-ours"
TOLD = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}", "code": "invalid_api_key"}}).encode()
EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
INSIDE = b'data: {"error":{"message":"the engine died","code":500}}\n\n'
Script = Callable[[Wire], None]


def says(status: int, body: bytes, *lines: bytes) -> Script:
    """An upstream that answers everything so."""

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            head = b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n" % (status, len(body))
            wire.send(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body)

    return script


def streams(status: int, *pieces: bytes) -> Script:
    """An upstream that answers everything with these events."""

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            head = b"HTTP/1.1 %d Said\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" % status
            wire.send(head + b"".join(map(chunk, pieces)) + b"0\r\n\r\n")

    return script


REDIRECTS = (300, 301, 302, 303, 304, 307, 308)
KEYS = (401, 402, 403, 407)
PASSED = {400: 1, 404: 1, 413: 1, 422: 1, 408: 0, 429: 0, 500: 0, 502: 0, 503: 0, 504: 0, 529: 0}
"""Statuses that pass, and the count of such a call."""
AWAY = (b"Location: http://vllm.internal:8000/v1/chat/completions/", b"Refresh: 0; url=http://vllm.internal")
ASKS = (b'WWW-Authenticate: Bearer realm="fleet"', b"Content-Type: application/json", b"Set-Cookie: a=b")
MODELS: dict[str, Script] = {
    **{f"away-{s}": says(s, b"" if s == 304 else b"vllm.internal", *AWAY) for s in REDIRECTS},
    **{f"key-{s}": says(s, TOLD, *ASKS) for s in KEYS},
    **{f"passes-{s}": says(s, b"theirs", b"Retry-After: 7", *ASKS[:1], *AWAY[:1]) for s in PASSED},
    "head-503": streams(503, b"data: busy\n\n", EVENT * 2_000),
    "inside": streams(200, EVENT, INSIDE, b"data: [DONE]\n\n"),
    "no-event": streams(200),
    "no-body": says(200, b"", b"Content-Type: application/json"),
    "no-content": says(204, b""),
    "pings": streams(200, b": ping\n\n"),
    "well": streams(200, EVENT, b"data: [DONE]\n\n"),
}


USAGE: Json = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
GOOD = says(200, json.dumps({"choices": [], "usage": USAGE}).encode(), b"Content-Type: application/json")


@dataclass(frozen=True)
class Fleet:
    gateway: Gateway
    log: Path
    spare: Upstream

    def errors(self, model: str, name: str = "aigw_model_requests_total") -> dict[str, float]:
        """The model's samples by error type."""
        types = (
            "upstream_auth",
            "upstream_redirect",
            "error_in_answer",
            "empty_answer",
            "empty_stream",
            *map(str, PASSED),
        )
        found = {kind: metric(self.gateway, name, model=model, error_type=kind) for kind in types}
        return {kind: n for kind, n in found.items() if n}

    def lines(self) -> list[Json]:
        """The access log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def line(self, model: str) -> Json:
        """The last line of the access log about a model."""
        found: list[Json] = []

        def is_there() -> bool:
            found[:] = [line for line in self.lines() if line["model"] == model]
            return bool(found)

        wait_until(is_there, "the call is in the log")
        return found[-1]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        urls = {model: stack.enter_context(Upstream(script)).url for model, script in MODELS.items()}
        models: Json = {model: {"upstreams": [{"url": url + "/v1", "api_key": SECRET}]} for model, url in urls.items()}
        spare = stack.enter_context(Upstream(GOOD))
        key = {"url": urls["key-401"] + "/v1", "weight": 1}
        models["spared"] = {"upstreams": [key, {"url": spare.url + "/v1", "weight": 0}]}
        configuration: Json = {"models": models, "tiers": {"all": {"limits": [YEAR]}, "tokens": {"limits": [TOKENS]}}}
        log = folder / "access.log"
        arguments = ("--drain-timeout", "1", "--access-log", str(log))
        gateway = start_configured(folder / "data", configuration, *arguments, workers=2)
        stack.callback(gateway.process.end)
        yield Fleet(gateway, log, spare)


@pytest.fixture
def who(fleet: Fleet) -> Caller:
    return caller(fleet.gateway, "all")


def used(who: Caller) -> int:
    (count,) = who.used()
    return count


def whole(remaining: str) -> bool:
    return remaining == str(YEAR["requests"])


def calls(model: str, path: str) -> list[Json]:
    """A plain call, and where there are streams a streamed one."""
    plain: Json = {"model": model, **ENDPOINTS[path]}
    return [plain] if path == "/v1/embeddings" else [plain, {**plain, "stream": True}]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_redirects_stay_behind(who: Caller, path: str) -> None:
    for body in [body for status in REDIRECTS for body in calls(f"away-{status}", path)]:
        answer = who.post(body, path)
        error = is_error(answer, 502)
        assert (error["aigw"]["reason"], error["aigw"]["retryable"]) == ("upstream_redirect", False)
        assert answer.headers["x-should-retry"] == "false"
        assert not {"location", "refresh"} & set(answer.headers) and "internal" not in answer.text
        assert whole(answer.headers["x-ratelimit-remaining-requests"])
    assert used(who) == 0


@pytest.mark.parametrize("path", ENDPOINTS)
def test_refused_keys_of_the_fleet_are_told_in_own_words(fleet: Fleet, who: Caller, path: str) -> None:
    for body in [body for status in KEYS for body in calls(f"key-{status}", path)]:
        answer = who.post(body, path)
        error = is_error(answer, 502)
        assert (error["code"], error["type"]) == ("upstream_auth", "server_error")
        assert error["aigw"]["reason"] == "upstream_auth"
        assert not {"www-authenticate", "set-cookie"} & set(answer.headers)
        assert SECRET not in answer.text and "Incorrect" not in answer.text
        assert answer.headers["x-should-retry"] == "false"
        assert whole(answer.headers["x-ratelimit-remaining-requests"])
    assert used(who) == 0
    assert fleet.errors("key-401").keys() == {"upstream_auth"}


@pytest.mark.parametrize("status", PASSED)
def test_other_errors_pass_and_are_errors_in_metrics_and_log(fleet: Fleet, who: Caller, status: int) -> None:
    model, kind = f"passes-{status}", str(status)
    for stream in (False, True):
        answer = who.post(chat(model, stream=stream))
        assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (status, b"theirs", "7")
        assert not {"www-authenticate", "location"} & set(answer.headers)
        given_back = whole(answer.headers["x-ratelimit-remaining-requests"])
        assert given_back == (PASSED[status] == 0)
    assert used(who) == 2 * PASSED[status]
    assert fleet.errors(model) == fleet.errors(model, "aigw_upstream_errors_total") == {kind: 2}
    assert metric(fleet.gateway, "aigw_model_requests_total", model=model, outcome="completed") == 0
    line = fleet.line(model)
    assert (line["outcome"], line["error_type"], line["status"]) == ("upstream_error", kind, status)


def test_a_streamed_refusal_goes_back(fleet: Fleet, who: Caller) -> None:
    with connect(who.gateway.proxy) as client:
        client.sendall(message("POST", CHAT, who.bearer, body=json.dumps(chat("head-503", stream=True)).encode()))
        answer = parse("POST", read_to_end(client))
    assert (answer.status, answer.whole, answer.body) == (503, True, b"data: busy\n\n" + EVENT * 2_000)
    assert whole(answer.header("x-ratelimit-remaining-requests") or "") and used(who) == 0
    assert fleet.errors("head-503") == {"503": 1}


@pytest.mark.parametrize(
    ("model", "kind"), [("inside", "error_in_answer"), ("no-event", "empty_stream"), ("pings", "empty_stream")]
)
def test_faults_inside_a_stream_are_errors_and_count(fleet: Fleet, who: Caller, model: str, kind: str) -> None:
    answer = who.post(chat(model, stream=True))
    wanted = {"inside": EVENT + INSIDE + b"data: [DONE]\n\n", "no-event": b"", "pings": b": ping\n\n"}
    assert (answer.status_code, answer.content, used(who)) == (200, wanted[model], 1)
    assert fleet.errors(model) == {kind: 1}
    assert metric(fleet.gateway, "aigw_model_requests_total", model=model, outcome="completed") == 0
    line = fleet.line(model)
    assert (line["outcome"], line["error_type"], line["status"]) == ("upstream_error", kind, 200)


@pytest.mark.parametrize(("model", "status"), [("no-body", 200), ("no-content", 204)])
def test_a_plain_answer_without_a_body_is_an_error_without_tokens(
    fleet: Fleet, who: Caller, model: str, status: int
) -> None:
    answer = who.post(chat(model, max_tokens=50))
    assert (answer.status_code, answer.content, used(who)) == (status, b"", 1)
    assert fleet.errors(model) == {"empty_answer": 1}
    line = fleet.line(model)
    assert (line["outcome"], line["error_type"], line["status"]) == ("upstream_error", "empty_answer", status)
    assert line.get("output_tokens", 0) == 0
    budgeted = caller(fleet.gateway, "tokens")
    assert budgeted.post(chat(model, max_tokens=50)).status_code == status
    assert used(budgeted) == 0, "nothing of its reservation is kept"


def test_a_good_stream_has_no_error_type(fleet: Fleet, who: Caller) -> None:
    assert who.post(chat("well", stream=True)).status_code == 200
    assert (fleet.errors("well"), used(who)) == ({}, 1)
    assert metric(fleet.gateway, "aigw_model_requests_total", model="well", outcome="completed") == 1
    assert "error_type" not in fleet.line("well")


def test_a_failed_attempt_is_counted_where_the_next_upstream_answers(fleet: Fleet, who: Caller) -> None:
    assert who.post(chat("spared")).status_code == 200
    assert fleet.errors("spared", "aigw_upstream_errors_total") == {"upstream_auth": 1}
    assert (fleet.errors("spared"), used(who)) == ({}, 1)


def test_access_log_names_caller_upstream_and_tokens(fleet: Fleet, who: Caller) -> None:
    assert who.post(chat("spared")).status_code == 200
    wait_until(lambda: fleet.line("spared")["consumer_name"] == who.name, "the call is in the log")
    line = fleet.line("spared")
    assert (line["tier"], line["model"], line["outcome"], line["status"]) == ("all", "spared", "completed", 200)
    assert (line["upstream"], line["attempts"]) == (f"127.0.0.1:{fleet.spare.port}", 2)
    classes = ("input", "cached_input", "cache_write_input", "output", "reasoning")
    assert [line[f"{name}_tokens"] for name in classes] == [5, 4, 0, 3, 2]
    assert "error_type" not in line and "denial" not in line
    assert who.key not in fleet.log.read_text() and SECRET not in fleet.log.read_text()


def test_access_log_leaves_out_fields_of_calls_that_were_not_sent(fleet: Fleet, who: Caller) -> None:
    assert is_error(who.post({"model": "well"}), 400)
    wait_until(
        lambda: any(line.get("denial") == "invalid_request" for line in fleet.lines()), "the refusal is in the log"
    )
    line = next(line for line in reversed(fleet.lines()) if line["status"] == 400 and "denial" in line)
    assert (line["consumer_name"], line["outcome"]) == (who.name, "refused")
    assert line["error_type"] == line["denial"] == "invalid_request"
    assert not {"upstream", "attempts", "input_tokens"} & line.keys()


def test_process_log_names_the_upstream_that_refuses_the_key(fleet: Fleet, who: Caller) -> None:
    for model in ("key-402", "key-402", "away-301", "away-301"):
        assert is_error(who.post(chat(model)), 502)
    redirect = fleet.gateway.wait_event("upstream_redirect", model="away-301")
    assert redirect["status"] == "301" and redirect["upstream"].startswith("127.0.0.1:")
    lines = [json.loads(line) for line in fleet.gateway.process.lines if line.startswith("{")]
    told = [line for line in lines if line["event"] == "upstream_auth" and line["model"] == "key-402"]
    assert told
    assert told[0]["status"] == "402" and "api_key" in told[0]["repair"]
    assert not any(SECRET in line or "internal" in line for line in fleet.gateway.process.lines)
