"""One gateway with priced models, tiers and a route, whose ledger the tests read."""

from collections.abc import Iterator

import pytest

from tests.support.processes import Gateway, start_upstream
from tests.support.surface import start_configured

COST = {"input": 0.15, "output": 0.60}
PRICE = {"input": 0.30, "output": 1.20, "request": 0}


@pytest.fixture(scope="module")
def books(mock_llm: str, echo: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Shared by a module's tests, so make callers of your own."""

    slow, slow_url = start_upstream("mock-llm", "--chunk-ms", "20", "--chunks", "100000")

    def model(url: str = mock_llm, **more: object) -> dict[str, object]:
        return {"upstreams": [{"url": url + "/v1", "model": "mock-small"}], "features": ["standard"], **more}

    configuration = {
        "models": {
            "small-chat": model(cost=COST),
            "free-chat": model(),
            "hidden-chat": model(features=["secret"]),
            "slow-chat": model(slow_url),
        },
        "tiers": {
            "paying": {"limits": [{"requests": 1000, "per": "year"}], "price": PRICE},
            "daily": {"limits": [{"requests": 2, "per": "day"}], "allow": {"features": ["standard"]}},
            "bucket": {"limits": [{"requests": 1, "per": "60m", "burst": 2}]},
            "one-at-once": {"limits": [{"concurrency": 1}]},
            "poor": {"limits": [{"spend": 0.0001, "per": "month"}], "price": {"input": 1, "output": 1}},
        },
        "services": [{"name": "echo", "url": echo, "routes": [{"name": "echo", "paths": ["/echo"]}]}],
        "plugins": [{"name": "key-auth", "service": "echo"}],
        "v1": {"cors": {"origins": ["https://app.example"]}},
    }
    data = tmp_path_factory.mktemp("books") / "data"
    gateway = start_configured(data, configuration, "--drain-timeout", "1", workers=2)
    yield gateway
    gateway.process.end()
    slow.end()
