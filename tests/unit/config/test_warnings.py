"""Warnings: parts of a usable file that probably lack the effect their author wanted, each with its position."""

import hashlib
import hmac
from pathlib import Path

import pytest

from aigw.config import File, mark_in, mark_of, read_text

HEX = "0f" * 32
MODELS = """
models:
  small-chat: {features: [standard], upstreams: [{url: "http://h/v1"}]}
  big-chat: {features: [standard, reasoning], upstreams: [{url: "http://h/v1"}]}
"""


def checked(text: str, mark: str | None = None, **variables: str) -> File:
    return read_text("f.yaml", text.encode(), variables, mark=mark)


def warned(text: str, mark: str | None = None, **variables: str) -> list[tuple[str, str, str | None]]:
    """(path, message, suggestion) of each warning."""
    return [(found.path, found.message, found.suggestion) for found in checked(text, mark, **variables).warnings]


def allowing(entries: str) -> str:
    return MODELS + f"tiers: {{free: {{allow: {entries}}}}}\n"


@pytest.mark.parametrize(
    "entries", ["{models: ['*']}", "{models: [small-*, big-chat]}", "{features: [standard, 'r*']}", "{}"]
)
def test_a_pattern_that_matches_something_gives_no_warning(entries: str) -> None:
    assert warned(allowing(entries)) == []


@pytest.mark.parametrize(
    ("entries", "path", "words", "suggestion"),
    [
        (
            "{models: [small-chat, smal-chat]}",
            "tiers.free.allow.models[1]",
            "no model is called 'smal-chat'",
            "small-chat",
        ),
        ("{models: ['gpt-*']}", "tiers.free.allow.models[0]", "no model matches 'gpt-*'", None),
        ("{models: [Small-Chat]}", "tiers.free.allow.models[0]", "no model is called", "small-chat"),
        (
            "{features: [standart]}",
            "tiers.free.allow.features[0]",
            "no feature of a model is called 'standart'",
            "standard",
        ),
        ("{features: ['vision*']}", "tiers.free.allow.features[0]", "no feature of a model matches 'vision*'", None),
    ],
)
def test_a_pattern_that_matches_nothing_is_a_warning_at_its_place(
    entries: str, path: str, words: str, suggestion: str | None
) -> None:
    ((found, message, meant),) = warned(allowing(entries))
    assert (found, meant) == (path, suggestion) and words in message and "allows nothing" in message
    (finding,) = checked(allowing(entries)).warnings
    line = allowing(entries).splitlines()[finding.line - 1]
    assert line[finding.col - 1 :].startswith(("small", "smal", "'", "Small", "standart"))


@pytest.mark.parametrize(
    "tier", ["{first_byte: 10s, total: 5s}", "{first_byte: 2m, total: 90s}", "{between: 90s, total: 60s}"]
)
@pytest.mark.parametrize("of", ["tiers", "models"])
def test_a_total_below_a_part_of_it_is_a_warning(tier: str, of: str) -> None:
    spec = f"timeouts: {tier}" + ("" if of == "tiers" else ', upstreams: [{url: "http://h/v1"}]')
    ((path, message, _),) = warned(f"{of}: {{x: {{{spec}}}}}")
    assert path.startswith(f"{of}.x.timeouts.") and "longer than the total" in message


def test_deadlines_in_order_give_no_warning() -> None:
    assert (
        warned("tiers: {x: {timeouts: {first_byte: 10s, between: 10s, total: 10s}}, y: {timeouts: {first_byte: 1h}}}")
        == []
    )


@pytest.mark.parametrize(
    "value", ["os.environ/KEY", "os.environ.KEY", "env:KEY", "env.KEY", "$KEY", "$(KEY)", "%KEY%", "{vault://env/key}"]
)
def test_a_variable_in_the_spelling_of_another_program_is_a_warning_with_ours(value: str) -> None:
    text = f'models: {{m: {{upstreams: [{{url: "http://h/v1"}}, {{url: "http://h/v1", api_key: "{value}"}}]}}}}'
    ((path, message, suggestion),) = warned(text)
    assert (path, suggestion) == ("models.m.upstreams[1].api_key", "${KEY}") and "as it stands" in message


def test_that_spelling_is_found_in_keys_of_consumers_and_in_headers() -> None:
    text = """
models: {m: {upstreams: [{url: "http://h/v1", headers: {x-team: os.environ/TEAM}}]}}
consumers: [{username: a, keyauth_credentials: [{key: os.environ/ALICE_KEY}]}]
"""
    assert [(path, suggestion) for path, _, suggestion in warned(text)] == [
        ("models.m.upstreams[0].headers.x-team", "${TEAM}"),
        ("consumers[0].keyauth_credentials[0].key", "${ALICE_KEY}"),
    ]


def test_headers_and_arguments_of_upstreams_are_searched_for_variables() -> None:
    found = warned(
        """models: {m: {upstreams: [{url: "http://h/v1", headers: {x-team: "$TEAM", x-env: "env"},
  query: {key: "{vault://env/my-key}", version: "2026-05-01"}}]}}"""
    )
    assert [(path, suggestion) for path, _, suggestion in found] == [
        ("models.m.upstreams[0].headers.x-team", "${TEAM}"),
        ("models.m.upstreams[0].query.key", "${MY_KEY}"),
    ]


@pytest.mark.parametrize("value", ["sk-os.environ", "none", "${UP}", "${UP:-none}", "$$", "a$KEY"])
def test_other_keys_of_upstreams_give_no_warning(value: str) -> None:
    assert (
        warned(f'models: {{m: {{upstreams: [{{url: "http://h/v1", api_key: "{value}"}}]}}}}', UP="os.environ/UP") == []
    )


def test_short_keys_are_warnings_that_show_no_key() -> None:
    text = """
consumers:
  - {username: a, keyauth_credentials: [{key: 0123456789abcdef}, {key: abcdefghijklmno}]}
  - {username: b, keyauth_credentials: [{key: "${B}"}, {key_hash: HEX}]}
""".replace("HEX", HEX)
    found = warned(text, B="hush")
    assert [path for path, _, _ in found] == [
        "consumers[0].keyauth_credentials[1].key",
        "consumers[1].keyauth_credentials[0].key",
    ]
    assert "15 characters" in found[0][1] and "4 characters" in found[1][1]
    shown = "\n".join(str(one) for one in checked(text, B="hush").warnings)
    assert "hush" not in shown and "abcdefghijklmno" not in shown and "f.yaml:3:" in shown


def hashed(*marks: str) -> str:
    keys = ", ".join(f"{{key_hash: '{mark}{index:064x}'}}" for index, mark in enumerate(marks, 1))
    return f"consumers: [{{username: a, keyauth_credentials: [{keys}]}}]"


def test_an_hmac_of_another_secret_is_a_warning_where_the_secret_is_known() -> None:
    text = hashed("", "hmac:aaaaaaaa:")
    assert warned(text) == warned(text, "aaaaaaaa") == []
    ((path, message, _),) = warned(text, "bbbbbbbb")
    assert path == "consumers[0].keyauth_credentials[1].key_hash"
    assert "another secret (aaaaaaaa; the data folder has bbbbbbbb)" in message


def test_hmacs_of_two_secrets_in_one_file_are_a_warning_without_a_data_folder() -> None:
    ((path, message, _),) = warned(hashed("hmac:aaaaaaaa:", "hmac:aaaaaaaa:", "hmac:bbbbbbbb:"))
    assert path.endswith("[2].key_hash") and "another key_hash of this file has aaaaaaaa" in message


def test_a_marked_hmac_is_the_hmac_without_its_mark() -> None:
    assert checked(hashed("hmac:aaaaaaaa:")).consumers.keys() == checked(hashed("")).consumers.keys()


@pytest.mark.parametrize("mark", ["hmac:", "hmac:aaaa:", "hmac:AAAAAAAA:", "sha:aaaaaaaa:", "hmac:aaaaaaaaa:"])
def test_another_form_of_mark_is_an_error(mark: str) -> None:
    with pytest.raises(Exception, match="expected 64 hex digits"):
        checked(hashed(mark))


def test_the_mark_of_a_data_folder_is_that_of_its_hasher(tmp_path: Path) -> None:
    secret = bytes(range(32))
    (tmp_path / "secret").write_bytes(secret)
    mark = mark_in(tmp_path)
    assert mark is not None and mark == mark_of(lambda key: hmac.digest(secret, key, hashlib.sha256))
    (tmp_path / "secret").write_bytes(secret[1:])
    assert mark_in(tmp_path) is None and mark_in(tmp_path / "none") is None
