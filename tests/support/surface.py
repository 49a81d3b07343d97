"""A gateway with models and tiers from a file, callers with separate counters, and readers of these counters.

In: a configuration as plain values. Out: a running gateway; callers that join a tier; metrics and the mock's counters as numbers.
Each test that reads counters makes its own caller, so tests on one gateway do not affect each other.
"""

import itertools
import json
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.support.ends import connect, message, read_until
from tests.support.processes import Gateway, start_gateway, wait_until

Json = dict[str, Any]
_numbers = itertools.count(1)
_SAMPLE = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def start_configured(
    data: Path,
    configuration: Json,
    *arguments: str,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> Gateway:
    """Start a gateway with this configuration file (JSON is YAML), next to the data folder."""
    file = data.with_suffix(".yaml")
    file.write_text(json.dumps(configuration, indent=1))
    return start_gateway(data, "--config", str(file), *arguments, workers=workers, env=env, prefix=prefix)


@dataclass(frozen=True)
class Caller:
    """A consumer with a key."""

    gateway: Gateway
    name: str
    key: str

    @property
    def bearer(self) -> str:
        """The header that identifies the caller."""
        return f"Authorization: Bearer {self.key}"

    def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        """Make a call. A body other than bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"authorization": f"Bearer {self.key}", "content-type": "application/json", **headers}
        return httpx.post(self.gateway.proxy + path, content=content, headers=own, timeout=60, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.get(self.gateway.proxy + path, headers=headers, timeout=60, trust_env=False)

    def limits(self) -> list[Json]:
        """The caller's standing from the Admin API."""
        answer = httpx.get(f"{self.gateway.admin}/consumers/{self.name}/limits", trust_env=False)
        assert answer.status_code == 200, answer.text
        rows: list[Json] = answer.json()["data"]
        return rows

    def used(self) -> list[int]:
        """The used amount of each limit, after all permits are settled."""
        wait_until(lambda: all(row["reserved"] == 0 for row in self.limits()), "no permit is held")
        return [row["used"] for row in self.limits()]

    def join(self, tier: str) -> None:
        """Move the consumer to a tier."""
        self.gateway.make(f"/consumers/{self.name}/consumer_groups", group=tier)


def caller(gateway: Gateway, tier: str | None, key: str | None = None) -> Caller:
    """Create a consumer in this tier."""
    number = next(_numbers)
    made = Caller(gateway, f"caller-{number}", key or f"sk-test-{number}-0123456789abcdef")
    gateway.make("/consumers", username=made.name)
    gateway.make(f"/consumers/{made.name}/key-auth", key=made.key)
    if tier is not None:
        made.join(tier)
    return made


def chat(model: str = "small-chat", **more: object) -> Json:
    """The body of a chat call."""
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def spend(who: Caller) -> None:
    """Call until a budget is spent."""
    for _ in range(100):
        answer = who.post(chat())
        if answer.status_code == 429 and answer.json()["error"]["code"] == "insufficient_quota":
            return
        assert answer.status_code == 200, answer.text
    raise AssertionError("the budget is not spent after 100 calls")


def occupy(who: Caller, model: str = "slow-chat") -> socket.socket:
    """Begin a stream that lasts until the returned connection is closed."""
    body = json.dumps(chat(model, stream=True)).encode()
    connection = connect(who.gateway.proxy)
    connection.sendall(message("POST", "/v1/chat/completions", who.bearer, body=body))
    read_until(connection, b"data:")
    return connection


def samples(gateway: Gateway) -> list[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each sample of `/metrics`."""
    page = httpx.get(gateway.admin + "/metrics", trust_env=False).text
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    parted = [line.rsplit(" ", 1) for line in lines]
    return [(left.partition("{")[0], dict(_SAMPLE.findall(left)), float(value)) for left, value in parted]


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    found = [value for own, has, value in samples(gateway) if own == name and labels.items() <= has.items()]
    return sum(found)


def stats(url: str) -> dict[str, int]:
    """A mock LLM's counters."""
    counters: dict[str, int] = httpx.get(url + "/__stats", trust_env=False).json()
    return counters


def grown(before: Mapping[str, int], url: str, *names: str) -> list[int]:
    """The growth of a mock LLM's counters."""
    after = stats(url)
    return [after[name] - before[name] for name in names]


def events(body: bytes) -> Sequence[Json | str]:
    """The data of each event of a stream: parsed JSON, or the text `[DONE]`."""
    found: list[Json | str] = []
    for event in body.decode().split("\n\n"):
        text = event.strip().removeprefix("data:").strip()
        if text:
            found.append(json.loads(text) if text.startswith("{") else text)
    return found


def is_error(answer: httpx.Response | Json, status: int | None = None) -> Json:
    """The `error` of an answer in OpenAI's form. Fails unless all four members exist with their types."""
    if isinstance(answer, httpx.Response):
        assert status is None or answer.status_code == status, (answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/json"
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
        answer = answer.json()
    error: Json = answer["error"]
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str) and isinstance(error["code"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    return error


_BILL = re.compile(rb',"aigw":\{(?:"price_nanodollars":[0-9]+,)?"tokens":\{[^{}]*\}\}')


def without_bill(stream: bytes) -> bytes:
    """A stream as the upstream sent it: without the gateway's own member next to the usage."""
    return _BILL.sub(b"", stream)
