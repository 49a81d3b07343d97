"""Fixtures of tests that speak to the gateway byte by byte."""

from collections.abc import Iterator

import pytest

from tests.support.wire import Upstream, upstream


@pytest.fixture(scope="module")
def running() -> Iterator[Upstream]:
    """An upstream that records requests, for a module's tests."""
    with upstream() as kept:
        yield kept


@pytest.fixture
def kept(running: Upstream) -> Upstream:
    """The module's upstream, with nothing in it."""
    running.take()
    return running
