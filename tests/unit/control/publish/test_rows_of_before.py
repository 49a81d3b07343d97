"""Rows of metrics that an earlier version numbered in the store keep their tier, model and upstream."""

import sqlalchemy as sa

from aigw.control.store import tables
from conftest import Gateway


def load(gateway: Gateway, tiers: str) -> None:
    text = f"tiers: {tiers}\nmodels: {{m: {{upstreams: [{{url: 'http://h/v1'}}]}}}}\n"
    gateway.call("POST", "/config", content=text, headers={"content-type": "text/yaml"})


def test_rows_of_an_earlier_version_are_adopted_once(gateway: Gateway) -> None:
    load(gateway, "{free: {}, gone: {}}")
    assert gateway.control is not None
    world = gateway.control.publication.world
    tiers = {tier.entity.name: (key, tier.n) for key, tier in world.tiers.items()}
    ((key, (n, _)),) = world.models.items()
    assert gateway.publisher.adopted == ([], []), "a new folder has no such rows"
    load(gateway, "{free: {}}")
    rows = [
        {"kind": "series", "id": f"{tiers['gone'][0]}/{key}", "n": 1},
        {"kind": "series", "id": f"{tiers['free'][0]}/{key}", "n": 2},
        {"kind": "series", "id": f"unknown/{key}", "n": 3},
        {"kind": "calls", "id": f"{tiers['free'][0]}/{key}/h/m", "n": 7},
        {"kind": "calls", "id": f"{tiers['free'][0]}/{key}/old/m", "n": 6},
    ]
    with gateway.control.store.writing() as session:
        session.connection.execute(sa.insert(tables.row_numbers), rows)
        session.commit()
    gateway.close()
    gateway.open()
    series, calls = gateway.publisher.adopted
    assert sorted(series) == [(tiers["free"][1], n, 2), (tiers["gone"][1], n, 1)]
    assert calls == [(tiers["free"][1], 8, 6), (tiers["free"][1], 1, 7)], "numbers of entries are not given again"
