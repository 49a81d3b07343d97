"""`/prices`: a version is in the ledger before workers have it, and stays when its owner changes or goes."""

import pytest

from conftest import Gateway


def owners(gateway: Gateway, query: str = "") -> list[tuple[str, str, bool]]:
    """(kind, owner, in force) of each version."""
    rows = gateway.call("GET", f"/prices{query}")["data"]
    return [(row["kind"], row["owner"], row["valid_until"] is None) for row in rows]


def test_versions_follow_tiers_and_models(gateway: Gateway) -> None:
    text = "models: {m: {upstreams: [{url: 'http://10.0.0.1/v1'}], cost: {input: 1}}}\ntiers: {a: {price: {input: 2}}, b: {}}\n"
    for now, of_a in ((1, "{price: {input: 2}}"), (2, "{price: {output: 2}}"), (3, "{}")):
        gateway.now = 1_700_000_000.0 + now
        content = text.replace("{price: {input: 2}}", of_a)
        gateway.call("POST", "/config", content=content, headers={"content-type": "text/yaml"})
    assert owners(gateway) == [("cost", "m", True), ("price", "a", False), ("price", "a", False)]
    assert owners(gateway, "?at=1700000001.5") == [("cost", "m", True), ("price", "a", False)]
    assert owners(gateway, "?kind=cost&owner=a") == owners(gateway, "?tier=m") == []
    gateway.close()
    gateway.open()
    assert len(owners(gateway)) == 3


def test_a_version_that_cannot_be_stored_is_not_in_force(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gateway.control is not None
    publication = gateway.control.publication

    def full(found: object) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(publication, "note_prices", full)
        answer = gateway.call("PUT", "/tiers/a", 503, json={"price": {"input": 1}})
        assert "stored, but not in force yet: no room" in answer["message"]
    assert (gateway.publisher.policy or {})["tiers"] == [] and owners(gateway) == []
    gateway.call("PUT", "/tiers/a", json={"price": {"input": 1}})
    assert owners(gateway) == [("price", "a", True)]
    assert (gateway.publisher.policy or {})["tiers"][0]["price"]["input"] == 10**9


@pytest.mark.parametrize(
    "query", ["consumer=a", "kind=x", "model=a&tier=b", "at=soon", "size=0", "offset=x", "group_by=kind"]
)
def test_wrong_filters_are_refused_in_kongs_form(gateway: Gateway, query: str) -> None:
    answer = gateway.call("GET", f"/prices?{query}", 400)
    assert answer["code"] in (7, 9, 11) and answer["name"].startswith("invalid") and answer["fields"]
