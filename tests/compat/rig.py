"""The gateway of the matrix, with a fast and a slow mock LLM behind it, and tiers that refuse in each way."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.processes import Gateway, start_upstream
from tests.support.surface import Json, start_configured

YEAR: Final[Json] = {"requests": 1_000_000, "per": "year"}  # never exhausted, and its window does not end during a run


@dataclass(frozen=True)
class Rig:
    """A gateway and its upstreams."""

    gateway: Gateway
    llm: str
    slow: str

    @property
    def base(self) -> str:
        return self.gateway.proxy + "/v1"


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """Start everything; end it afterwards."""
    with ExitStack() as stack:
        mock, llm = start_upstream("mock-llm")
        stack.callback(mock.end)
        slow_mock, slow = start_upstream("mock-llm", "--chunk-ms", "20", "--chunks", "100000")
        stack.callback(slow_mock.end)
        models = {
            name: {"upstreams": [{"url": llm + "/v1", "model": "mock-small"}]} for name in ("small-chat", "hidden-chat")
        }
        models["slow-chat"] = {"upstreams": [{"url": slow + "/v1"}]}
        tiers = {
            "usual": {"limits": [YEAR], "allow": {"models": ["small-*", "slow-*"]}},
            # One call is free at once; the next is refused until 2 s later, which clients wait for.
            "burst": {"limits": [YEAR, {"requests": 1, "per": "2s", "burst": 1}]},
            "quota": {"limits": [{"requests": 1, "per": "year"}]},
        }
        gateway = start_configured(
            folder / "data", {"models": models, "tiers": tiers}, "--drain-timeout", "1", workers=2
        )
        stack.callback(gateway.process.end)
        yield Rig(gateway, llm, slow)
