"""Findings about files, word for word. After a change of their text: AIGW_GOLDEN=write pytest tests/unit/config."""

import json
import os
from pathlib import Path

import pytest

from aigw.config import ConfigErrors, read_text
from aigw.errors import ConfigError

GOLDEN = Path(__file__).parents[2] / "golden"


def wrong(text: str | bytes, environment: dict[str, str] | None = None) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ConfigErrors) as errors:
        read_text("f.yaml", data, environment or {})
    return str(errors.value)


ALONE = {
    "an empty file": "",
    "only a comment": "# nothing yet\n",
    "a list at the top": "- a\n",
    "a scalar for a map": "tiers: 3\n",
    "a tab": "tiers:\n\tfree: {}\n",
    "a mismatched bracket": "tiers: {free: {limits: [}\n",
    "a key twice": "consumers:\n- username: a\n  username: b\n",
    "a key that is a number": "tiers: {1: {}}\n",
    "a tag": "tiers: {a: !python/object x}\n",
    "a merge key": "tiers: {a: &a {}, b: {<<: *a}}\n",
    "a second document": "tiers: {a: {}}\n---\ntiers: {}\n",
    "an unknown alias": "a: *b\n",
    "a boolean of YAML 1.1": "services: [{name: s, host: h, enabled: on}]\n",
    "words that must be quoted": "services: [{name: true, host: h, port: 0080}]\n",
    "an id": "services: [{name: s, host: h, id: x}]\n",
    "tier and groups": "consumers: [{username: a, tier: x, groups: [{name: y}]}]\n",
    "a plugin twice": "plugins:\n- {name: key-auth}\n- {name: key-auth}\n",
}
"""Files with one error each, by the error."""


def golden(name: str, found: str) -> None:
    """Compares a text with a file of `tests/golden`, or writes the file."""
    file = GOLDEN / name
    if os.environ.get("AIGW_GOLDEN") == "write":
        file.write_text(found)
    assert found == file.read_text()


def test_check_finds_all_errors_at_once() -> None:
    golden("config-wrong.txt", wrong((GOLDEN / "config-wrong.yaml").read_bytes()) + "\n")


def test_each_error_gives_its_finding() -> None:
    golden("config-wrong-alone.txt", "\n".join(f"# {name}\n{wrong(text)}\n" for name, text in ALONE.items()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tiers: {a: {timeouts: {first_byte: 10}}}", "expected a string: write a duration, as in 10s\n"),
        ("tiers: {a: {timeouts: {total: 1.5}}}", "expected a string: write a duration, as in 10s\n"),
        ("tiers: {a: {limits: [{requests: 1, per: 90}]}}", "expected a string: write a duration, as in 90s\n"),
        ("ledger: {max_disk: 1}", "expected a string: write a size, as in 50GiB\n"),
        (
            "ledger: {max_disk: 50GB}",
            "expected a size in MiB, GiB or TiB, at least 16MiB, as in 500MiB, 50GiB; or forever",
        ),
        ("ledger: {events: 30}", "expected a string: write an age, as in 30d\n"),
        ("tiers: {a: {limits: [{requests: ${LIM:-5}}]}}", """'}': write "${...}" in quotes between [ ] and { }\n"""),
        *((f"{name}: []", f"{name}: not supported in this version\n") for name in ("targets", "jwt_secrets")),
        *((f"{name}: []", f"{name}: not supported in this version\n") for name in ("keys", "vaults")),
        ("acls: []", "acls: not supported in this version at the top: write them in their consumer\n"),
        (
            "consumers: [{username: a, basicauth_credentials: []}]",
            "basicauth_credentials: not supported in this version\n",
        ),
        ("consumers: [{username: a, jwt_secrets: []}]", "jwt_secrets: not supported in this version\n"),
        ("_konnect: {}", "_konnect: not supported in this version\n"),
        ("_workspace: team", "_workspace: 'team' is not supported in this version\n"),
        ("_info: {defaults: {service: {retries: 1}}}", "_info.defaults: not supported in this version\n"),
        ("_info: 3", "_info: expected a record\n"),
        ("_transform: 1", "_transform: expected a boolean\n"),
    ],
)
def test_a_finding_gives_a_hint_without_a_suggestion(text: str, words: str) -> None:
    found = wrong(text)
    assert words in found and "did you mean" not in found


@pytest.mark.parametrize(
    "head", ["_info: {select_tags: [a]}", "_transform: false", "_transform: true", "_workspace: default"]
)
def test_check_accepts_decks_heads(head: str) -> None:
    assert read_text("f.yaml", f"{head}\n".encode(), {}).models == {}


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        ("o201k_base", "expected one of: o200k_base, cl100k_base, bytes, or {file: path/to/tokenizer.json}\n"),
        ("o201k_base", "did you mean 'o200k_base'?"),
        ("cl100k", "did you mean 'cl100k_base'?"),
        ("bogus", "expected one of: o200k_base, cl100k_base, bytes, or {file: path/to/tokenizer.json}\n"),
        ("O200K_BASE", "did you mean 'o200k_base'?"),
        ("/etc/passwd", "a tokenizer's file is written {file: path/to/tokenizer.json}\n"),
        ("tokenizer.json", "a tokenizer's file is written {file: path/to/tokenizer.json}\n"),
        ("3", "expected one of: o200k_base"),
        ("[o200k_base]", "expected one of: o200k_base"),
        ("{file: 3}", "expected the path of a tokenizer.json: {file: path/to/tokenizer.json}\n"),
        ("{file: ''}", "expected the path of a tokenizer.json"),
        ("{file: a, sha256: b}", "expected the path of a tokenizer.json"),
        ("{path: a}", "expected the path of a tokenizer.json"),
        (
            "{file: gone.json}",
            "f.yaml:1:65: models.m.tokenizer.file: the file 'gone.json' cannot be read: No such file",
        ),
        ("{file: /dev/null}", "the file '/dev/null' cannot be read: not a regular file"),
    ],
)
def test_a_model_refuses_an_unknown_tokenizer(tokenizer: str, words: str) -> None:
    assert words in wrong(f"models: {{m: {{upstreams: [{{url: http://h/v1}}], tokenizer: {tokenizer}}}}}")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xef\xbb\xbftiers: {}\n", "byte-order mark"),
        ("tiers: {}\n".encode("utf-16"), "UTF-16"),
        (b"tiers: {a: \xff}\n", "not valid UTF-8"),
        (b"tiers: {}\n\x00", "unexpected character"),
        (b"a: &a [*a]\n", "an alias inside its own target"),
        (b"tiers: " + b"{a: " * 70, "nested deeper than 64"),
        (b'"\\ud800": 1\n', "1:"),
    ],
)
def test_bytes_without_a_configuration_are_findings(data: bytes, words: str) -> None:
    assert words in wrong(data)


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a0: &a0 [" + ", ".join("x" * 10) + "]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11))
    assert "aliases stand for more than 1000000" in wrong(bomb)


def test_too_many_limits_do_not_hide_other_findings() -> None:
    limits = ", ".join(["{requests: 1, per: dya}", *(f"{{requests: 1, per: {n}s}}" for n in range(1, 18))])
    found = wrong(f"tiers: {{a: {{limits: [{limits}], wieght: 1}}, b: {{limit: []}}}}")
    for place, words in (
        ("tiers.a.limits[0].per", "expected one of: second, minute, hour, day, month, year"),
        ("tiers.a.limits[16]", "length must be at most 16"),
        ("tiers.a.wieght", "unknown field"),
        ("tiers.b.limit", "unknown field"),
    ):
        assert f" {place}: {words}" in found, found
    only = ", ".join(f"{{requests: 1, per: {n}s}}" for n in range(1, 18))
    assert wrong(f"tiers: {{a: {{limits: [{only}]}}}}").startswith(
        "f.yaml:1:21: tiers.a.limits: length must be at most 16"
    )


MODELS = "models: {m: {upstreams: [{url: http://h/v1}]}}\n"


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat", "~/v1/.*", "~/v1$", "~/v1"])
def test_a_route_below_v1_is_refused_if_models_exist(path: str) -> None:
    route = f"{{name: r, paths: [/a, '{path}']}}"
    words = "would never be reached: all below /v1 is the models': take another path, as in /api/v1"
    assert f"f.yaml:2:62: services[0].routes[0].paths[1]: {words}" in wrong(
        f"{MODELS}services: [{{name: s, host: h, routes: [{route}]}}]"
    )
    assert f" routes[0].paths[1]: {words}" in wrong(f"{MODELS}routes: [{route}]")
    assert read_text("f.yaml", f"services: [{{name: s, host: h, routes: [{route}]}}]".encode(), {}).of("routes")


@pytest.mark.parametrize("path", ["/", "/v", "/v10", "/v1beta", "/api/v1/x", "/V1/x", "~/v1beta", "~/v1(x|y)"])
def test_a_route_outside_v1_is_accepted_if_models_exist(path: str) -> None:
    assert read_text("f.yaml", f"{MODELS}routes: [{{name: r, paths: ['{path}']}}]".encode(), {}).of("routes")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("select_tags: [a]", "select_tags: stands below _info in decK's files: there it has no effect"),
        ('_format_version: "1.1"', "expected \"3.0\": decK's older form, which 'deck file convert' brings up"),
        ("_format_version: 2.1", "expected \"3.0\": decK's older form, which 'deck file convert' brings up"),
        ("_format_version: 3.0", 'expected "3.0" in quotes'),
        ('_format_version: "4"', 'expected "3.0"\n'),
        ("_info: {defaults: {}}", "_info.defaults: not supported in this version"),
    ],
)
def test_a_finding_explains_fields_of_deck(text: str, words: str) -> None:
    assert words in wrong(text + "\n")


def test_findings_become_json() -> None:
    with pytest.raises(ConfigErrors) as errors:
        read_text("f.yaml", b"tiers: {a: {limit: []}}\n", {})
    assert isinstance(errors.value, ConfigError)
    assert [f.as_dict() for f in errors.value.findings] == [
        {
            "file": "f.yaml",
            "line": 1,
            "col": 13,
            "path": "tiers.a.limit",
            "message": "unknown field",
            "suggestion": "limits",
        }
    ]


def test_very_many_findings_are_bounded() -> None:
    text = wrong("consumers:\n" + "- {usernam: x}\n" * 5000)
    assert text.count("\n") < 400 and text.endswith("... and 900 more")


def test_long_lines_and_strange_characters_are_shown_safely() -> None:
    text = wrong("tiers: {" + "".join(f"a{i}: {{}}, " for i in range(500)) + 'b: {"\\e[31m\u202e": 1}}\n')
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[31m" in text
    assert max(len(line) for line in text.splitlines()) < 250 and "  ..." in text


def test_a_wrong_byte_has_its_position() -> None:
    assert wrong("# x\n" * 100_000 + "a: [\n").startswith("f.yaml:100001:4: ")


@pytest.mark.parametrize("text", ['tiers: {"..": {}}', "tiers: {.: {}}", 'consumer_groups: [{name: ".."}]'])
def test_the_file_refuses_the_tier_names_that_the_admin_api_refuses(text: str) -> None:
    assert "a client takes it out of a path" in wrong(text.encode())


def test_a_repeated_limit_has_its_position() -> None:
    limits = [
        "{requests: 1, per: day}",
        "{requests: 1, per: hour}",
        "{requests: 2, per: day}",
        "{requests: 2, per: 3600s}",
    ]
    text = "tiers:\n  a:\n    limits:\n" + "".join(f"      - {limit}\n" for limit in [*limits, limits[3]])
    rendered = [line for line in wrong(text).splitlines() if line.startswith("f.yaml")]
    assert rendered == [
        "f.yaml:6:9: tiers.a.limits[2]: two limits on requests per day by consumer (enforce): keep one",
        "f.yaml:7:9: tiers.a.limits[3]: two limits on requests per 3600s by consumer (enforce): keep one",
        "f.yaml:8:9: tiers.a.limits[4]: two limits on requests per 3600s by consumer (enforce): keep one",
    ]


def test_a_number_out_of_range_gives_one_finding() -> None:
    rendered = wrong("tiers: {a: {limits: [{requests: 99999999999999999999, per: day}]}}")
    assert rendered.splitlines()[0] == (
        'f.yaml:1:33: tiers.a.limits[0].requests: a number beyond 64 bits: write "..." around it if it is text'
    )
    assert len(rendered.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tiers: {a: {limts: }}", "1:13: tiers.a.limts"),
        ("tiers: {a: {limits: [{requests: 1, per: day, brst: }]}}", "1:46: tiers.a.limits[0].brst"),
        ("models: {m: {upstreams: [{url: 'http://h/v1', wieght: ~}]}}", "1:47: models.m.upstreams[0].wieght"),
        ("services: [{name: s, host: h, prt: null}]", "1:31: services[0].prt"),
        ("routes: [{name: r, paths: [/x], servce: null}]", "1:33: routes[0].servce"),
        (
            "plugins: [{name: rate-limiting, config: {minute: 5, redis_hst: , redis_host: }}]",
            "1:53: plugins[0].config.redis_hst",
        ),
        ("consumers: [{username: a, teir: }]", "1:27: consumers[0].teir"),
        ("consumer_groups: [{name: a, tgs: }]", "1:29: consumer_groups[0].tgs"),
    ],
)
def test_an_empty_unknown_field_is_a_finding(text: str, place: str) -> None:
    assert wrong(text).startswith(f"f.yaml:{place}: unknown field")


@pytest.mark.parametrize("field", ["host: other", "path: /x", "port: 81", "protocol: https"])
def test_a_field_that_repeats_the_url_is_refused(field: str) -> None:
    rendered = wrong(f"services: [{{name: s, url: 'http://h:80/y', {field}}}]")
    assert rendered.startswith(
        f"f.yaml:1:44: services[0].{field.partition(':')[0]}: the url says it: keep one of the two"
    )


def test_a_files_name_may_be_any_bytes() -> None:
    with pytest.raises(ConfigErrors) as caught:
        read_text("\udcff\n.yaml", b"tiers: 1", {})
    (finding,) = caught.value.findings
    assert str(finding).startswith("\\udcff\\u000a.yaml:1:8: tiers: ")
    assert json.dumps(finding.as_dict()).encode() and finding.as_dict()["file"] == "\\udcff\\u000a.yaml"


def test_a_finding_shortens_its_path() -> None:
    for text in ("? %s\n: 1\n", "tiers:\n  ? %s\n  : 1\n  ? %s\n  : 1\n"):
        rendered = wrong(text.replace("%s", "x" * 50_000))
        assert max(map(len, rendered.splitlines())) < 1000


def test_rendered_errors_show_the_first_hundred() -> None:
    with pytest.raises(ConfigErrors) as caught:
        read_text("f.yaml", "".join(f"unknown-{n}: 1\n" for n in range(3000)).encode(), {})
    assert [finding.line for finding in caught.value.findings] == list(range(1, 1001))
