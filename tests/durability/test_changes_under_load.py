"""Configuration changes under load: nothing is lost, and a change holds for the next request."""

import asyncio
import itertools
from collections.abc import Callable

import httpx2 as httpx

from tests.support.load import Client, hammer, request
from tests.support.processes import Gateway

New = Callable[..., Gateway]

REQUESTS = 200_000
CHANGES = 100


def test_100_changes_under_200_000_requests_lose_none(new_gateway: New, echo: str) -> None:
    gateway = new_gateway(workers=2)
    gateway.route(echo, "/ai")
    gateway.make("/services/s1/plugins", name="key-auth")
    limit = gateway.make("/services/s1/plugins", name="rate-limiting", config={"day": 100_000_000, "policy": "local"})
    gateway.make("/consumers", username="alice")
    gateway.make("/consumers/alice/key-auth", key="the-key-that-always-works-here")
    # Most are refused: a refusal reads the same configuration and leaves the time for more of them.
    passing, refused = request("/ai/get", "the-key-that-always-works-here"), request("/ai/get")
    seen: list[tuple[str, int | None, int]] = []

    async def change() -> None:
        client = Client(gateway.proxy)
        async with httpx.AsyncClient(base_url=gateway.admin, trust_env=False, timeout=60) as admin:
            for number in itertools.count():
                if len(seen) >= CHANGES:
                    break
                key = f"a-key-that-comes-and-goes-{number:04}"
                made = await admin.post("/consumers/alice/key-auth", json={"key": key})
                assert made.status_code == 201, made.text
                seen.append(("key made", await client.send(request("/ai/get", key)), 200))
                gone = await admin.delete(f"/consumers/alice/key-auth/{made.json()['id']}")
                assert gone.status_code == 204
                seen.append(("key deleted", await client.send(request("/ai/get", key)), 401))
                changed = await admin.patch(f"/plugins/{limit['id']}", json={"config": {"day": 100_000_000 + number}})
                assert changed.status_code == 200, changed.text
                route = await admin.post("/services/s1/routes", json={"paths": [f"/r{number}"]})
                assert route.status_code == 201, route.text
                seen.append(("route made", await client.send(request(f"/r{number}/get")), 401))
                gone = await admin.delete(f"/routes/{route.json()['id']}")
                assert gone.status_code == 204
                seen.append(("route deleted", await client.send(request(f"/r{number}/get")), 404))
        client.close()

    counts = asyncio.run(
        hammer(
            gateway.proxy,
            lambda number: passing if number % 10 == 0 else refused,
            clients=32,
            requests=REQUESTS,
            beside=change(),
        )
    )
    assert counts == {200: REQUESTS // 10, 401: REQUESTS - REQUESTS // 10}
    assert [fact for fact in seen if fact[1] != fact[2]] == []
    assert len(seen) >= CHANGES
