"""Fixtures that every test may use: a real gateway and real upstreams. Each is ended by its own pid."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import Demo, Gateway, start_demo, start_gateway, start_httpbin, start_upstream


@pytest.fixture
def new_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways: `new_gateway(*arguments, workers=1, data=..., env=...)`; each is ended after the test."""
    started: list[Gateway] = []

    def start(*arguments: str, data: Path | None = None, **options: object) -> Gateway:
        gateway = start_gateway(data or tmp_path / f"data-{len(started)}", *arguments, **options)  # type: ignore[arg-type]
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.process.end()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway with two workers for a module's tests: they share its entities, so use names of your own."""
    running = start_gateway(tmp_path_factory.mktemp("gateway") / "data", "--drain-timeout", "2", workers=2)
    yield running
    running.process.end()


@pytest.fixture(scope="session")
def mock_llm() -> Iterator[str]:
    """The URL of a mock LLM without waits or faults; shared, so read differences of its counters."""
    process, url = start_upstream("mock-llm")
    yield url
    process.end()


@pytest.fixture(scope="session")
def echo() -> Iterator[str]:
    """The URL of the echo service."""
    process, url = start_upstream("echo")
    yield url
    process.end()


@pytest.fixture(scope="session")
def httpbin() -> Iterator[str]:
    """The URL of the real httpbin."""
    process, url = start_httpbin()
    yield url
    process.end()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo of `make run` on free ports, for a module's tests."""
    running = start_demo(tmp_path_factory.mktemp("demo"))
    yield running
    running.process.end()
