"""A hundred reloads while two workers serve: no request fails, none sees two configurations at once, no count is lost.

Each reload changes two values together, on either surface: two limits that a Kong route's headers show, and a limit and the
output clamp that a call of a model shows. A request that is sent after a reload was confirmed must see it.
"""

import asyncio
import hashlib
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import httpx2 as httpx

from tests.support.pipeline import Pipeline
from tests.support.processes import Gateway, start_gateway, start_upstream

REQUESTS = 200_000
RELOADS = 100
BATCH = 40
KEY = "alice-key-0123456789"
DAY, MONTH, CLAMPS = 1_000_000, 2_000_000, 12
BODY = b'{"model":"small","messages":[{"role":"user","content":"hi"}]}'
CHAT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    + f"Authorization: Bearer {KEY}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    + BODY
)
ROUTE = f"GET /llm/v1/models HTTP/1.1\r\nHost: test\r\napikey: {KEY}\r\n\r\n".encode()
SEEN = {
    CHAT: re.compile(rb'x-ratelimit-limit-requests: (\d+)\r\n.*"completion_tokens": ?(\d+)', re.DOTALL),
    ROUTE: re.compile(rb"x-ratelimit-limit-day: (\d+)\r\n.*x-ratelimit-limit-month: (\d+)\r\n", re.DOTALL),
}


def text(number: int, upstream: str) -> str:
    """The configuration of this number."""
    return f"""
tiers:
  even: {{limits: [{{requests: {DAY + number}, per: day}}, {{requests: {MONTH + number}, per: month}}], output: {{max_tokens: {1 + number % CLAMPS}}}}}
  odd: {{limits: [{{requests: {DAY + number}, per: day}}, {{requests: {MONTH + number}, per: month}}], output: {{max_tokens: {1 + number % CLAMPS}}}}}
models:
  small: {{upstreams: [{{url: "{upstream}/v1"}}]}}
services:
  - {{name: llm, url: "{upstream}", routes: [{{name: llm, paths: [/llm]}}], plugins: [{{name: key-auth}}]}}
consumers:
  - {{username: alice, tier: {"odd" if number % 2 else "even"}, keyauth_credentials: [{{key: {KEY}}}]}}
"""  # noqa: E501


class Storm:
    """What the clients and the reloads share."""

    def __init__(self, gateway: Gateway, file: Path, upstream: str) -> None:
        self.gateway, self.file, self.upstream = gateway, file, upstream
        self.confirmed = 0
        self.reloaded = False
        self.sent = 0
        self.found: Counter[str] = Counter()

    async def clients(self, message: bytes) -> None:
        pipeline = Pipeline(self.gateway.proxy)
        while self.sent < REQUESTS or not self.reloaded:
            self.sent += BATCH
            least = self.confirmed
            for answer in await pipeline.exchange(message, BATCH):
                self.judge(message, answer, least)
        pipeline.close()

    def judge(self, message: bytes, answer: bytes, least: int) -> None:
        if answer[9:12] != b"200":
            self.found[f"failed {answer[9:12]!r}"] += 1
            return
        seen = SEEN[message].search(answer)
        assert seen is not None, answer
        first, second = int(seen[1]) - DAY, int(seen[2])
        whole = second == 1 + first % CLAMPS if message is CHAT else second - MONTH == first
        self.found["good" if whole and first >= least else "mixed" if not whole else "late"] += 1

    async def reload(self) -> None:
        async with httpx.AsyncClient(base_url=self.gateway.admin, trust_env=False, timeout=30) as admin:
            for number in range(1, RELOADS + 1):
                content = text(number, self.upstream)
                if number % 3 == 0:
                    answer = await admin.post("/config", content=content, headers={"content-type": "text/yaml"})
                    assert answer.status_code == 201, answer.text
                else:
                    fresh = self.file.with_name("fresh")
                    fresh.write_text(content)
                    fresh.replace(self.file)
                    if number % 3 == 1:
                        os.kill(self.gateway.pid, signal.SIGHUP)
                    end = time.monotonic() + 30
                    digest = hashlib.sha256(content.encode()).hexdigest()
                    while (await admin.get("/status")).json()["configuration"]["hash"] != digest:
                        assert time.monotonic() < end, f"reload {number} is not in force"
                        await asyncio.sleep(0.02)
                self.confirmed = number
            self.reloaded = True
            history = (await admin.get("/config/history")).json()["data"]
            assert len(history) == 50
            assert [(entry["source"], entry["error"]) for entry in history if entry["error"]] == []
            assert {entry["source"] for entry in history} <= {"file", "sighup", "api"}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for message in (CHAT, ROUTE) * 4:
                group.create_task(self.clients(message))
            group.create_task(self.reload())


def test_a_hundred_reloads_fail_nothing_mix_nothing_and_lose_no_count(tmp_path: Path) -> None:
    upstream, url = start_upstream("mock-llm", "--chunks", "16")
    file = tmp_path / "gateway.yaml"
    file.write_text(text(0, url))
    gateway = start_gateway(tmp_path / "data", "--config", str(file), workers=2)
    try:
        storm = Storm(gateway, file, url)
        asyncio.run(storm.run())
        assert set(storm.found) == {"good"}, storm.found
        assert storm.found["good"] == storm.sent >= REQUESTS
        told = httpx.get(f"{gateway.admin}/consumers/alice/limits", trust_env=False).json()["data"]
        assert [(entry["limit"], entry["used"], entry["reserved"]) for entry in told] == [
            (DAY + RELOADS, storm.sent, 0),
            (MONTH + RELOADS, storm.sent, 0),
        ]
    finally:
        assert gateway.process.end() == 0
        upstream.end()
    assert not [line for line in gateway.process.lines if '"died"' in line]
