"""Calls while the Admin API changes the forms of entities: keys under new ids, letter case, fractions of limits."""

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import pytest

from tests.support.processes import Gateway, start_gateway
from tests.support.wire import Upstream

KEY = "PlantedKey0123456789abcdefghijkl"
MOVES = 40


@pytest.fixture
def gateway(tmp_path: Path, kept: Upstream) -> Iterator[Gateway]:
    """A gateway with a route that wants a host, a header and a key."""
    started = start_gateway(tmp_path / "data", workers=2)
    try:
        service = started.make("/services", name="s", url=kept.url.replace("127.0.0.1", "LocalHost"))
        started.make(
            "/routes", name="r", paths=["/"], service=service, hosts=["API.Example.com"], headers={"X-Kind": ["Pro"]}
        )
        started.make("/routes/r/plugins", name="key-auth")
        started.make("/consumers", username="bob")
        yield started
    finally:
        started.process.end()


def call(gateway: Gateway, host: str = "api.example.COM", header: str = "x-kind") -> httpx.Response:
    return httpx.get(f"{gateway.proxy}/a", headers={"host": host, header: "Pro", "apikey": KEY}, trust_env=False)


def test_calls_go_on_while_a_key_moves_to_other_ids(gateway: Gateway, kept: Upstream) -> None:
    ids = [gateway.make("/consumers/bob/key-auth", key=KEY)["id"]]
    gateway.make("/routes/r/plugins", name="rate-limiting", config={"year": 1_000_000.5, "limit_by": "credential"})
    kept.take()
    statuses: list[int] = []
    moved = threading.Event()

    def calls() -> None:
        while not moved.is_set() or len(statuses) < MOVES:
            statuses.append(call(gateway).status_code)

    caller = threading.Thread(target=calls)
    caller.start()
    with httpx.Client(base_url=gateway.admin, trust_env=False) as admin:
        for _ in range(MOVES):
            ids.append(str(uuid4()))
            put = admin.put(f"/consumers/bob/key-auth/{ids[-1]}", json={"id": ids[-1], "key": KEY})
            assert (put.status_code, put.json()["id"]) == (200, ids[-1])
            assert admin.delete(f"/consumers/bob/key-auth/{ids[-2]}").status_code == 204
        moved.set()
        caller.join()
        assert [one["id"] for one in admin.get("/key-auths").json()["data"]] == [ids[-1]]
    assert set(statuses) == {200}
    last = call(gateway)
    seen = [dict(request.headers)["x-credential-identifier"] for request in kept.take()]
    assert seen[-1] == ids[-1]
    assert set(seen) <= set(ids)
    assert int(last.headers["x-ratelimit-remaining-year"]) == 1_000_000 - len(seen)


def test_a_key_that_moves_to_another_consumer_calls_for_it_at_once(gateway: Gateway, kept: Upstream) -> None:
    made = gateway.make("/consumers/bob/key-auth", key=KEY)
    gateway.make("/consumers", username="eve")
    kept.take()
    with httpx.Client(base_url=gateway.admin, trust_env=False) as admin:
        for owner in ("eve", "bob", "eve"):
            put = admin.put(f"/consumers/{owner}/key-auth/{made['id']}", json={"key": KEY})
            assert put.status_code == 200, put.text
            for _ in range(4):  # both workers
                assert call(gateway).status_code == 200
            assert {dict(request.headers)["x-consumer-username"] for request in kept.take()} == {owner}


def test_hosts_and_header_names_match_in_any_letter_case(gateway: Gateway, kept: Upstream) -> None:
    gateway.make("/consumers/bob/key-auth", key=KEY)
    kept.take()
    for host in ("api.example.com", "API.EXAMPLE.COM", "Api.Example.Com:80"):
        for header in ("x-kind", "X-KIND"):
            assert call(gateway, host, header).status_code == 200, (host, header)
    assert call(gateway, "api.example.org").status_code == 404
    shown = httpx.get(f"{gateway.admin}/routes/r", trust_env=False).json()
    assert (shown["hosts"], shown["headers"]) == (["API.Example.com"], {"X-Kind": ["Pro"]})


def test_of_a_fraction_the_whole_calls_pass(gateway: Gateway) -> None:
    gateway.make("/consumers/bob/key-auth", key=KEY)
    gateway.make("/routes/r/plugins", name="rate-limiting", config={"year": 2.5})
    answers = [call(gateway) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert {answer.headers["x-ratelimit-limit-year"] for answer in answers} == {"2"}
    plugins = httpx.get(f"{gateway.admin}/routes/r/plugins", trust_env=False).json()["data"]
    assert {one["name"]: one["config"] for one in plugins}["rate-limiting"]["year"] == 2.5
