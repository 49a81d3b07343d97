"""Entities that are deleted before their first call is stored: their entries have their names all the same."""

import httpx2 as httpx

from tests.support.processes import Gateway, wait_until
from tests.support.surface import Json, caller, occupy


def test_entities_deleted_during_their_first_call_keep_their_names(books: Gateway) -> None:
    tier = "short-lived"
    assert httpx.put(f"{books.admin}/tiers/{tier}", json={"limits": []}, trust_env=False).status_code == 200
    one = caller(books, tier)
    with occupy(one):
        for path in (f"/consumers/{one.name}", f"/tiers/{tier}"):
            assert httpx.delete(books.admin + path, trust_env=False).status_code == 204
    found: list[Json] = []

    def is_stored() -> bool:
        url = f"{books.admin}/usage/events"
        found[:] = httpx.get(url, params={"consumer": one.name}, trust_env=False).json()["data"]
        return bool(found)

    wait_until(is_stored, "the call is found by its consumer's name")
    assert (found[0]["consumer"], found[0]["tier"], found[0]["outcome"]) == (one.name, tier, "client_cut")
    usage = httpx.get(f"{books.admin}/usage", params={"consumer": one.name}, trust_env=False).json()["data"]
    assert [row["requests"] for row in usage] == [1]
