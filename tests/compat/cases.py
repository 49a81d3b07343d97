"""The cases of the matrix: a call as a client makes it, and the facts that must be true afterwards.

Each case makes a consumer of its own and calls once. It compares the client's view with the mock's counters, the gateway's metrics
and the consumer's used amounts: nothing is counted twice, and refused calls reach no model.
"""

from collections.abc import Callable
from typing import Final

from tests.compat.clients import Client
from tests.compat.program import Program
from tests.compat.rig import Rig
from tests.support.processes import wait_until
from tests.support.surface import Caller, Json, caller, grown, metric, stats

WORDS: Final = " ".join(["token"] * 16)
MESSAGES: Final = {
    "invalid_api_key": "Incorrect API key provided",
    "model_not_allowed": "is not in your tier",
    "insufficient_quota": "You exceeded your current quota",
}
Check = Callable[[Rig, Client, Program], None]


def success(seen: Json) -> Json:
    assert "error" not in seen, seen["error"]
    return seen


def refused(client: Client, case: str, seen: Json, status: int, code: str) -> None:
    """The client shows the refusal as its users know it."""
    assert "error" in seen, f"expected a {status}, the client saw {seen}"
    error = seen["error"]
    assert (error["class"], error["status"]) == (client.errors[case], status), error
    assert not client.shows_code or error["code"] == code, error
    assert MESSAGES[code] in error["message"], error


def answers(world: Rig, status: int) -> float:
    return metric(world.gateway, "kong_http_requests_total", code=str(status))


def plain(world: Rig, client: Client, program: Program) -> None:
    who, before = caller(world.gateway, "usual"), stats(world.llm)
    seen = success(program.call("plain", world.base, who.key, "small-chat"))
    assert seen["text"] == WORDS, seen
    assert grown(before, world.llm, "requests", "streams", "prompt_tokens", "completion_tokens") == [
        1,
        0,
        *seen["usage"],
    ]
    assert who.used() == [1]


def stream(world: Rig, client: Client, program: Program) -> None:
    who, before = caller(world.gateway, "usual"), stats(world.llm)
    seen = success(program.call("stream", world.base, who.key, "small-chat"))
    assert seen["text"].strip() == WORDS and seen["pieces"] >= 16, seen
    assert grown(before, world.llm, "requests", "streams", "prompt_tokens", "completion_tokens") == [
        1,
        1,
        *seen["usage"],
    ]
    assert who.used() == [1]


def tools(world: Rig, client: Client, program: Program) -> None:
    who, before = caller(world.gateway, "usual"), stats(world.llm)
    seen = success(program.call("tools", world.base, who.key, "small-chat"))
    assert seen["tool"] == {"name": "weather", "arguments": {"city": "token", "unit": "celsius"}}, seen
    assert seen["text"] == WORDS, seen
    assert grown(before, world.llm, "requests") == who.used() == [2]


def structured(world: Rig, client: Client, program: Program) -> None:
    who, before = caller(world.gateway, "usual"), stats(world.llm)
    seen = success(program.call("structured output", world.base, who.key, "small-chat"))
    assert seen["object"] == {"city": "token", "days": 1}, seen
    assert grown(before, world.llm, "requests") == who.used()


def unknown_key(world: Rig, client: Client, program: Program) -> None:
    before, count = stats(world.llm), answers(world, 401)
    seen = program.call("401", world.base, "sk-nobody-0123456789", "small-chat")
    refused(client, "401", seen, 401, "invalid_api_key")
    assert answers(world, 401) == count + 1 and grown(before, world.llm, "requests") == [0]


def forbidden(world: Rig, client: Client, program: Program) -> None:
    who, before, count = caller(world.gateway, "usual"), stats(world.llm), answers(world, 403)
    seen = program.call("403", world.base, who.key, "hidden-chat")
    refused(client, "403", seen, 403, "model_not_allowed")
    assert answers(world, 403) == count + 1 and grown(before, world.llm, "requests") == who.used() == [0]


def denials(world: Rig, tier: str, reason: str) -> float:
    return metric(world.gateway, "aigw_tier_denials_total", tier=tier, reason=reason)


def burst(world: Rig, client: Client, program: Program) -> None:
    who, before, count = caller(world.gateway, "burst"), stats(world.llm), denials(world, "burst", "rate_limited")
    seen = success(program.call("429 burst", world.base, who.key, "small-chat"))
    assert seen["text"] == WORDS, seen
    retries = denials(world, "burst", "rate_limited") - count
    assert 1 <= retries <= 2, f"{retries} refused calls; the client's own retry succeeds after the first or the second"
    assert grown(before, world.llm, "requests") == [2] and who.used()[-1] == 2


def quota(world: Rig, client: Client, program: Program) -> None:
    who, before, count = caller(world.gateway, "quota"), stats(world.llm), denials(world, "quota", "insufficient_quota")
    seen = program.call("429 quota", world.base, who.key, "small-chat")
    refused(client, "429 quota", seen, 429, "insufficient_quota")
    asked = denials(world, "quota", "insufficient_quota") - count
    assert asked == client.quota_attempts, f"asked {asked} times, expected {client.quota_attempts}"
    assert grown(before, world.llm, "requests") == who.used() == [1]


def embeddings(world: Rig, client: Client, program: Program) -> None:
    who = caller(world.gateway, "usual")
    seen = success(program.call("embeddings", world.base, who.key, "small-chat"))
    assert seen["vector"] == [0.5, -0.5, 0.5, -0.5], seen
    assert who.used() == [1]


def models(world: Rig, client: Client, program: Program) -> None:
    who = caller(world.gateway, "usual")
    seen = success(program.call("models", world.base, who.key, "small-chat"))
    assert sorted(seen["models"]) == ["slow-chat", "small-chat"], seen
    assert who.used() == [0]


def disconnect(world: Rig, client: Client, program: Program) -> None:
    def cut() -> float:
        return metric(world.gateway, "aigw_model_requests_total", model="slow-chat", outcome="client_cut")

    who, before, count = caller(world.gateway, "usual"), stats(world.slow), cut()
    seen = success(program.call("disconnect", world.base, who.key, "slow-chat"))
    assert seen["left"] == 3, seen
    wait_until(lambda: grown(before, world.slow, "cancelled") == [1], "the upstream's stream is cancelled")
    wait_until(lambda: cut() == count + 1, "the call is counted as cut by its client")
    assert grown(before, world.slow, "requests", "in_flight") == [1, 0] and freed(who)


def freed(who: Caller) -> bool:
    """The call's permit is settled."""
    return who.used() == [1]


CASES: Final[dict[str, Check]] = {
    "plain": plain,
    "stream": stream,
    "tools": tools,
    "structured output": structured,
    "401": unknown_key,
    "403": forbidden,
    "429 burst": burst,
    "429 quota": quota,
    "embeddings": embeddings,
    "models": models,
    "disconnect": disconnect,
}
