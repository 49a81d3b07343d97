"""A limit that changes while calls are in flight counts them on: reloads, writes of the Admin API, moves to another tier."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.integration.concurrency.conftest import YEAR, Floor, admitted, configuration, in_flight, to_model
from tests.support.holding import Holding
from tests.support.processes import Gateway, wait_until
from tests.support.surface import Caller, Json

New = Callable[..., Gateway]
Change = Callable[[list[Json]], None]


@pytest.fixture(params=["file", "admin"])
def changing(request: pytest.FixtureRequest, new_gateway: New, tmp_path: Path) -> "tuple[Floor, Change]":
    """A gateway, and the way in which the limits of its tier `moving` change."""
    with Holding() as upstream:
        file = tmp_path / "c.yaml"
        given = configuration(upstream.url)
        if request.param == "file":
            given["tiers"]["moving"] = {"limits": [{"concurrency": 3}]}
        file.write_text(json.dumps(given))
        floor = Floor(new_gateway("--config", str(file), workers=2), upstream)

        def change(limits: list[Json]) -> None:
            if request.param == "file":
                given["tiers"]["moving"] = {"limits": limits}
                fresh = tmp_path / "fresh"
                fresh.write_text(json.dumps(given))
                fresh.rename(file)
            else:
                url = f"{floor.gateway.admin}/tiers/moving"
                answer = httpx.put(url, json={"limits": limits}, trust_env=False)
                assert answer.is_success, answer.text

        if request.param == "admin":
            change([{"concurrency": 3}])
        yield floor, change


def limit_is(who: Caller, limit: int | None) -> None:
    """Wait until the caller's limit on calls at once is this one."""

    wanted = [] if limit is None else [limit]

    def there() -> bool:
        return [row["limit"] for row in who.limits() if row["meter"] == "concurrency"] == wanted

    wait_until(there, f"the limit is {limit}")


def test_limit_changes_under_calls_in_flight(changing: tuple[Floor, Change]) -> None:
    floor, change = changing
    one = floor.caller("moving")
    held = floor.fill(one)

    change([{"concurrency": 1}, YEAR])
    limit_is(one, 1)
    rows = [row for row in one.limits() if row["meter"] == "concurrency"]
    assert [(row["used"], row["remaining"]) for row in rows] == [(3, 0)]
    refused = floor.crowd([to_model(one.key)] * 5)
    assert {answer.status for answer in refused.finish()} == {429}
    floor.upstream.let_go(2)
    held.wait_ended(2)
    wait_until(lambda: in_flight(one) == 1, "two places are free")
    assert {answer.status for answer in floor.crowd([to_model(one.key)] * 5).finish()} == {429}

    change([{"concurrency": 5}])
    limit_is(one, 5)
    more = floor.crowd([to_model(one.key)] * 12)
    floor.upstream.wait(5)
    assert {answer.status for answer in more.wait_ended(8)} == {429}
    floor.upstream.let_go(5)
    held.finish()
    more.finish()

    change([{"concurrency": 2}])
    limit_is(one, 2)
    floor.is_free(one, 2)


def test_limit_that_goes_and_comes_back_counts_the_calls_it_admitted(changing: tuple[Floor, Change]) -> None:
    floor, change = changing
    one = floor.caller("moving")
    held = floor.fill(one)
    change([YEAR])
    limit_is(one, None)
    free = floor.crowd([to_model(one.key)] * 4)
    floor.upstream.wait(7)
    change([{"concurrency": 3}])
    limit_is(one, 3)
    assert in_flight(one) == 3
    assert {answer.status for answer in floor.crowd([to_model(one.key)] * 5).finish()} == {429}
    floor.upstream.let_go(7)
    held.finish()
    free.finish()
    floor.is_free(one)


def test_move_to_another_tier_takes_the_calls_along(floor: Floor) -> None:
    one = floor.caller("three")
    held = floor.fill(one)
    one.join("several")
    assert max(row["used"] for row in one.limits()) == 3
    more = floor.crowd([to_model(one.key)] * 8)
    floor.upstream.wait(4)
    assert {answer.status for answer in more.wait_ended(7)} == {429}
    floor.upstream.let_go(4)
    held.finish()
    more.finish()
    floor.upstream.forget()
    assert admitted(floor, [to_model(one.key)] * 8, 2) == {429}


def test_changes_in_a_row_leave_no_place_taken(changing: tuple[Floor, Change]) -> None:
    floor, change = changing
    one = floor.caller("moving")
    for number in range(8):
        limit = number % 3 + 1
        change([{"concurrency": limit}])
        crowd = floor.crowd([to_model(one.key, stream=bool(n % 2)) for n in range(12)])
        floor.upstream.let_go(12)
        crowd.finish()
        assert floor.upstream.most <= 3
        floor.upstream.forget()
    change([{"concurrency": 3}])
    limit_is(one, 3)
    floor.is_free(one)
