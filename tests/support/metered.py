"""A gateway on which every call of one consumer is counted: what failed calls take and give back can be read.

One counter for all services: the consumer's own plugin, with a window of a year so that none ends during a test.
"""

import itertools
from typing import Any

import httpx2 as httpx

from tests.support.ends import Answer, ask
from tests.support.processes import Gateway, wait_until

KEY = "a-key-that-is-only-used-in-tests"
_numbers = itertools.count(1)


def meter(gateway: Gateway) -> None:
    """Ask for keys everywhere; give the consumer `x` a limit that never trips."""
    gateway.make("/plugins", name="key-auth")
    gateway.make("/consumers", username="x")
    gateway.make("/consumers/x/key-auth", key=KEY)
    gateway.make("/consumers/x/plugins", name="rate-limiting", config={"year": 1_000_000, "policy": "local"})


def serve(gateway: Gateway, url: str, **service: object) -> str:
    """A service at `url` with a route; its path."""
    name = f"metered-{next(_numbers)}"
    gateway.make("/services", name=name, url=url, **service)
    gateway.make(f"/services/{name}/routes", paths=[f"/{name}"])
    return f"/{name}"


def call(gateway: Gateway, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
    """A call of the consumer's."""
    return ask(gateway.proxy, method, path, f"apikey: {KEY}", *lines, body=body)


def standing(gateway: Gateway) -> dict[str, Any]:
    """The consumer's limit as the Admin API tells it."""
    answer = httpx.get(f"{gateway.admin}/consumers/x/limits", trust_env=False)
    (limit,) = answer.json()["data"]
    found: dict[str, Any] = limit
    return found


def used(gateway: Gateway) -> int:
    """What counts once nothing is held any more."""
    wait_until(lambda: standing(gateway)["reserved"] == 0, "no permit is held")
    count: int = standing(gateway)["used"]
    return count
