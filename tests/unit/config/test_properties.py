"""Any input gives a File or ConfigErrors. A tier survives writing and reading."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from aigw.config import ConfigErrors, File, read_text
from aigw.config.schema import json_schema
from aigw.entities.tier import TierSpec

SLOW = settings(max_examples=60, deadline=None)

_VOCABULARY = """
services routes consumers plugins tiers models default_tier consumer_groups name url host paths username tier key key_hash
keyauth_credentials acls group groups config limits requests per burst allow upstreams weight api_key redis minute tags
key-auth rate-limiting day free ${A} ${B} ${file:x} $${ no 12:30 a http://h/v1 /p x
"""
_WORDS = st.sampled_from(_VOCABULARY.split())
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    _WORDS,
)
_TREES = st.recursive(
    _SCALARS,
    lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(_WORDS, below, max_size=5)),
    max_leaves=30,
)
_SECTIONS = ["services", "routes", "consumers", "plugins", "tiers", "models", "consumer_groups", "default_tier"]


def either(data: bytes) -> File | None:
    try:
        return read_text("f.yaml", data, {"A": "a"})
    except ConfigErrors as errors:
        assert errors.findings and all(f.message for f in errors.findings)
        for finding in errors.findings:
            assert str(finding) and json.dumps(finding.as_dict())
        return None


@SLOW
@given(st.dictionaries(st.sampled_from(_SECTIONS), st.one_of(_TREES, st.lists(st.dictionaries(_WORDS, _TREES)))))
def test_any_tree_gives_a_file_or_errors(tree: object) -> None:
    either(json.dumps(tree).encode())


@SLOW
@given(st.text(alphabet="abk:-[]{}\"'|>&*!#?,\n\t $é\0", max_size=200))
def test_any_text_gives_a_file_or_errors(text: str) -> None:
    either(text.encode())
    either(b"consumers:\n- " + text.encode())


@SLOW
@given(st.binary(max_size=100))
def test_any_bytes_give_a_file_or_errors(data: bytes) -> None:
    either(data)
    either(b"tiers: {a: " + data)


_LIMIT = st.fixed_dictionaries(
    {"requests": st.integers(1, 2**32 - 1), "per": st.sampled_from(["second", "minute", "hour", "day", "90s", "5h"])},
    optional={
        "mode": st.sampled_from(["enforce", "shadow"]),
        "scope": st.sampled_from(["consumer", "credential", "ip", "model"]),
    },
)
_TIER = st.fixed_dictionaries(
    {},
    optional={
        "limits": st.lists(_LIMIT, max_size=6, unique_by=lambda x: (x["per"], x.get("scope"), x.get("mode"))),
        "allow": st.fixed_dictionaries(
            {}, optional={"features": st.lists(st.sampled_from(["a", "b", "*"]), unique=True)}
        ),
        "prompt": st.fixed_dictionaries({"max_bytes": st.integers(1, 2**40)}),
        "output": st.fixed_dictionaries({"max_tokens": st.integers(1, 2**31 - 1)}),
        "timeouts": st.fixed_dictionaries({"total": st.sampled_from(["10s", "1.5m", "250ms"])}),
        "price": st.fixed_dictionaries(
            {"input": st.integers(0, 10**6), "output": st.sampled_from([0.5, 1.25, 0.000001])},
            optional={
                "audio_input": st.integers(0, 9),
                "above": st.fixed_dictionaries({"tokens": st.integers(1, 10**6), "output": st.integers(0, 9)}),
                "service_tiers": st.dictionaries(
                    st.sampled_from(["flex", "batch"]), st.sampled_from([0, 0.5, 2.000001])
                ),
            },
        ),
        "description": st.text(alphabet="ab:#{'\"é ", min_size=1).filter(lambda t: "${" not in t),
    },
)


@SLOW
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), _TIER, max_size=4))
def test_a_tier_survives_writing_and_reading(tiers: dict[str, object]) -> None:
    try:
        file = read_text("f.yaml", json.dumps({"tiers": tiers}, ensure_ascii=False).encode(), {})
    except ConfigErrors as errors:  # a limit without scope has the scope consumer, so a limit may occur twice
        assert [f.message for f in errors.findings if "keep one" not in f.message] == []
        return
    assert {name: TierSpec.model_validate(spec) for name, spec in tiers.items()} == file.tiers
    again = {name: spec.model_dump(mode="json") for name, spec in file.tiers.items()}
    assert read_text("f.yaml", json.dumps({"tiers": again}).encode(), {}).tiers == file.tiers


def test_the_schema_has_every_field() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    bare = [
        f"{name}.{field}"
        for name, shape in [("", schema), *schema["$defs"].items()]
        for field, keywords in shape.get("properties", {}).items()
        if "description" not in keywords
        and "$ref" not in json.dumps(keywords)  # the referenced definition has a description
    ]
    assert bare == []
