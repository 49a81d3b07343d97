"""The tests' own upstream: a script that raises fails its own test, and that one alone."""

import pytest

from tests.support.ends import Upstream, Wire, ask


def broken(wire: Wire) -> None:
    wire.request()
    raise AssertionError("of the script")


def test_a_script_that_raises_fails_its_test() -> None:
    with pytest.raises(AssertionError, match="of the script"), Upstream(broken) as upstream:
        assert ask(upstream.url, "GET", "/").head == b""


def test_a_script_that_raises_does_not_hide_the_test_s_failure() -> None:
    with pytest.raises(AssertionError, match="of the test"), Upstream(broken) as upstream:
        assert ask(upstream.url, "GET", "/").head == b""
        raise AssertionError("of the test")
