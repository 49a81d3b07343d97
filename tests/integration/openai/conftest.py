"""One gateway for the clients of OpenAI's dialect: models that work, models that fail in each way, tiers that refuse each thing."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.ends import Upstream
from tests.support.failing import FAILURES, YEAR, Surface, after_reading
from tests.support.processes import start_upstream
from tests.support.surface import Json, start_configured


@pytest.fixture(scope="session")
def surface(mock_llm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surface]:
    """Shared: tests that count make callers of their own."""
    with ExitStack() as stack:
        slow, slow_url = start_upstream("mock-llm", "--chunk-ms", "20", "--chunks", "100000")
        stack.callback(slow.end)
        silent = stack.enter_context(socket.socket())  # bound, not listening: connections are refused
        silent.bind(("127.0.0.1", 0))
        failing = {name: stack.enter_context(Upstream(after_reading(act))) for name, act in FAILURES.items()}
        urls = {name: upstream.url for name, upstream in failing.items()}
        urls["fail-refuse"] = f"http://127.0.0.1:{silent.getsockname()[1]}"

        def model(url: str, **more: object) -> Json:
            return {"upstreams": [{"url": url + "/v1", "model": "mock-small"}], "features": ["standard"], **more}

        models = {name: model(url) for name, url in urls.items()}
        models |= {"small-chat": model(mock_llm, max_output_tokens=4096), "slow-chat": model(slow_url)}
        models |= {"big-chat": model(mock_llm, features=["reasoning"]), "hidden-chat": model(mock_llm)}
        free = {
            "limits": [YEAR],
            "allow": {
                "features": ["standard"],
                "models": ["small-*", "slow-*", "big-*", "fail-*"],
                "parameters": {"tools": False, "n": 1},
            },
            "prompt": {"max_bytes": 20_000},
            "output": {"max_tokens": 512},
        }
        tiers = {
            "free": free,
            "pro": {"limits": [YEAR]},
            "hasty": {"limits": [YEAR], "timeouts": {"first_byte": "500ms"}},
            "burst": {"limits": [YEAR, {"requests": 1, "per": "2s", "burst": 1}]},
            "daily": {"limits": [{"requests": 2, "per": "day"}]},
            "tokens-a-day": {"limits": [{"tokens": 40, "per": "day"}]},
            "spend-a-month": {
                "limits": [{"spend": 0.0004, "per": "month"}],
                "price": {"input": 1, "output": 1},
            },
            "token-burst": {"limits": [{"tokens": 20, "per": "2s", "burst": 30}]},
            "one-at-once": {"limits": [{"concurrency": 1}]},
        }
        folder = tmp_path_factory.mktemp("surface")
        gateway = start_configured(
            folder / "data", {"models": models, "tiers": tiers}, "--drain-timeout", "1", workers=2
        )
        stack.callback(gateway.process.end)
        yield Surface(gateway, mock_llm, slow_url, failing)
