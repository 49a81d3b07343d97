"""`aigw try`: one request through the gateway, and what became of it: allowed or refused, by what, at which cost."""

import json
import sys
from dataclasses import asdict
from typing import Annotated, Final
from urllib.parse import urlsplit

from aigw.cli.arguments import Parameter
from aigw.cli.output import Output, coloured, show_json
from aigw.cli.proxy_client import BODIES, Outcome, Proxy
from aigw.errors import ConfigError

CHAT: Final = "/v1/chat/completions"
COLOUR: Final = {"allowed": "green", "refused": "red", "failed": "red", "cut": "red"}
SHOWN: Final = 300
"""Characters of an answer that are shown."""


def try_call(
    path: Annotated[str, Parameter("path on the proxy")] = CHAT,
    /,
    *,
    key: Annotated[str | None, Parameter("API key of a consumer", variable="AIGW_KEY")] = None,
    model: Annotated[str | None, Parameter("model; left out: the first that the key may call")] = None,
    prompt: Annotated[str, Parameter("what to say")] = "Say hello.",
    stream: Annotated[bool, Parameter("ask for a streamed answer", negative=False)] = False,
    data: Annotated[str | None, Parameter("body in place of one made from model and prompt; makes it a POST")] = None,
    method: Annotated[str | None, Parameter("method [default: POST with a body, else GET]")] = None,
    output: Output = "table",
    proxy: Annotated[
        str | None, Parameter("HOST:PORT or URL of the proxy [env: AIGW_PROXY, default: 127.0.0.1:8000]")
    ] = None,
) -> int:
    """Send one request through the gateway and tell what became of it.

    It shows the decision and who made it, the status, the headers of
    the limits, how long it took, and the usage. Exit code 0 when it
    was answered 2xx, else 1. It counts as any other request.

    For example:

        aigw try --key "$KEY" --model small-chat --prompt "Hello" --stream
        aigw try --key "$KEY" /ai/summarize --data '{"text": "..."}'
    """
    gateway = Proxy.of(proxy)
    if not path.startswith("/"):
        raise ConfigError(f"'{path}' is not a path: it begins with /, for example /ai/summarize")
    headers = {"Accept": "application/json", "User-Agent": "aigw-try"}
    bare = urlsplit(path).path
    if key is not None:
        headers |= {"Authorization": f"Bearer {key}"} if bare.startswith("/v1/") else {"apikey": key}
    body = data
    if data is None and bare in BODIES and method in (None, "POST"):
        if model is None:
            model, refused = _first_model(gateway, headers)
            if refused is not None:
                return _show(refused, output, "GET /v1/models")
        asked = {"model": model, **BODIES[bare](prompt)}
        body = json.dumps(asked | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {}))
    if body is not None:
        headers["Content-Type"] = "application/json"
    method = method or ("GET" if body is None else "POST")
    outcome = gateway.call(method, path, headers, None if body is None else body.encode())
    outcome.model = outcome.model or model
    return _show(outcome, output, f"{method} {path}")


def _first_model(gateway: Proxy, headers: dict[str, str]) -> tuple[str, Outcome | None]:
    """Name of the first model that the key may call, or the refusal."""
    listed = gateway.call("GET", "/v1/models", headers, None)
    if not listed.good:
        return "", listed
    models = json.loads(listed.text).get("data") or []
    if not models:
        raise ConfigError("this key may call no model: name one with --model to see why")
    return str(models[0]["id"]), None


def _show(outcome: Outcome, output: str, request: str) -> int:
    if output == "json":
        show_json({"request": request, **asdict(outcome)})
    else:
        sys.stdout.write("".join(f"{name:<9} {text}\n" for name, text in _lines(outcome, request)))
    return 0 if outcome.good else 1


def _lines(outcome: Outcome, request: str) -> list[tuple[str, str]]:
    lines = [
        ("request", request),
        ("decision", coloured(outcome.decision, COLOUR[outcome.decision], sys.stdout) + _by(outcome)),
        ("status", str(outcome.status)),
    ]
    lines += [("message", outcome.message)] if outcome.message else []
    lines += [("tier", outcome.tier)] if outcome.tier else []
    lines += [("model", outcome.model)] if outcome.model else []
    lines += [("limit", f"{name}: {value}") for name, value in sorted(outcome.limits.items())]
    times = f"{outcome.latency_ms:g} ms, first byte after {outcome.first_byte_ms:g} ms"
    lines.append(("latency", times if outcome.events is None else f"{times}, {outcome.events} events"))
    if usage := outcome.usage:
        words = [f"{usage.get('prompt_tokens', 0)} tokens in", f"{usage.get('completion_tokens', 0)} out"]
        lines.append(("usage", ", ".join(words)))
    if outcome.good and (text := " ".join(outcome.text.split())):
        lines.append(("answer", text if len(text) <= SHOWN else text[:SHOWN] + "..."))
    lines += [("id", outcome.request_id)] if outcome.request_id else []
    return lines


def _by(outcome: Outcome) -> str:
    if outcome.decision == "allowed":
        return "" if outcome.good else ", but the upstream's answer is an error"
    named = outcome.reason or outcome.limits.get("x-aigw-limit")
    return f" by the gateway: {named}" if named else " by the gateway" if outcome.decision != "cut" else ""
