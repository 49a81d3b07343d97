"""Plain consumers: the short way and the general one make the same of the same file, and find the same wrong with it."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw._native import Leans, load_yaml
from aigw.config import ConfigErrors, Finding, read_text, source
from aigw.config.plain import plain
from aigw.control.consumers.lean import KINDS_OF
from aigw.control.file.declare import declared, plainly
from aigw.control.store.origin import content_hash
from aigw.control.store.rows import columns_of
from aigw.entities import KINDS
from fakes import FakePublisher

TIERS = ["free", "pro"]
ENVIRONMENT = {"A": "a-value", "SPACE": "with space"}
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
        return read_text("f.yaml", text, ENVIRONMENT).entities
    except ConfigErrors as errors:
        return errors.findings


def both(text: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    short = outcome(text)
    with monkeypatch.context() as patched:
        patched.setattr(source, "plain", lambda document: {})
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


def found_plain(record: dict[str, Any]) -> tuple[Any, ...] | None:
    text = json.dumps({"tiers": {"t": {}}, "consumers": [record]})
    return next((tuple(one) for one in plain(load_yaml(text.encode())).values()), None)


def test_plain_refuses_other_consumers() -> None:
    usual: dict[str, Any] = {"username": "u", "keyauth_credentials": [{"key": "k"}]}
    assert found_plain(usual) == (0, 1, "u", None, "k", None, 1, None)
    assert found_plain({**usual, "tier": "t"}) == (0, 1, "u", "t", "k", None, 1, None)
    assert found_plain({"username": "u", "keyauth_credentials": [{"key_hash": "A" * 64}]}) == (
        *(0, 1, "u", None, None, "a" * 64, 1, None),
    )
    for other in ({"tags": None}, {"custom_id": "c"}, {"tier": 1}, {"username": None}, {"keyauth_credentials": []}):
        assert found_plain({**usual, **other}) is None, other
    assert found_plain({"username": "u"}) is None and found_plain({"keyauth_credentials": [{"key": "k"}]}) is None


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("${A}", "${A}"),
        ("${A:-none}", "${A:-none}"),
        ("${A:-its-default}", None),
        ("x${A}", None),
        ("$${A}", None),
        ("${NO}", None),
        ("${NO:-some}", None),
        ("${SPACE}", None),
    ],
)
def test_a_reference_is_resolved_as_the_general_way_does(
    key: str, written: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [{"username": name, "keyauth_credentials": [{"key": key}]} for name in ("a", "b")]
    for count in (1, 2):
        text = json.dumps({"consumers": found[:count]}).encode()
        short, general = both(text, monkeypatch)
        assert short == general and (count == 1 or isinstance(short[0], Finding))
    if key not in ("${NO}", "${SPACE}"):
        (one,) = read_text("f.yaml", json.dumps({"consumers": found[:1]}).encode(), ENVIRONMENT).plain
        assert one.written == written


def test_rows_and_hashes_are_those_of_the_general_way(tmp_path: Path) -> None:
    text = """
    tiers: {t: {}}
    consumers:
    - {username: 'a "quoted" ü', tier: t, keyauth_credentials: [{key: key-0123456789abcdef}]}
    - {username: b, keyauth_credentials: [{key: short}]}
    - {username: c, keyauth_credentials: [{key_hash: %s}]}
    - {username: d, keyauth_credentials: [{key: "${A}"}]}
    - {username: e, keyauth_credentials: [{key: "${A:-not-shown}-2"}]}
    - {username: f, keyauth_credentials: [{key: "${file:name of\\ta \\"key\\"}"}]}
    """
    (tmp_path / 'name of\ta "key"').write_text("key-of-a-file")
    text %= "aB" * 32
    file, publisher = read_text("f'\"\t\x01é.yaml", text.encode(), ENVIRONMENT, tmp_path), FakePublisher("", "")
    leans = plainly(file, publisher, 7)
    assert len(leans) == 6
    general = [d for d in declared(file, publisher, 7, lambda ids: {}) if d.kind != "tiers"]
    rows = [leans.row(kind, index) for kind in KINDS_OF for index in range(len(leans))]
    records = [record for kind in KINDS_OF for record in leans.all.records(kind, 0, len(leans), 4, {})[0]]
    again = [
        record for kind in KINDS_OF for record in leans.all.rewritten(kind, [(i, 9, 5) for i in range(len(leans))])
    ]
    assert [row.body for row in rows] == [d.body for d in general]
    assert [list(row.body) for row in rows] == [list(d.body) for d in general]
    assert [(r.tier, r.hash, r.expires_at) for r in rows] == [(d.tier, d.digest, d.expires_at) for d in general]
    hashes = [content_hash(d.body, d.digest.hex(), d.expires_at, d.tier) for d in general]
    assert [row.origin and row.origin.hash for row in rows] == hashes
    assert [row.origin and row.origin.line for row in rows] == [d.origin.line for d in general]
    columns = [columns_of(KINDS[d.kind], row) for d, row in zip(general, rows, strict=True)]
    assert [record[-2:] for record in records] == [(c["body"], c["origin"]) for c in columns]
    assert [record[0] for record in records] == [*range(5, 11), *range(5, 11)]
    assert [record[1] for record in records] == [row.id for row in rows]
    assert [record[2:4] for record in records[:6]] == [(c["username"], c["tier"]) for c in columns[:6]]
    assert [record[2:4] for record in records[6:]] == [(c["consumer"], c["hash"]) for c in columns[6:]]
    assert [record[-2] for record in again] == [c["origin"] for c in columns]
    made = [row.body | {"created_at": 5} for row in rows]
    assert [record[-3] for record in again] == [orjson.dumps(body).decode() for body in made]
    assert [record[0] for record in again[:6]] == [row.tier for row in rows[:6]]
    assert leans.all.records("consumers", 1, 2, 4, {rows[1].id: 3})[1] == 4
    assert [leans.all.username(row.id) for row in rows[:6]] == [row.body["username"] for row in rows[:6]]
    assert leans.all.username(rows[6].id) is None and leans.all.username("x") is None


def test_lean_refuses_rows_that_no_plain_consumer_has() -> None:
    one = (0, 1, "u", "t", "k", None, 1, None)
    for found, digests, tiers in (([one], [], {"t": "1"}), ([one], [b""], {"t": "1"}), ([one], [b"d" * 32], {})):
        with pytest.raises(ValueError):
            Leans("f", 0, found, digests, tiers)
    leans = Leans("f", 0, [one], [b"d" * 32], {"t": "1"})
    for work in (
        lambda: leans[1],
        lambda: leans.records("consumers", 0, 2, 0, {}),
        lambda: leans.rewritten("consumers", [(1, 1, 1)]),
    ):
        with pytest.raises(IndexError):
            work()
    with pytest.raises(ValueError):
        leans.sift("tiers", {})


def test_sifting_takes_what_stands_and_says_what_moved() -> None:
    def of(file: str, line: int, hint: str) -> Leans:
        return Leans(file, 0, [(0, line, "u", None, "0123456789ab" + hint, None, line, None)], [b"d" * 32], {})

    one, moved, other = of("f", 1, "abcd"), of("g", 2, "abcd"), of("f", 1, "efgh")
    kind, key = "keyauth_credentials", one[0][5]
    origin = one.records(kind, 0, 1, 0, {})[0][0][-1]
    assert isinstance(origin, str)
    assert one.sift(kind, {}) == ([0], {}, [])
    for leans, told, left in (
        (one, ([], {}, []), {}),
        (moved, ([], {}, [(moved.records(kind, 0, 1, 0, {})[0][0][-1], key)]), {}),
        (other, ([], {key: 0}, []), {key: origin}),
    ):
        stored = {key: origin}
        assert (leans.sift(kind, stored), stored) == (told, left)
