"""Consumers of a file: native code accepts what the schema accepts, and each broken rule is explained."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aigw.config import MAX_BYTES, ConfigErrors, read_text
from aigw.config.shape import ConsumerInFile
from aigw.config.source import Source

TIERS = ["free", "pro"]
ENVIRONMENT = {"A": "a-value", "SPACE": "with space", "TTL": "60"}
_NAMES = st.one_of(
    st.sampled_from(["a", "b", "\u00e9", "x y", "$${A}", "a\x01", "", "x" * 1024, "x" * 1025, "\u2028"]),
    st.text(max_size=4).filter(lambda text: "${" not in text),
)
_KEYS = st.one_of(
    st.sampled_from(["k", "key-0123456789abcdef", "", "with space", "\u00fc", "k" * 512, "k" * 513]),
    st.text(alphabet="ab!~", max_size=3),
)
_TAGS = st.sampled_from([["t"], ["t", "t", "u"], [], None, [1], ["a,b"], ["a/b"], ["x" * 129], [""], "t"])
_CREDENTIAL = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.one_of(_KEYS, st.none(), st.just(1)),
            "key_hash": st.sampled_from(["0" * 64, "A" * 64, "no", "0" * 63, "g" * 64, None]),
            "ttl": st.sampled_from([0, 9, -1, 100_000_000, 100_000_001, 1.0, 2.5, True, "9", None]),
            "tags": _TAGS,
            "kye": st.just(1),
        },
    ),
    st.sampled_from([None, "k", 1, {}, []]),
)
_ACL = st.one_of(
    st.fixed_dictionaries({"group": _NAMES}, optional={"tags": _TAGS, "more": st.just(1)}),
    st.sampled_from([None, {}, "g"]),
)
_GROUP = st.one_of(
    st.fixed_dictionaries({"name": st.sampled_from([*TIERS, "", None])}, optional={"tags": _TAGS}),
    st.sampled_from([{}, "g"]),
)
_CONSUMER = st.fixed_dictionaries(
    {"username": st.one_of(_NAMES, st.none(), st.just(1))},
    optional={
        "keyauth_credentials": st.one_of(st.lists(_CREDENTIAL, max_size=2), st.none(), st.just("x"), st.just({})),
        "tier": st.sampled_from([*TIERS, None, 1, "", "x" * 1024, "x" * 1025]),
        "custom_id": st.one_of(_NAMES, st.none()),
        "tags": _TAGS,
        "groups": st.one_of(st.lists(_GROUP, max_size=2), st.none(), st.just("x")),
        "acls": st.one_of(st.lists(_ACL, max_size=2), st.none()),
        "plugins": st.sampled_from([[], [1], [{"name": "rate-limiting"}], None, "x", {}]),
        "unknown": st.sampled_from([1, None]),
    },
)


@settings(max_examples=1500, deadline=None)
@given(_CONSUMER, st.booleans())
def test_native_code_accepts_what_the_schema_accepts(item: dict[str, Any], tall: bool) -> None:
    text = json.dumps({"consumers": [item]}, indent=1 if tall else None)
    source = Source.of("f.yaml", text.encode(), ENVIRONMENT, Path(), MAX_BYTES)
    try:
        ConsumerInFile.model_validate_json(json.dumps(item).replace("$${", "${"), strict=True)
        valid = True
    except ValidationError:
        valid = False
    assert (source.consumers.invalid == []) == valid


@settings(max_examples=300, deadline=None)
@given(st.lists(_CONSUMER, max_size=4))
def test_every_refused_consumer_is_explained(items: list[dict[str, Any]]) -> None:
    text = json.dumps({"tiers": {name: {} for name in TIERS}, "consumers": items}).encode()
    source = Source.of("f.yaml", text, ENVIRONMENT, Path(), MAX_BYTES)
    try:
        read_text("f.yaml", text, ENVIRONMENT)
    except ConfigErrors as errors:
        assert not any("a fault of the gateway" in finding.message for finding in errors.findings)
        explained = {finding.path.split(".")[0] for finding in errors.findings}
        assert {f"consumers[{index}]" for index in source.consumers.invalid} <= explained
    else:
        assert source.consumers.invalid == []


@pytest.mark.parametrize("tall", [False, True])
def test_findings_have_the_position_of_their_value(tall: bool) -> None:
    found: list[dict[str, Any]] = [
        {"username": f"u{i}", "tier": TIERS[i % 2], "keyauth_credentials": [{"key": f"key-of-{i}"}]} for i in range(20)
    ]
    found[3]["acls"] = [{"group": "g"}, {"group": "g"}]
    found[5]["groups"] = [{"name": found[5].pop("tier") and "gold"}]
    found[7]["custom_id"] = found[8]["custom_id"] = "same"
    found[9]["keyauth_credentials"] = [{"key": "key-of-1"}]
    found[10]["username"] = "u8"
    found[11]["tier"] = "fre"
    found[12] = {"custom_id": "hashed", "keyauth_credentials": [{"key_hash": "A" * 64}]}
    found[13]["keyauth_credentials"] = [{"key_hash": "a" * 64}]
    found[14]["plugins"], found[15]["plugins"] = ["x"], [{"name": "rate-limiting", "config": {"minute": 5}}]
    del found[15]["username"]
    found[15]["custom_id"] = "nameless"
    text = json.dumps({"tiers": {name: {} for name in TIERS}, "consumers": found}, indent=1 if tall else None).encode()
    with pytest.raises(ConfigErrors) as caught:
        read_text("f.yaml", text, {})
    reported = {
        finding.path: finding.message.partition(":")[0].partition(" in line")[0] for finding in caught.value.findings
    }
    assert reported == {
        "consumers[3].acls[1].group": "the group 'g' stands twice",
        "consumers[5].groups[0].name": "there is no tier 'gold'",
        "consumers[8].custom_id": "the custom_id 'same' stands twice",
        "consumers[9].keyauth_credentials[0].key": "the same key as of consumer 'u1'",
        "consumers[10].username": "the username 'u8' stands twice",
        "consumers[11].tier": "there is no tier 'fre'",
        "consumers[13].keyauth_credentials[0].key_hash": "the same key as of consumer 'hashed'",
        "consumers[14].plugins[0]": "expected a record",
        "consumers[15].plugins[0]": "a consumer with plugins needs a username",
    }
    assert "key-of" not in str(caught.value)
    by_path = {finding.path: finding.suggestion for finding in caught.value.findings}
    assert by_path["consumers[11].tier"] == "free"


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("${A}", "${A}"),
        ("${A:-none}", "${A:-none}"),
        ("${A:-its-default}", None),
        ("x${A}", None),
        ("$${A}", None),
    ],
)
def test_a_key_keeps_its_reference_only_if_it_is_nothing_else(key: str, shown: str | None) -> None:
    text = json.dumps({"consumers": [{"username": "a", "keyauth_credentials": [{"key": key, "ttl": "${TTL}"}]}]})
    source = Source.of("f.yaml", text.encode(), ENVIRONMENT, Path(), MAX_BYTES)
    assert source.consumers.invalid == [] and source.findings == []
    assert source.consumers.keys() == [{"x${A}": "xa-value", "$${A}": "${A}"}.get(key, "a-value")]


@pytest.mark.parametrize("key", ["${NO}", "${SPACE}"])
def test_an_unusable_reference_gives_one_finding(key: str) -> None:
    text = json.dumps({"consumers": [{"username": "a", "keyauth_credentials": [{"key": key}]}]})
    with pytest.raises(ConfigErrors) as caught:
        read_text("f.yaml", text.encode(), ENVIRONMENT)
    assert len(caught.value.findings) == 1 and "with space" not in str(caught.value)
