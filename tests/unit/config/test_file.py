"""A good file gives the entities that the Admin API would make, with lasting ids and resolved references."""

import os
import uuid
from pathlib import Path

import pytest

from aigw.config import ConfigErrors, File, read, read_text
from aigw.config.file import CONSUMER_KINDS, NAMESPACE, ORDER, entity_id
from aigw.entities import KINDS, check_entity
from aigw.schema.violations import without_nulls

EXAMPLE = Path(__file__).parents[3] / "deploy/examples/tiers.yaml"
KEYS = {
    "FREE_KEY": "free-0123456789abcdef",
    "PRO_KEY": "pro-0123456789abcdef",
    "ENTERPRISE_KEY": "ent-0123456789abcdef",
}
TEXT = """\
_format_version: "3.0"
_transform: true
models:
  m: {upstreams: [{url: http://h/v1, weight: "${W:-3}", api_key: "${K}", tls_verify: "${T}"}], cost: {input: "${C:-0.5}"}}
tiers: {free: {limits: [{requests: "${N}", per: day}]}, pro: }
consumer_groups: [{name: gold, tags: [x]}, {name: free, tags: [y]}]
default_tier: free
services:
- name: s
  url: http://h:5000/p
  plugins: [{name: key-auth}]
  routes:
  - {name: r, paths: [/x], plugins: [{name: rate-limiting, config: {minute: 5}}]}
- {name: t, host: h, port: 8080}
routes: [{name: q, service: {name: t}, paths: [/y]}, {name: p, service: t, paths: [/z]}]
consumers:
- {username: alice, tier: free, tags: [a, a], keyauth_credentials: [{key: k1, ttl: 60}, {key: k2-0123456789abcdef}], acls: [{group: g}]}
- {custom_id: bob, groups: [{name: gold}]}
- {username: carl, custom_id: c, plugins: [{name: rate-limiting, route: r, config: {day: 9}}]}
- {username: dora, keyauth_credentials: [{key_hash: AA00000000000000000000000000000000000000000000000000000000000000}]}
plugins: [{name: rate-limiting, instance_name: mine, consumer: {username: alice}, service: s, config: {day: 7}}]
"""
ENVIRONMENT = {"K": "upstream-key", "N": "100", "T": "false"}


def load(text: str = TEXT) -> File:
    return read_text("f.yaml", text.encode(), ENVIRONMENT)


def test_the_file_makes_the_bodies_that_the_admin_api_makes() -> None:
    for entity in load().entities:
        if entity.kind in ("tiers", "models"):
            continue
        made = check_entity(KINDS[entity.kind], without_nulls(entity.body)).model_dump(mode="json")
        assert made == entity.body
        assert list(made) == list(entity.body)


def test_the_file_becomes_entities() -> None:
    file = load()
    kinds = [e.kind for e in file.entities]
    assert list(dict.fromkeys(kinds)) == ["services", "routes", "tiers", "models", "plugins"]
    assert {kind: file.count(kind) for kind in CONSUMER_KINDS} == {"consumers": 4, "keyauth_credentials": 3, "acls": 1}
    assert file.default_tier == "free" and list(file.tiers) == ["free", "pro", "gold"]
    assert file.tiers["free"].limits[0].requests == 100
    assert {e.name: e.body["tags"] for e in file.of("tiers")} == {"free": ["y"], "pro": None, "gold": ["x"]}
    upstream = file.models["m"].upstreams[0]
    assert (upstream.weight, upstream.api_key, upstream.tls_verify) == (3, "upstream-key", False)
    assert file.of("models")[0].body["spec"]["upstreams"][0]["api_key"] is None
    assert [file.consumers.name(n) for n in range(5)] == ["alice", "bob", "carl", "dora", None]
    assert file.consumers.tiers == ["free", "gold"]
    assert (file.consumers.referring_to(0), file.consumers.referring_to(1)) == ([(0, False)], [(1, True)])
    assert file.consumers.keys() == ["k1", "k2-0123456789abcdef", b"\xaa" + bytes(31)]
    assert file.consumers.paths("keyauth_credentials", {17, 18, 20}) == {
        17: ("consumers", 0, "keyauth_credentials", 0),
        20: ("consumers", 3, "keyauth_credentials", 0),
    }
    assert [(e.name, e.line) for e in file.of("plugins")] == [
        ("rate-limiting on route r", 13),
        ("key-auth on service s", 11),
        ("rate-limiting on consumer carl, route r", 19),
        ("mine", 21),
    ]
    ids = {e.name: e.id for kind in ("services", "routes") for e in file.of(kind)}
    ids |= {name: entity_id("consumers", name) for name in ("alice", "carl")}
    carl, mine = file.of("plugins")[2:]
    assert (carl.body["consumer"], carl.body["route"]) == ({"id": ids["carl"]}, {"id": ids["r"]})
    assert (mine.body["consumer"], mine.body["service"]) == ({"id": ids["alice"]}, {"id": ids["s"]})
    assert [e.body["service"] for e in file.of("routes")] == [{"id": ids[s]} for s in ("s", "t", "t")]
    assert len({e.id for e in file.entities}) == len(file.entities)


def test_ids_are_uuid5_of_kind_and_name_and_outlive_a_reorder() -> None:
    assert entity_id("services", "s") == str(uuid.uuid5(NAMESPACE, "services:s")) == load().of("services")[0].id
    lines = TEXT.splitlines()
    swapped = "\n".join([*lines[:16], *reversed(lines[16:20]), *lines[20:]])
    swapped = swapped.replace(
        "{key: k1, ttl: 60}, {key: k2-0123456789abcdef}", "{key: k2-0123456789abcdef}, {key: k1, ttl: 60}"
    )
    assert {e.id for e in load(swapped).entities} == {e.id for e in load().entities}


def test_the_file_keeps_references_unresolved() -> None:
    file = load()
    assert file.secret_texts("m") == {(0, "api_key", ""): "${K}"}
    assert (
        file.source_text(("models", "m", "upstreams", 0, "weight")) == "${W:-3}"
        and file.source_text(("nothing",)) is None
    )
    assert "upstream-key" not in repr(file.entities)
    other = read_text("f.yaml", TEXT.encode(), {**ENVIRONMENT, "K": "another"})
    assert other.hash != file.hash and load().hash == file.hash


def test_references_read_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    os.mkfifo(tmp_path / "fifo")
    config = tmp_path / "f.yaml"
    config.write_text("consumers: [{username: '$${x}', keyauth_credentials: [{key: '${file:key}'}]}]")
    file = read(config, {})
    assert file.consumers.keys() == ["from-a-file"]
    assert file.consumers.name(0) == "${x}"
    assert file.sources == (str(config), str(tmp_path / "key"))
    for name, words in [("none", "No such file"), ("fifo", "not a regular file"), (".", "not a regular file")]:
        config.write_text(f"default_tier: '${{file:{name}}}'")
        with pytest.raises(ConfigErrors, match=words):
            read(config, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "a"),
        ("x${A}y${A}", "xaya"),
        ("${E:-d}", "d"),
        ("${Z:-}", ""),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("${A:-b}", "a"),
    ],
)
def test_interpolation_resolves_references(text: str, value: str) -> None:
    file = read_text("f.yaml", f"tiers: {{t: {{description: 'x {text}'}}}}".encode(), {"A": "a", "E": ""})
    assert file.tiers["t"].description == f"x {value}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${Z}", "the variable Z is not set"),
        ("${A", "a reference is not closed"),
        ("${1}", "expected \\${NAME}"),
        ("${}", "expected \\${NAME}"),
        ("${A-b}", "expected \\${NAME}"),
        ("${B}", "not valid UTF-8"),
    ],
)
def test_references_without_a_value_are_findings(text: str, words: str) -> None:
    with pytest.raises(ConfigErrors, match=words) as errors:
        read_text("f.yaml", f"default_tier: '{text}'".encode(), {"A": "a", "B": "\udcff"})
    assert len(errors.value.findings) == 1


def test_the_example_has_no_findings() -> None:
    file = read(EXAMPLE, KEYS)
    assert list(file.tiers) == ["free", "pro", "enterprise"] and file.default_tier is None
    names = {e.name for e in file.entities}
    assert not names & {"ai-service", "deepanshu", "free-user", "pro-user"}
    paths = [path for e in file.of("routes") for path in e.body["paths"]]
    assert paths and "/ai" not in paths


def test_an_unreadable_file_is_a_finding(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(65 << 20)
    for path, words in [
        (tmp_path / "none", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: not a regular file"),
        (tmp_path / "fifo", "cannot be read: not a regular file"),
        (huge, "larger than 64 MiB: set AIGW_MAX_CONFIG_BYTES to more bytes"),
    ]:
        with pytest.raises(ConfigErrors) as errors:
            read(path, {})
        assert str(errors.value) == f"{path}: {words}"


def test_reading_reports_progress() -> None:
    seen: list[tuple[str, int, int]] = []
    text = "consumers:\n" + "".join(f"- {{username: u{i}}}\n" for i in range(12_000))
    read_text("f.yaml", text.encode(), {}, progress=lambda *what: seen.append(what))
    assert seen[1:] == [("checking consumers", 0, 12_000)]


def test_count_equals_the_length_of_the_list() -> None:
    file = load()
    for kind in set(ORDER) - set(CONSUMER_KINDS):
        assert file.count(kind) == len(file.of(kind)), kind
