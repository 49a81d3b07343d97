"""Upstreams that refuse a parameter: asked once more in other words, as one call, and remembered over calls and reloads."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json, caller, chat, metric, start_configured
from tests.support.wire import Message, Upstream, upstream

PLAIN = b'{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
UNSUPPORTED = {
    "error": {"message": "Unsupported parameter: max_tokens. Use max_completion_tokens instead.", "param": "max_tokens"}
}
OPTIONS = {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}


def framed(status: str, kind: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        status.encode(),
        kind.encode(),
        len(body),
        body,
    )


def refusal(status: int, body: object) -> bytes:
    return framed(
        f"{status} Refused", "application/json", body if isinstance(body, bytes) else json.dumps(body).encode()
    )


def success(body: Json) -> bytes:
    return (
        framed("200 OK", "text/event-stream", STREAM)
        if body.get("stream")
        else framed("200 OK", "application/json", PLAIN)
    )


def without_options(status: int, words: object) -> object:
    return lambda body: refusal(status, words) if "stream_options" in body else success(body)


def newer_cap(body: Json) -> bytes:
    return refusal(400, UNSUPPORTED) if "max_tokens" in body else success(body)


def older_cap(body: Json) -> bytes:
    return (
        refusal(400, {"error": "unknown field max_completion_tokens"})
        if "max_completion_tokens" in body
        else success(body)
    )


def too_large(body: Json) -> bytes:
    return (
        refusal(400, {"error": {"message": "max_tokens is too large: this model supports at most 3"}})
        if "max_tokens" in body
        else success(body)
    )


def neither(body: Json) -> bytes:
    named = "stream_options" in body
    return refusal(422, OPTIONS) if named else newer_cap(body)


LONG = {"detail": [{**OPTIONS["detail"][0], "input": "x" * 2_000_000}]}


ACTS: dict[str, object] = {
    "no-options": without_options(422, OPTIONS),
    "no-options-400": without_options(400, b"Bad Request"),
    "no-options-always": without_options(422, OPTIONS),
    "no-options-never": without_options(422, OPTIONS),
    "newer-cap": newer_cap,
    "older-cap": older_cap,
    "too-large": too_large,
    "neither": neither,
    "long": without_options(422, LONG),
    "long-picky": lambda body: refusal(413, {"error": {"message": "x" * 2_000_000}}),
    "encoded": lambda body: refusal(503, b"\x1f\x8b").replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1),
    "says-max": newer_cap,
    "says-newer": success,
    "says-none": success,
    "picky": lambda body: refusal(400, {"error": {"message": "bad temperature"}}),
    "then-503": lambda body: refusal(422, OPTIONS) if "stream_options" in body else refusal(503, b"{}"),
    "unauthorized": lambda body: refusal(401, OPTIONS),
}
SETTINGS: dict[str, Json] = {
    "no-options-always": {"stream_usage": "always"},
    "no-options-never": {"stream_usage": "never"},
    "says-max": {"cap_parameter": "max_tokens"},
    "says-newer": {"cap_parameter": "max_completion_tokens"},
    "says-none": {"cap_parameter": "none"},
}  # fmt: skip


@dataclass
class World:
    gateway: Gateway
    upstream: Upstream
    file: Path
    configuration: Json
    callers: dict[str, Caller] = field(default_factory=dict)

    def call(
        self, model: str, tier: str = "open", path: str = "/v1/chat/completions", **more: object
    ) -> tuple[int, str, list[Json]]:
        """(status, answer, bodies that the upstream got)."""
        who = self.callers.setdefault(tier, caller(self.gateway, tier))
        answer = who.post({**chat(model), "prompt": "x", "input": "x", **more}, path)
        return answer.status_code, answer.text, [request.json() for request in self.upstream.take()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    def act(request: Message) -> bytes:
        body = request.json()
        made: bytes = ACTS[body["model"]](body)  # type: ignore[operator]
        return made

    with upstream(act) as raw:
        models: Json = {name: {"upstreams": [{"url": raw.url}], **SETTINGS.get(name, {})} for name in ACTS}
        models["spare"] = {
            "upstreams": [{"url": raw.url, "model": "then-503"}, {"url": raw.url, "model": "newer-cap", "weight": 0}]
        }
        models["encoded-twice"] = {
            "upstreams": [{"url": raw.url, "model": "encoded"}, {"url": raw.url, "model": "unauthorized", "weight": 0}]
        }
        limits: Json = [{"requests": 10_000, "per": "year"}]
        tiers: Json = {"open": {"limits": limits}, "capped": {"limits": limits, "output": {"max_tokens": 9}}}
        folder = tmp_path_factory.mktemp("dialects")
        configuration: Json = {"models": models, "tiers": tiers}
        gateway = start_configured(folder / "data", configuration)
        yield World(gateway, raw, (folder / "data").with_suffix(".yaml"), configuration)
        gateway.process.end()


def shown(bodies: list[Json]) -> list[tuple[object, ...]]:
    names = ("stream_options", "max_tokens", "max_completion_tokens")
    return [tuple(body.get(name) for name in names) for body in bodies]


ASKED = {"include_usage": True}


@pytest.mark.parametrize("model", ["no-options", "no-options-400"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_refused_usage_is_asked_once_more_without_and_remembered(world: World, model: str, path: str) -> None:
    world.call(model, stream=True, path=path)
    status, text, bodies = world.call(model, stream=True, path=path)
    assert (status, shown(bodies)) == (200, [(None, None, None)]), "remembered"
    assert text == STREAM.decode()


def test_second_asking_is_the_same_call(world: World) -> None:
    name = "no-options-fresh"
    ACTS[name] = without_options(422, OPTIONS)
    reload_with(world, name)
    who = caller(world.gateway, "open")
    answer = who.post(chat(name, stream=True))
    assert (answer.status_code, answer.text) == (200, STREAM.decode())
    assert shown([request.json() for request in world.upstream.take()]) == [(ASKED, None, None), (None, None, None)]
    assert who.used() == [1]
    assert metric(world.gateway, "aigw_model_requests_total", model=name) == 1, "one report"
    assert who.post(chat(name, stream=True, stream_options=ASKED)).status_code == 200
    assert shown([request.json() for request in world.upstream.take()]) == [(None, None, None)], (
        "also where the caller asks"
    )


def reload_with(world: World, name: str) -> None:
    """Add a model to the file, and wait until it is in force."""
    world.configuration["models"][name] = {"upstreams": [{"url": world.upstream.url}], **SETTINGS.get(name, {})}
    world.file.write_text(json.dumps(world.configuration))
    who = caller(world.gateway, "open")
    wait_until(lambda: who.get(f"/v1/models/{name}").status_code == 200, "the model is in force")


def test_facts_survive_a_reload(world: World) -> None:
    world.call("newer-cap", "capped")
    world.call("no-options", stream=True)
    ACTS["another"] = success
    reload_with(world, "another")
    assert shown(world.call("newer-cap", "capped")[2]) == [(None, None, 9)]
    assert shown(world.call("no-options", stream=True)[2]) == [(None, None, None)]


def test_refused_cap_is_asked_once_more_under_its_other_name(world: World) -> None:
    for model, more, first, second in (
        ("newer-cap", {}, (None, 9, None), (None, None, 9)),
        ("older-cap", {"max_completion_tokens": 5}, (None, None, 5), (None, 5, None)),
    ):
        name = f"{model}-fresh"
        ACTS[name] = ACTS[model]
        reload_with(world, name)
        status, text, bodies = world.call(name, "capped", **more)
        assert (status, text, shown(bodies)) == (200, PLAIN.decode(), [first, second])
        assert shown(world.call(name, "capped", **more)[2]) == [second], "remembered"


def test_both_refused_parameters_are_reworded(world: World) -> None:
    status, _, bodies = world.call("neither", "capped", stream=True)
    assert (status, shown(bodies)) == (200, [(ASKED, 9, None), (None, 9, None), (None, None, 9)])
    assert shown(world.call("neither", "capped", stream=True)[2]) == [(None, None, 9)]


def test_refused_value_keeps_the_name_of_the_cap(world: World) -> None:
    status, text, bodies = world.call("too-large", "capped")
    assert (status, shown(bodies)) == (400, [(None, 9, None)]) and "too large" in text


def test_settings_fix_the_words(world: World) -> None:
    assert world.call("no-options-always", stream=True)[0] == 422
    assert len(world.call("no-options-always", stream=True)[2]) == 1
    for options in ({}, {"stream_options": ASKED}):
        status, _, bodies = world.call("no-options-never", stream=True, **options)
        assert (status, shown(bodies)) == (200, [(None, None, None)])
    assert world.call("says-max", "capped", max_completion_tokens=4)[0] == 400
    for more, wanted in (
        ({}, 9),
        ({"max_tokens": 4}, 4),
        ({"max_tokens": 4, "max_completion_tokens": 3}, 3),
        ({"max_tokens": -1}, 9),
    ):
        for path in ("/v1/chat/completions", "/v1/completions"):
            assert shown(world.call("says-newer", "capped", path, **more)[2]) == [(None, None, wanted)], more
            assert shown(world.call("says-none", "capped", path, **more)[2]) == [(None, None, None)], more


def test_minus_one_means_no_cap(world: World) -> None:
    for tier, wanted in (("open", None), ("capped", 9)):
        assert shown(world.call("older-cap", tier, max_tokens=-1)[2]) == [(None, wanted, None)]
    assert world.call("older-cap", max_tokens=-2)[0] == 400


def test_other_refusals_pass_and_are_not_remembered(world: World) -> None:
    status, text, bodies = world.call("picky", "capped", stream=True)
    assert (status, json.loads(text)["error"]["message"], len(bodies)) == (400, "bad temperature", 2)
    assert len(world.call("picky", "capped", stream=True)[2]) == 2, "a new upstream is asked again: nothing was learned"
    assert len(world.call("picky", "capped")[2]) == 1
    assert len(world.call("unauthorized", stream=True)[2]) == 1
    status, _, bodies = world.call("spare", stream=True)
    assert (status, [body["model"] for body in bodies]) == (200, ["then-503", "then-503", "newer-cap"])


def test_long_refusal_is_reworded_or_passes_whole(world: World) -> None:
    status, text, bodies = world.call("long", "capped", stream=True)
    assert (status, text, shown(bodies)) == (200, STREAM.decode(), [(ASKED, 9, None), (None, 9, None)])
    used = world.callers["capped"].used()[0]
    for options in ({}, {"stream": True}):
        status, text, bodies = world.call("long-picky", "capped", **options)
        assert (status, len(bodies)) == (413, 1)
        assert json.loads(text) == {"error": {"message": "x" * 2_000_000}}
    assert world.callers["capped"].used() == [used + 2], "an error about the request counts"


def test_encoded_refusal_stays_behind(world: World) -> None:
    for model in ("encoded", "encoded-twice"):
        status, text, _ = world.call(model)
        assert (status, json.loads(text)["error"]["aigw"]["reason"]) == (502, "upstream_encoding"), model


def test_completions_have_one_name_of_the_cap(world: World) -> None:
    assert world.call("newer-cap", "capped")[0] == 200, "/chat/completions has the other one"
    path = "/v1/completions"
    for more, wanted in (
        ({}, 9),
        ({"max_completion_tokens": 5}, 5),
        ({"max_completion_tokens": 50}, 9),
        ({"max_tokens": 7, "max_completion_tokens": 6}, 6),
    ):
        for model in ("older-cap", "newer-cap"):
            assert shown(world.call(model, "capped", path, **more)[2]) == [(None, wanted, None)], more
    assert shown(world.call("newer-cap", "capped")[2]) == [(None, None, 9)], "/chat/completions keeps its own"
