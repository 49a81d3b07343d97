"""`aigw try`: one request through the gateway and its outcome: allowed or refused, the reason, times, usage."""

import json
import sys
from dataclasses import asdict
from typing import Final
from urllib.parse import urlsplit

import click

from aigw.cli.arguments import Verb, output_option
from aigw.cli.output import coloured, show_json
from aigw.cli.proxy_client import BODIES, Outcome, Proxy
from aigw.errors import ConfigError

CHAT: Final = "/v1/chat/completions"
COLOUR: Final = {"allowed": "green", "refused": "red", "failed": "red", "cut": "red"}
SHOWN: Final = 300
"""Maximum characters of the answer in a table."""


@click.command("try", cls=Verb)
@click.argument("path", default=CHAT, help=f"path on the proxy  [default: {CHAT}]")
@click.option("--key", envvar="AIGW_KEY", show_envvar=True, help="API key of a consumer")
@click.option("--model", help="model to call; without it the first one that the key may call")
@click.option("--prompt", default="Say hello.", help="text for the model")
@click.option("--stream", is_flag=True, help="ask for a streamed answer")
@click.option("--data", help="body to send instead of one with model and prompt; makes it a POST")
@click.option("--method", help="HTTP method  [default: POST with a body, else GET]")
@output_option("table", "json")
@click.option(
    "--proxy",
    metavar="HOST:PORT|URL",
    help="proxy to call  [env var: AIGW_PROXY; default: 127.0.0.1:8000]",
)
def try_call(
    path: str,
    key: str | None,
    model: str | None,
    prompt: str,
    stream: bool,
    data: str | None,
    method: str | None,
    output: str,
    proxy: str | None,
) -> int:
    """Send one request through the gateway and show its outcome.

    The outcome: who decided and why, status, headers of the limits,
    times, usage, the answer. The request counts as any other.

    Needs: a running gateway, and the key of a consumer where the path
    asks for one.

    For example:

        aigw try --key "$KEY" --model small-chat --prompt "Hello" --stream
        aigw try --key "$KEY" /ai/summarize --data '{"text": "..."}'

    Exit codes: 0 for an answer 2xx, 1 for any other answer or none, 2 for
    a wrong option.
    """
    gateway = Proxy.of(proxy)
    if not path.startswith("/"):
        raise ConfigError(f"'{path}' is not a path: a path begins with /, for example /ai/summarize")
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
        raise ConfigError("this key may not call any model: give one with --model to see the reason")
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
        parts = [f"{usage.get('prompt_tokens', 0)} tokens in", f"{usage.get('completion_tokens', 0)} out"]
        lines.append(("usage", ", ".join(parts)))
    if outcome.good and (text := " ".join(outcome.text.split())):
        lines.append(("answer", text if len(text) <= SHOWN else text[:SHOWN] + "..."))
    lines += [("id", outcome.request_id)] if outcome.request_id else []
    return lines


def _by(outcome: Outcome) -> str:
    if outcome.decision == "allowed":
        return "" if outcome.good else ", but the upstream's answer is an error"
    named = outcome.reason or outcome.limits.get("x-aigw-limit")
    return f" by the gateway: {named}" if named else " by the gateway" if outcome.decision != "cut" else ""
