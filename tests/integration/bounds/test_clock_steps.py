"""The wall clock is set forward and back while clients call: limits below a day go on as if nothing had happened, a day follows UTC."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx

from tests.support.clock import Clock
from tests.support.processes import PATIENCE_S, Gateway

New = Callable[..., Gateway]
DAY = 86_400


def route(gateway: Gateway, echo: str, name: str, **limits: int) -> str:
    """A route with this limit; returns its address."""
    gateway.route(echo, f"/{name}", name)
    config = {**limits, "policy": "local", "limit_by": "service"}
    gateway.make(f"/services/{name}/plugins", name="rate-limiting", config=config)
    return f"{gateway.proxy}/{name}/get"


def calls(address: str, seconds: float, per_second: int) -> list[int]:
    """Statuses of calls at this rate."""
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        found, begin = [], time.monotonic()
        for n in range(round(seconds * per_second)):
            time.sleep(max(0.0, begin + n / per_second - time.monotonic()))
            found.append(client.get(address).status_code)
    return found


def test_steps_do_not_move_limits_below_a_day(new_gateway: New, tmp_path: Path, echo: str) -> None:
    clock = Clock(tmp_path)
    gateway = new_gateway(workers=2, env=clock.environment)
    second, hour = route(gateway, echo, "second", second=20), route(gateway, echo, "hour", hour=3)
    assert calls(hour, 1, 2) == [200] * 2
    for ahead in (0, DAY, 0, -60, 0):
        clock.step(ahead)
        assert calls(second, 1.2, 5) == [200] * 6, f"{ahead} s ahead"
    assert calls(hour, 1, 3) == [200, 429, 429], "never over the limit, and no hour began anew"
    clock.step(DAY)
    refused = httpx.get(hour, trust_env=False)
    assert refused.status_code == 429 and 0 < int(refused.headers["retry-after"]) <= 3600
    clock.step(-DAY)
    refused = httpx.get(hour, trust_env=False)
    assert refused.status_code == 429 and 0 < int(refused.headers["retry-after"]) <= 3600


def test_day_follows_utc_and_begins_anew_once(new_gateway: New, tmp_path: Path, echo: str) -> None:
    clock = Clock(tmp_path)
    gateway = new_gateway(workers=2, env=clock.environment)
    day = route(gateway, echo, "day", day=2)
    assert calls(day, 1, 3) == [200, 200, 429]
    clock.step(DAY)
    assert calls(day, 1, 3) == [200, 200, 429], "the next day"
    for ahead in (0, DAY):
        clock.step(ahead)
        assert calls(day, 1, 2) == [429, 429], "both days are used up"
