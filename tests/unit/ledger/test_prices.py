"""Versions of prices: history, pages and filters; the cost of calls that died in their middle; calls without a cost."""

import json
from typing import Any

import pytest

from aigw.entities.rates import Rates
from aigw.errors import StoreError
from aigw.ledger.prices import Owner, PriceBook, Version, page, version
from aigw.ledger.query import BadQuery, PriceFilters, price_filters
from aigw.ledger.source import COSTED, COUNTED, PRICED
from ledgers import NOON, NS, Ledger, entry

NOW = NOON * NS


def made(**fields: Any) -> Version:
    rates = Rates.model_validate(fields)
    return version(rates.model_dump(mode="json", exclude_none=True), rates.compiled())


def listed(ledger: Ledger, wanted: PriceFilters | None = None) -> list[tuple[str, str, str, bool]]:
    """(kind, owner, id, in force) of each version."""
    with ledger.store.reading() as connection:
        rows = page(connection, wanted or PriceFilters(), 0, 100).data
    return [(row["kind"], row["owner"], row["id"], row["valid_until"] is None) for row in rows]


def test_a_version_stays_when_another_follows_and_when_it_is_taken_back(ledger: Ledger) -> None:
    book, cheap, dear = PriceBook(ledger.store), made(input=1), made(input=2)
    free: Owner = ("price", "free")
    assert book.note({free: cheap}, NOW) and not book.note({free: made(input=1, cached_input=1)}, NOW + 1)
    assert book.note({free: dear}, NOW + NS)
    assert PriceBook(ledger.store).note({free: cheap}, NOW + 2 * NS), "after a restart"
    assert PriceBook(ledger.store).note({}, NOW + 3 * NS)
    assert listed(ledger) == [("price", "free", v.id, False) for v in (cheap, dear, cheap)]
    for at, wanted in (
        (NOW - 1, []),
        (NOW, [cheap]),
        (NOW + NS, [dear]),
        (NOW + 5 * NS // 2, [cheap]),
        (NOW + 9 * NS, []),
    ):
        assert [row[2] for row in listed(ledger, PriceFilters(at=at))] == [v.id for v in wanted], at


def test_versions_begin_in_order_though_the_clock_goes_back(ledger: Ledger) -> None:
    book = PriceBook(ledger.store)
    for n in range(3):
        book.note({("cost", "m"): made(input=n)}, NOW - n * NS)
    with ledger.store.reading() as connection:
        rows = page(connection, PriceFilters(), 0, 100).data
    begins = [row["valid_from"] for row in rows]
    assert begins == sorted(begins) and [row["valid_until"] for row in rows] == [*begins[1:], None]


def test_an_id_is_the_text_that_events_have(ledger: Ledger) -> None:
    price, cost = made(input=1, output=3), made(input=0.5)
    PriceBook(ledger.store).note({("price", "free"): price, ("cost", "small"): cost}, NOW)
    ledger.source.append(entry(price_version=int(price.id, 16), cost_version=int(cost.id, 16)))
    ledger.round()
    (event,) = ledger.events()
    assert (event["price_version"], event["cost_version"]) == (price.id, cost.id)
    with ledger.store.reading() as connection:
        rows = page(connection, PriceFilters("price", "free"), 0, 100).data
    assert [(row["id"], row["body"]) for row in rows] == [(price.id, {"input": 1, "output": 3, "request": 0})]


def test_a_fault_of_the_disk_stores_no_version_and_the_next_call_does(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, wanted = PriceBook(ledger.store), {("price", "free"): made(input=1)}
    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(json, "dumps", lambda *_: (_ for _ in ()).throw(StoreError("full")))
        book.note(wanted, NOW)
    assert listed(ledger) == [] and book.note(wanted, NOW) and len(listed(ledger)) == 1


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, PriceFilters()),
        ({"model": "m"}, PriceFilters("cost", "m")),
        ({"tier": "t", "kind": "price"}, PriceFilters("price", "t")),
        ({"owner": "x", "at": "5"}, PriceFilters(None, "x", 5 * NS)),
    ],
)
def test_filters_name_owner_kind_and_time(query: dict[str, str], wanted: PriceFilters) -> None:
    assert price_filters(query) == wanted


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"consumer": "a"}, "consumer"),
        ({"kind": "costs"}, "kind"),
        ({"kind": "cost", "tier": "a"}, "kind"),
        ({"model": "a", "tier": "b"}, "tier"),
        ({"model": ""}, "model"),
        ({"at": "yesterday"}, "at"),
    ],
)
def test_filters_refuse_what_names_nothing(query: dict[str, str], field: str) -> None:
    with pytest.raises(BadQuery) as refused:
        price_filters(query)
    assert refused.value.field == field


def test_a_call_that_died_in_its_middle_costs_the_tokens_that_it_had_counted(ledger: Ledger) -> None:
    rates = {"input": 1, "output": 2, "cached_input": 4, "service_tiers": {"priority": 2}}
    cost = made(**rates)
    PriceBook(ledger.store).note({("cost", "small"): cost}, NOW)
    known = {"cost_version": int(cost.id, 16), "outcome": 5, "cost": 999_999, "input": 10, "output": 5}
    ledger.source.append(entry(source=2, **known))
    ledger.source.append(entry(source=3, **known))
    ledger.source.append(entry(source=2, **known | {"cost_version": 77}))
    ledger.round()
    assert [e["cost_nanodollars"] for e in ledger.events()] == [2 * (10 * 4000 + 5 * 2000), 999_999, 999_999]
    (total,) = ledger.usage()
    assert total["cost_nanodollars"] == 100_000 + 2 * 999_999


def test_calls_of_models_without_a_cost_are_counted_by_tier_and_model_once(ledger: Ledger) -> None:
    for model, flags in ((1, COUNTED), (2, COUNTED | PRICED), (1, 0), (0, COUNTED), (1, COUNTED | COSTED)):
        ledger.source.append(entry(model=model, flags=flags))
    ledger.round()
    ledger.round()
    (found,) = [family for family in ledger.compactor.families() if family.name == "aigw_unpriced_total"]
    assert {(dict(s.labels)["tier"], dict(s.labels)["model"], s.value) for s in found.samples} == {
        ("tier-1", "model-1", 2),
        ("tier-1", "model-2", 1),
    }


def test_media_and_service_tier_are_columns_of_an_event(ledger: Ledger) -> None:
    ledger.source.append(entry(image_input=3, audio_input=4, image_output=5, audio_output=6, service_tier=4))
    ledger.source.append(entry(service_tier=200))
    ledger.round()
    first, second = ledger.events()
    names = ("image_input_tokens", "audio_input_tokens", "image_output_tokens", "audio_output_tokens", "service_tier")
    assert [first[name] for name in names] == [3, 4, 5, 6, "flex"] and second["service_tier"] is None
