"""Two workers with small bounds, in front of an echo service, a model and an upstream that sends without an end."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.ends import message
from tests.support.hostile import MIB, Flood, Healthy
from tests.support.processes import Gateway, free_ports, start_upstream
from tests.support.surface import Caller, Json, caller, metric, start_configured

WORKERS = 2
MEMORY = 16 * MIB
"""Bytes of bodies and answers that one worker may hold; one caller a quarter."""
ANSWER = 8 * MIB
"""Bytes of an answer of the flood."""
FLEET = "sk-test-fleet-0123456789abcdef"
"""The key by which the gateway calls itself."""
YEAR: Json = {"requests": 1_000_000, "per": "year"}


@dataclass(frozen=True)
class Floor:
    """The gateway, and a caller that does nothing bad."""

    gateway: Gateway
    good: Caller

    def healthy(self) -> Healthy:
        """The good caller at work, as a context manager."""
        return Healthy(self.gateway.proxy, message("GET", "/echo/get", f"apikey: {self.good.key}", close=False))

    def caller(self) -> Caller:
        """A new consumer with a key and a limit that counts."""
        return caller(self.gateway, "counted")

    def refused(self, reason: str) -> int:
        """Requests refused for this reason so far."""
        return int(metric(self.gateway, "aigw_denials_total", reason=reason))


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """Shared by all tests of this folder: each makes callers of its own."""
    with ExitStack() as stack:
        echo, echo_url = start_upstream("echo")
        stack.callback(echo.end)
        llm, llm_url = start_upstream("mock-llm")
        stack.callback(llm.end)
        flood = stack.enter_context(Flood(ANSWER))
        auth: list[Json] = [{"name": "key-auth"}]
        services = [
            {"name": name, "url": url, "routes": [{"name": name, "paths": [f"/{name}"]}], "plugins": auth}
            for name, url in (("echo", echo_url), ("flood", flood.url))
        ]
        proxy = f"127.0.0.1:{free_ports(1)[0]}"
        models = {
            "small-chat": {"upstreams": [{"url": llm_url + "/v1", "model": "small-chat"}]},
            "round": {"upstreams": [{"url": f"http://{proxy}/v1", "model": "round", "api_key": FLEET}]},
        }
        configuration: Json = {"models": models, "tiers": {"counted": {"limits": [YEAR]}}, "services": services}
        configuration["consumers"] = [{"username": "fleet", "tier": "counted", "keyauth_credentials": [{"key": FLEET}]}]
        env = {"AIGW_BODY_MEMORY": str(MEMORY), "AIGW_MAX_BODY_MEMBERS": "200000"}
        data = tmp_path_factory.mktemp("bounds") / "data"
        gateway = start_configured(data, configuration, "--proxy", proxy, workers=WORKERS, env=env)
        stack.callback(gateway.process.end)
        yield Floor(gateway, caller(gateway, "counted"))


@pytest.fixture
def floor(running: Floor) -> Floor:
    """The gateway of this folder."""
    return running
