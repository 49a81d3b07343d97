"""Answers made of the ledger: rollups are the sums of the events, pages hold each event once, and wrong queries name their field."""

import random
import re
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigw.ledger import events as events_module
from aigw.ledger import own
from aigw.ledger.events import of_request, page
from aigw.ledger.own import own_usage
from aigw.ledger.query import EVENT_FIELDS, LATEST, BadQuery, Filters, filters, grouping, price_filters, size
from aigw.ledger.retention import Retention
from aigw.ledger.usage import NS, parts
from ledgers import NOON, Ledger, entry, random_entry, sums_of


def test_an_event_has_every_field_in_the_order_of_the_interface(ledger: Ledger) -> None:
    request = bytes(range(16))
    ledger.source.append(entry(request_id=request, flags=29, reasoning=3, cached_input=4, cache_write=2, run=b"r" * 16))
    ledger.round()
    (event,) = ledger.events()
    assert tuple(event) == EVENT_FIELDS
    assert " ".join(event) == (
        "id time admitted_at request_id attempt consumer credential tier route model upstream agent run_id parent_request_id depth"
        " status outcome usage_source overrun input_tokens cached_input_tokens cache_write_input_tokens output_tokens"
        " reasoning_tokens cost_nanodollars price_nanodollars cost_version price_version stream latency_ms first_byte_ms queued_ms"
        " counted image_input_tokens audio_input_tokens image_output_tokens audio_output_tokens service_tier"
    )
    assert event | {"id": 0} == {
        "id": 0, "time": "2026-09-21T12:00:00.500000Z", "admitted_at": "2026-09-21T12:00:00.000000Z",
        "request_id": request.hex(), "attempt": 0, "consumer": "consumer-1", "credential": "credential-2", "tier": "tier-1",
        "route": None, "model": "model-1", "upstream": "upstream-3", "agent": None, "run_id": (b"r" * 16).hex(),
        "parent_request_id": None, "depth": 0, "status": 200, "outcome": "completed", "usage_source": "provider",
        "overrun": False, "input_tokens": 10, "cached_input_tokens": 4, "cache_write_input_tokens": 2, "output_tokens": 5,
        "reasoning_tokens": 3, "cost_nanodollars": 300, "price_nanodollars": 700, "cost_version": "0000000000000009",
        "price_version": "8000000000000007", "stream": True, "latency_ms": 500.0, "first_byte_ms": 120.5, "queued_ms": 0.0, "counted": True,
        "image_input_tokens": 0, "audio_input_tokens": 0, "image_output_tokens": 0, "audio_output_tokens": 0, "service_tier": None,
    }  # fmt: skip


def test_a_call_of_a_route_has_no_model_and_a_model_without_cost_no_cost(ledger: Ledger) -> None:
    ledger.source.append(entry(model=0, upstream=0, service=5, route=3, source=0, flags=1, price_version=0))
    ledger.source.append(entry(flags=9, cost=0, outcome=5, source=3))
    ledger.round()
    kong, unpriced = ledger.events()
    assert (kong["model"], kong["upstream"], kong["route"], kong["usage_source"]) == (
        None,
        "service-5",
        "route-3",
        None,
    )
    assert (kong["cost_nanodollars"], kong["price_version"]) == (None, None)
    assert (unpriced["cost_nanodollars"], unpriced["outcome"], unpriced["usage_source"]) == (
        None,
        "crashed",
        "reserved",
    )
    assert ledger.usage()[0]["unpriced"] == 1


def test_one_request_is_found_with_its_attempts(ledger: Ledger) -> None:
    twice, once = b"t" * 16, b"x" * 6 + b"t" * 10
    ledger.source.append(entry(request_id=twice, attempt=0, status=500, outcome=4))
    ledger.source.append(entry(request_id=once))
    ledger.source.append(entry(request_id=twice, attempt=1))
    ledger.round()
    with ledger.store.reading() as connection:
        found, single = of_request(connection, twice.hex()), of_request(connection, once.hex())
        assert found is not None and single is not None
        assert [e["attempt"] for e in found["attempts"]] == [0, 1] and found["status"] == 200
        assert single["request_id"] == once.hex() and "attempts" not in single
        assert [of_request(connection, text) for text in ("", "zz", "00", "0" * 32, "é" * 32)] == [None] * 5


def test_filters_select_by_name_id_and_time(ledger: Ledger) -> None:
    for n in range(6):
        ledger.source.append(entry(at=NOON + n, consumer=1 + n % 2, model=1 + n % 3, tier=1, input=n))
    ledger.round()

    def found(**query: str) -> list[int]:
        return [e["input_tokens"] for e in ledger.events(**query)]

    assert found(consumer="consumer-1") == found(consumer="id-consumer-1") == [0, 2, 4]
    assert found(consumer="consumer-2", model="model-1") == [3]
    assert found(tier="tier-1", after=str(NOON + 2), before=str(NOON + 4)) == [2, 3]
    assert found(after="2026-09-21T12:00:05Z") == found(after="2026-09-21T14:00:05+02:00") == [5]
    assert found(after="2026-09-22") == found(consumer="nobody") == found(before="2000-01-01") == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 9), st.booleans())
def test_a_program_that_polls_gets_each_event_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, most: int, narrow: bool
) -> None:
    rnd, ledger = random.Random(seed), Ledger(tmp_path_factory.mktemp("poll"))
    seen: list[str] = []
    made, at = 0, 0
    wanted = filters({"consumer": "consumer-1"} if narrow else {})
    for _ in range(8):
        for _ in range(rnd.randrange(12)):
            ledger.source.append(random_entry(rnd), slot=rnd.randrange(3), room=7)
            made += 1
        ledger.round()
        for _ in range(rnd.randrange(3)):
            with ledger.store.reading() as connection:
                found = page(connection, wanted, at, most)
            at = found.last
            seen += [e["id"] for e in found.data]
    while True:
        with ledger.store.reading() as connection:
            found = page(connection, wanted, at, most)
        at = found.last
        seen += [e["id"] for e in found.data]
        if not found.more:
            break
    everything = (
        [e["id"] for e in ledger.events(consumer="consumer-1")] if narrow else [e["id"] for e in ledger.events()]
    )
    assert seen == everything and (narrow or len(seen) == made)
    ledger.store.close()


def test_a_page_looks_at_a_bounded_number_of_events(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(50):
        ledger.source.append(entry(consumer=2 if n == 40 else 1))
    ledger.round()
    monkeypatch.setattr(events_module, "SCANNED", 15)
    pages, at, more = [], 0, True
    while more:
        with ledger.store.reading() as connection:
            data, at, more = page(connection, filters({"consumer": "consumer-2"}), at, 5)
        pages.append(len(data))
    assert pages == [0, 0, 1, 0] and at == 50


def test_blocks_leave_other_times_out(ledger: Ledger) -> None:
    for day in range(3):
        for _ in range(4096):
            ledger.source.append(entry(at=NOON + day * 86400))
    ledger.round()
    with ledger.store.reading() as connection:
        found = page(connection, filters({"after": str(NOON + 86400), "before": str(NOON + 86401)}), 0, 1000)
        spans = list(events_module._spans(connection, filters({"after": str(NOON + 2 * 86400)}), 0, 12288))
    assert len(found.data) == 1000 and found.more and found.last == 5096
    assert spans == [(8191, 12288)]


DIMENSIONS = ("consumer", "tier", "model", "route", "credential", "agent")


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 2**32),
    st.sets(st.sampled_from(DIMENSIONS)),
    st.sampled_from(["", "minute", "hour", "day", "month"]),
    st.tuples(st.integers(-300_000, 300_000), st.integers(1, 500_000)) | st.none(),
)
def test_rollups_are_the_sums_of_the_events(
    tmp_path_factory: pytest.TempPathFactory, seed: int, keys: set[str], time: str, span: tuple[int, int] | None
) -> None:
    rnd, ledger = random.Random(seed), Ledger(tmp_path_factory.mktemp("sums"))
    entries = []
    for _ in range(rnd.randrange(1, 5)):
        for _ in range(rnd.randrange(1, 40)):
            entries.append(random_entry(rnd))
            ledger.source.append(entries[-1], slot=rnd.randrange(2), room=9)
        ledger.round()
    query = {} if span is None else {"after": str(NOON + span[0]), "before": str(NOON + span[0] + span[1])}
    inside = [e for e in entries if span is None or 0 <= e["admitted_at"] - (NOON + span[0]) * NS < span[1] * NS]
    rows = ledger.usage(",".join([*sorted(keys), *([time] if time else [])]), **query)
    for name, value in sums_of(inside).items():
        assert sum(row[name] for row in rows) == value, name
    shown = ledger.events(**query)
    for row in rows:
        of_group = [
            e
            for e in shown
            if all(e[key] == row["group"][key] for key in keys)
            and (not time or prefix(e["admitted_at"], time) == row["group"][time])
        ]
        assert row["requests"] == len(of_group)
        assert row["price_nanodollars"] == sum(e["price_nanodollars"] for e in of_group)
    assert len({tuple(row["group"].items()) for row in rows}) == len(rows)
    ledger.store.close()


def prefix(at: str, time: str) -> str:
    return {"minute": f"{at[:16]}:00Z", "hour": f"{at[:13]}:00:00Z", "day": at[:10], "month": at[:7]}[time]


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.sampled_from([60, 3600, 86400]))
def test_parts_cover_a_range_once(low: int, length: int, coarsest: int) -> None:
    at = low * NS + 123
    for part in parts(low * NS + 123, (low + length) * NS + 123, coarsest):
        assert part.low == at and part.high > part.low and part.unit <= coarsest
        assert not part.unit or part.low % (part.unit * NS) == part.high % (part.unit * NS) == 0
        at = part.high
    assert at == (low + length) * NS + 123


def test_two_models_with_one_name_are_one_group(ledger: Ledger) -> None:
    ledger.directory.named["model"][7] = ("id-7", "model-1")
    for model in (1, 7, 2):
        ledger.source.append(entry(model=model))
    ledger.round()
    assert [(r["group"]["model"], r["requests"]) for r in ledger.usage("model")] == [("model-1", 2), ("model-2", 1)]
    assert len(ledger.events(model="model-1")) == 2
    assert ledger.usage(model="model-1")[0]["requests"] == 2


def test_consumer_made_again_is_told_apart_from_the_one_before(ledger: Ledger) -> None:
    ledger.directory.named["consumer"] |= {1: ("id-1", "alice"), 7: ("id-7", "alice")}
    ledger.source.append(entry(consumer=1))
    ledger.source.append((NOON, 1, 1, 1, 0, 4))
    ledger.round()
    assert [r["group"] for r in ledger.usage("consumer")] == [{"consumer": "alice"}]
    for consumer in (1, 7, 7):
        ledger.source.append(entry(consumer=consumer))
    ledger.round()
    found = [(r["group"]["consumer"], r["requests"], r["denials"]) for r in ledger.usage("consumer")]
    assert found == [("alice", 2, 0), ("alice (id-1)", 2, 4)]
    assert [e["consumer"] for e in ledger.events()] == ["alice (id-1)", "alice (id-1)", "alice", "alice"]
    for text, calls in (("alice", 2), ("id-7", 2), ("id-1", 2), ("alice (id-1)", 2), ("alice (id-7)", 2), ("id", 0)):
        assert len(ledger.events(consumer=text)) == ledger.usage(consumer=text)[0]["requests"] == calls, text
    assert ledger.refusals("consumer") == [{"group": {"consumer": "alice (id-1)"}, "denials": 4}]


def test_name_belongs_to_the_consumer_that_lives(ledger: Ledger) -> None:
    ledger.directory.named["consumer"] |= {1: ("id-1", "alice"), 7: ("id-7", "alice")}
    for consumer in (1, 7):
        ledger.source.append(entry(consumer=consumer))
    ledger.round()
    # The newer one is deleted, and the older one has taken its name back.
    del ledger.directory.named["consumer"][7]
    ledger.directory.changes += 1
    ledger.tidy()
    assert [e["consumer"] for e in ledger.events()] == ["alice", "alice (id-7)"]
    for text, key in (("alice", "alice"), ("id-1", "alice"), ("id-7", "alice (id-7)")):
        assert [e["consumer"] for e in ledger.events(consumer=text)] == [key]
        assert [r["group"]["consumer"] for r in ledger.usage("consumer", consumer=text)] == [key]


def test_an_empty_ledger_answers(ledger: Ledger) -> None:
    assert ledger.events() == ledger.usage("consumer") == ledger.refusals("reason") == []
    assert ledger.usage()[0]["requests"] == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"after": "yesterday"}, r"after: 'yesterday' is no time: expected unix seconds, or a date as in 2026-11-29"),
        ({"before": "-5"}, "before: '-5' is no time"),
        ({"after": "99999999999999"}, "after: "),
        ({"after": "1e9"}, "after: "),
        ({"after": ""}, "after: "),
        ({"after": "2026-13-01"}, "after: "),
        ({"after": "nan"}, "after: "),
        ({"after": "2026-01-02", "before": "2026-01-02"}, "before: expected a time later than after"),
        ({"after": "9999-01-02", "before": "9998-01-02"}, "before: expected a time later than after"),
        ({"after": "0002-01-01", "before": "0001-01-01"}, "before: expected a time later than after"),
        ({"after": "10000-01-01"}, "after: "),
        ({"after": "253402300800"}, "after: "),
        ({"consumer": ""}, "consumer: expected the name or id"),
        ({"consumr": "x"}, "consumr: unknown parameter: expected one of: consumer, model"),
    ],
)
def test_a_wrong_filter_names_its_field(query: dict[str, str], words: str) -> None:
    with pytest.raises(BadQuery, match=re.escape(words)):
        filters(query)


@pytest.mark.parametrize(
    "text", ["9999-12-31", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00", "2262-04-12", "253402300799"]
)
def test_late_times_are_no_bound(text: str) -> None:
    assert filters({"before": text}) == Filters() and filters({"after": text}).after == LATEST
    assert price_filters({"at": text}).at == LATEST


@pytest.mark.parametrize(
    "text", ["0001-01-01", "0001-01-01T00:00:00+14:00", "1900-01-01", "1969-12-31T23:59:59.999999Z", "0"]
)
def test_early_times_are_the_first_one(text: str) -> None:
    assert filters({"before": text}).before == filters({"after": text}).after == price_filters({"at": text}).at == 0


@given(st.datetimes(timezones=st.timezones() | st.none()))
def test_every_date_is_a_time_that_the_ledger_holds(at: datetime) -> None:
    after = filters({"after": at.isoformat()}).after
    assert after is not None and 0 <= after <= LATEST < 2**63


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_an_error(text: str) -> None:
    try:
        found = filters({"after": text})
    except BadQuery as error:
        assert error.field == "after"
    else:
        assert found.after is not None and found.after >= 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("consumer,consumer", "'consumer' stands twice"),
        ("hour,day", "expected one of: minute, hour, day, month"),
        ("week", "'week' is no group: expected some of: consumer"),
        ("consumer,", "'' is no group"),
    ],
)
def test_a_wrong_grouping_says_which(text: str, words: str) -> None:
    with pytest.raises(BadQuery, match=re.escape(words)):
        grouping({"group_by": text}, ("consumer", "minute", "hour", "day", "month"))


@pytest.mark.parametrize("text", ["0", "1001", "-1", "x", "", "1.5", "99999999"])
def test_a_size_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(BadQuery, match="must be an integer between 1 and 1000"):
        size({"size": text})


def test_too_many_groups_are_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for consumer in range(1, 12):
        ledger.source.append(entry(consumer=consumer))
    ledger.round()
    monkeypatch.setattr("aigw.ledger.usage.MOST_GROUPS", 10)
    with pytest.raises(BadQuery, match="more than 10 groups"):
        ledger.usage("consumer")


def test_a_range_grows_where_finer_sums_are_gone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for minute in range(120):
        ledger.source.append(entry(at=NOON + minute * 60 + 30))
    ledger.round()
    half_past = {"after": str(NOON + 1800), "before": str(NOON + 3600 + 1815)}
    assert ledger.usage(**half_past)[0]["requests"] == 60
    ledger.now, ledger.retention = NOON + 86400.0, Retention(events_s=10, minutes_s=10)
    ledger.tidy()
    assert len(ledger.events()) == 1, "the newest event stays"
    assert ledger.usage(**half_past)[0]["requests"] == 120
    with pytest.raises(BadQuery, match=r"the sums by minute before 2026-.* are deleted \(ledger.minutes\)"):
        ledger.usage("minute")
    assert len(ledger.usage("hour")) == 2
    ledger.store.close()


def test_own_usage_has_the_rows_of_one_consumer_without_costs(ledger: Ledger) -> None:
    rnd = random.Random(4)
    stored = [random_entry(rnd) for _ in range(200)]
    for one in stored:
        ledger.source.append(one)
    ledger.source.append((NOON, 1, 1, 1, 0, 9))  # refusals are no usage
    ledger.round()
    with ledger.store.reading() as connection:
        for consumer in (1, 2, 3, 9):
            found = own_usage(connection, consumer, "")["data"]
            wanted = sums_of([e for e in stored if e["consumer"] == consumer])
            for name in ("requests", "errors", "input_tokens", "reasoning_tokens", "price_nanodollars"):
                assert sum(row[name] for row in found) == wanted[name]
            assert [(row["day"], row["model"] or "") for row in found] == sorted(
                (row["day"], row["model"] or "") for row in found
            )
        assert not [name for row in found for name in row if "cost" in name or name == "unpriced"]
        for bound in ("before=9999-12-31", "after=0001-01-01", "before=2262-04-12"):
            assert own_usage(connection, 1, bound)["data"] == own_usage(connection, 1, "")["data"]
        assert own_usage(connection, 1, "after=2300-01-01")["data"] == []


@pytest.mark.parametrize("unit", ["minute", "hour", "day"])
def test_rows_of_one_consumer_are_those_of_a_scan(ledger: Ledger, unit: str) -> None:
    rnd = random.Random(5)
    for _ in range(300):
        ledger.source.append(random_entry(rnd))
    ledger.round()
    whole = ledger.usage(f"consumer,model,{unit}")
    for consumer in ("consumer-1", "consumer-3"):
        found = ledger.usage(f"consumer,model,{unit}", consumer=consumer)
        assert found == [row for row in whole if row["group"]["consumer"] == consumer] and len(found) > 1


def test_own_usage_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(3):
        ledger.source.append(entry(at=NOON + day * 86400))
    ledger.round()
    monkeypatch.setattr(own, "MOST_ROWS", 2)
    with ledger.store.reading() as connection:
        assert len(own_usage(connection, 1, f"after={NOON + 3600}")["data"]) == 2
        with pytest.raises(BadQuery, match="after: the answer has more than 2 rows"):
            own_usage(connection, 1, "")
