"""A gateway that counts every call of one consumer, so tests can read the amounts that failed calls take and give back.

One counter for all services: the consumer's own plugin. Its window is a year, so it does not end during a test.
"""

import itertools
from typing import Any

import httpx2 as httpx

from tests.support.ends import Answer, ask
from tests.support.processes import Gateway, wait_until

KEY = "a-key-that-is-only-used-in-tests"
_numbers = itertools.count(1)


def meter(gateway: Gateway) -> None:
    """Require keys on all routes; give the consumer `x` a limit that never refuses."""
    gateway.make("/plugins", name="key-auth")
    gateway.make("/consumers", username="x")
    gateway.make("/consumers/x/key-auth", key=KEY)
    gateway.make("/consumers/x/plugins", name="rate-limiting", config={"year": 1_000_000, "policy": "local"})


def serve(gateway: Gateway, url: str, **service: object) -> str:
    """Create a service at `url` with a route. Returns the route's path."""
    name = f"metered-{next(_numbers)}"
    gateway.make("/services", name=name, url=url, **service)
    gateway.make(f"/services/{name}/routes", paths=[f"/{name}"])
    return f"/{name}"


def call(gateway: Gateway, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
    """Make a call of the consumer."""
    return ask(gateway.proxy, method, path, f"apikey: {KEY}", *lines, body=body)


def standing(gateway: Gateway) -> dict[str, Any]:
    """The consumer's standing from the Admin API."""
    answer = httpx.get(f"{gateway.admin}/consumers/x/limits", trust_env=False)
    (limit,) = answer.json()["data"]
    found: dict[str, Any] = limit
    return found


def used(gateway: Gateway) -> int:
    """The used amount after all permits are settled."""
    wait_until(lambda: standing(gateway)["reserved"] == 0, "no permit is held")
    count: int = standing(gateway)["used"]
    return count
