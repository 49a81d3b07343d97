"""Plain consumers: the short way and the general one make the same of the same file, and find the same wrong with it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw.config import ConfigErrors, consumers, read_text
from aigw.config.plain import plain
from aigw.control.declare import declared, plainly
from aigw.control.lean import Leans
from aigw.control.origin import content_hash
from fakes import FakePublisher

TIERS = ["free", "pro"]
_NAMES = st.one_of(
    st.sampled_from(["a", "b", "é", "x y", "${A}", "$${A}", "a\x01", "", "x" * 1025, "\u2028"]), st.text(max_size=4)
)
_KEYS = st.one_of(
    st.sampled_from(["k", "key-0123456789abcdef", "${A}", "", "with space", "ü", "k" * 513]),
    st.text(alphabet="ab!~", max_size=3),
)
_CREDENTIAL = st.one_of(
    st.fixed_dictionaries({"key": _KEYS}),
    st.fixed_dictionaries(
        {"key": _KEYS}, optional={"ttl": st.integers(0, 9), "tags": st.just(["t"]), "kye": st.just(1)}
    ),
    st.fixed_dictionaries({"key_hash": st.sampled_from(["0" * 64, "A" * 64, "no"])}),
    st.sampled_from([None, "k", 1, {}, {"key": None}, {"key": 1}]),
)
_CREDENTIALS = st.one_of(st.lists(_CREDENTIAL, max_size=2), st.none(), st.just("x"))
_CONSUMER = st.fixed_dictionaries(
    {"username": _NAMES, "keyauth_credentials": _CREDENTIALS},
    optional={
        "tier": st.sampled_from([*TIERS, "none", None, 1, "", "x" * 1025]),
        "custom_id": st.sampled_from(["c", None]),
        "tags": st.sampled_from([["t"], None]),
        "groups": st.just([{"name": "pro"}]),
        "acls": st.just([{"group": "g"}]),
        "plugins": st.just([{"name": "rate-limiting", "config": {"minute": 5}}]),
        "unknown": st.just(1),
    },
)


def outcome(text: bytes) -> Any:
    """Entities, or findings."""
    try:
        return read_text("f.yaml", text, {"A": "a-value"}).entities
    except ConfigErrors as errors:
        return errors.findings


def both(text: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    short = outcome(text)
    with monkeypatch.context() as patched:
        patched.setattr(consumers, "plain", lambda record: None)
        return short, outcome(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(_CONSUMER, max_size=5), st.booleans())
def test_the_two_ways_agree(found: list[dict[str, Any]], tall: bool) -> None:
    text = json.dumps({"tiers": {name: {} for name in TIERS}, "consumers": found}, indent=1 if tall else None).encode()
    with pytest.MonkeyPatch.context() as monkeypatch:
        short, general = both(text, monkeypatch)
    assert short == general


@pytest.mark.parametrize("tall", [False, True])
def test_the_usual_file_takes_the_short_way(tall: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, Any]] = [
        {"username": f"u{i}", "tier": TIERS[i % 2], "keyauth_credentials": [{"key": f"key-of-{i}"}]} for i in range(20)
    ]
    found[3] = {"username": "without", "keyauth_credentials": [{"key": "k"}]}
    found[7]["custom_id"] = "not plain"
    text = json.dumps({"tiers": {name: {} for name in TIERS}, "consumers": found}, indent=1 if tall else None).encode()
    file = read_text("f.yaml", text, {})
    assert len(file.plain) == 19
    assert not any("key-of" in repr(one) for one in file.plain)
    short, general = both(text, monkeypatch)
    assert short == general and len(short) == 42
    found[9]["keyauth_credentials"] = [{"key": "k"}]
    found[10]["username"] = "u8"
    found[11]["tier"] = "gold"
    found[12]["keyauth_credentials"][0]["key"] = "key-of-7"
    text = json.dumps({"tiers": {name: {} for name in TIERS}, "consumers": found}, indent=1 if tall else None).encode()
    short, general = both(text, monkeypatch)
    assert short == general
    assert [f.path for f in short] == [
        "consumers[9].keyauth_credentials[0].key",
        "consumers[10].username",
        "consumers[11].tier",
        "consumers[12].keyauth_credentials[0].key",
    ]


def test_what_is_not_plain() -> None:
    usual: dict[str, Any] = {"username": "u", "keyauth_credentials": [{"key": "k"}]}
    assert plain(usual) == ("u", None, "k")
    assert plain({**usual, "tier": "t"}) == ("u", "t", "k")
    for other in ({"tags": None}, {"custom_id": "c"}, {"tier": 1}, {"username": None}, {"keyauth_credentials": []}):
        assert plain({**usual, **other}) is None, other
    assert plain({"username": "u"}) is None and plain({"keyauth_credentials": [{"key": "k"}]}) is None


def test_rows_and_hashes_are_those_of_the_general_way() -> None:
    text = """
    tiers: {t: {}}
    consumers:
    - {username: 'a "quoted" ü', tier: t, keyauth_credentials: [{key: key-0123456789abcdef}]}
    - {username: b, keyauth_credentials: [{key: short}]}
    """
    file, publisher = read_text("f'\".yaml", text.encode(), {}), FakePublisher("", "")
    leans: Leans = plainly(file, publisher, 7)
    assert len(leans.all) == 2
    general = [d for d in declared(file, publisher, 7, lambda ids: {}) if d.kind != "tiers"]
    rows = [row for pair in zip(*(one.rows(leans.file, 7) for one in leans.all), strict=True) for row in pair]
    assert [row.body for row in rows] == [d.body for d in general]
    assert [list(row.body) for row in rows] == [list(d.body) for d in general]
    assert [(r.tier, r.hash, r.expires_at) for r in rows] == [(d.tier, d.digest, d.expires_at) for d in general]
    hashes = [content_hash(d.body, d.digest.hex(), d.expires_at, d.tier) for d in general]
    assert [row.origin and row.origin.hash for row in rows] == hashes
    assert [row.origin and row.origin.line for row in rows] == [d.origin.line for d in general]
    texts = [text for pair in zip(*((mine, key) for _, mine, key in leans.origins()), strict=True) for text in pair]
    assert texts == [row.origin.text() for row in rows if row.origin]
