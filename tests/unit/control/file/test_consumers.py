"""Consumers of a file in the store: the same rows and the same publication, whether rows are stored in bulk or one by one."""

import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aigw._native import FileConsumerRows
from aigw.config import ConfigErrors, read_text, section, source
from aigw.config.file import CONSUMER_KINDS, entity_id
from aigw.control.file import apply, consumers, in_force
from aigw.control.file.conflicts import Conflict
from aigw.control.file.consumers import ConsumerRows
from aigw.control.file.in_force import findings
from aigw.control.store import tables
from aigw.control.store.origin import Origin, content_hash
from aigw.control.store.rows import columns_of
from aigw.entities import KINDS, check_entity
from aigw.schema.violations import without_nulls
from conftest import Gateway
from fakes import FakePublisher

COUNT = 40


def text(*people: str, count: int = COUNT, tier: str = "free", head: str = "") -> bytes:
    plain = [
        f"- {{username: u{i}, tier: {tier}, keyauth_credentials: [{{key: key-of-consumer-{i}}}]}}" for i in range(count)
    ]
    return "\n".join([f"{head}tiers: {{free: {{}}, pro: {{}}}}", "consumers:", *plain, *people, ""]).encode()


def hashed(data: bytes) -> bytes:
    """The same with HMACs in place of keys."""
    publisher = FakePublisher("", "")
    return re.sub(rb"key: ([^}]*)", lambda key: b"key_hash: " + publisher.hash_key(key[1]).hex().encode(), data)


def referring(data: bytes) -> bytes:
    """The same with references: part of a key, or all of it."""
    quoted = re.sub(rb"key: key-(of-consumer-\d+)}", rb'key: "${KEY}-\1"}', data)
    return quoted.replace(b'"${KEY}-of-consumer-8"', b'"${KEY8}"')


OTHERS = ("- {username: other, tags: [x], acls: [{group: g}], keyauth_credentials: [{key: a}, {key: b, ttl: 60}]}",)
STEPS = [
    text(),
    text(head="# all lines move\n\n"),
    text(*OTHERS),
    text(*OTHERS, tier="pro"),
    text(*OTHERS, count=COUNT - 5),
    text(*OTHERS)
    .replace(b"key-of-consumer-1}", b"key-of-consumer-x}")
    .replace(b"key-of-consumer-2}", b"key-of-consumer-1}"),
    text(*OTHERS).replace(b"{username: u7,", b"{username: u7, custom_id: seven,"),
    text(),
    hashed(text()),
    text(*OTHERS, tier="pro", head="# all lines move\n").replace(
        b"{key: key-of-consumer-", b"{ttl: 60, key: key-of-consumer-"
    ),
    text(tier="pro"),
    referring(text(tier="pro")),
    text(tier="pro").replace(b"keyauth_credentials: [{", b"tags: [t], keyauth_credentials: [{tags: [u], "),
    text(*OTHERS),
    text(*OTHERS, tier="pro").replace(b"u9, ", b"u9, tags: [kept], "),
]


def held(path: Path) -> dict[str, list[Any]]:
    """The content of every table, without times."""
    store = sqlite3.connect(path)
    found = {
        name: sorted(map(repr, store.execute(f"SELECT * FROM {name}")))
        for name in ("tiers", "consumers", "keyauth_credentials", "acls", "tags", "row_numbers")
    }
    assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert store.execute("PRAGMA foreign_key_check").fetchall() == []
    store.close()
    return found


def load(gateway: Gateway, data: bytes) -> dict[str, Any]:
    assert gateway.control is not None
    return gateway.control.configuration.load("api", data).difference.as_dict()


def indexes(path: Path) -> list[Any]:
    store = sqlite3.connect(path)
    found = store.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
    store.close()
    return found


def run(data: Path, monkeypatch: pytest.MonkeyPatch, *, bulk: bool) -> list[Any]:
    gateway = Gateway(data).open()
    made, seen = indexes(data / "store.db"), []
    with monkeypatch.context() as patched:
        if bulk:
            patched.setattr(apply, "CHUNK", 10)
            patched.setattr(consumers, "UPDATE_AT_LEAST", 10)
        patched.setenv("KEY", "key")
        patched.setenv("KEY8", "key-of-consumer-8")
        try:
            for step in STEPS:
                found = load(gateway, step)
                found["lines"] = sorted(found["lines"])
                publisher = gateway.publisher
                seen.append(
                    (found, held(data / "store.db"), publisher.policy, publisher.consumers, publisher.credentials)
                )
                assert indexes(data / "store.db") == made
                assert load(gateway, step)["lines"] == [], "nothing twice"
        finally:
            gateway.close()
    return seen


def test_bulk_statements_store_the_same_rows_as_single_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, single = (run(tmp_path / str(way), monkeypatch, bulk=way) for way in (True, False))
    assert len(bulk) == len(STEPS)
    for step, (one, other) in enumerate(zip(bulk, single, strict=True)):
        assert one == other, step
    assert bulk[0][0]["added"] == 2 * COUNT + 2 and bulk[1][0]["added"] == 0
    assert any("tier free -> pro" in line for line in bulk[3][0]["lines"])


def test_a_first_file_publishes_one_base_and_restores_numbers(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "CHUNK", 10)
    found = load(gateway, text())
    assert (found["added"], found["lines"][2], found["lines"][-1]) == (
        82,
        "+ consumer u0 (tier free)",
        "... and 32 more",
    )
    assert gateway.publisher.calls.count("write_base") == 2 and "append" not in gateway.publisher.calls
    first = dict(gateway.publisher.consumers)
    assert len(first) == COUNT and len(gateway.publisher.credentials) == COUNT
    load(gateway, b"tiers: {free: {}}")
    assert gateway.publisher.consumers == {}
    gateway.post("/consumers", username="after")
    (new,) = gateway.publisher.consumers
    assert new == COUNT + 1, "a number is never given to another"
    gateway.call("DELETE", "/consumers/after")
    load(gateway, text())
    assert gateway.publisher.consumers == first
    gateway.post("/consumers", username="more")
    assert max(gateway.publisher.consumers) == COUNT + 2
    assert "f.yaml" not in str(gateway.call("DELETE", "/consumers/u3", 409)) and "u3" in first[4]


def test_one_update_moves_all_consumers_to_a_tier(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "UPDATE_AT_LEAST", 10)
    load(gateway, text())
    made = gateway.call("GET", "/consumers/u3")["created_at"]
    gateway.post("/consumers", username="own")
    gateway.now += 100
    gateway.publisher.calls.clear()
    found = load(gateway, text(tier="pro"))
    assert (found["added"], found["changed"], found["removed"]) == (0, COUNT, 0)
    assert found["lines"][0] == "~ consumer u0: tier free -> pro" and len(found["lines"]) == COUNT
    assert gateway.publisher.calls.count("write_base") == 1 and "append" not in gateway.publisher.calls
    held = gateway.call("GET", "/consumers/u3")
    assert held["created_at"] == made and held["updated_at"] == made + 100
    assert {one.tier for one in gateway.publisher.consumers.values() if one.username != "own"} == {2}


def test_conflicts_of_consumers_name_owner_and_repair(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "CHUNK", 10)
    digest = gateway.publisher.hash_key(b"key-of-consumer-5").hex()
    same = f"- {{username: same, tags: [x], keyauth_credentials: [{{key_hash: {digest}}}]}}"
    for kept in (b"", text()):
        if kept:
            load(gateway, kept)
        with pytest.raises(ConfigErrors, match="is declared by POST /config:8, too"):
            load(gateway, text(same))
        plain = f"- {{username: same, tier: free, keyauth_credentials: [{{key_hash: {digest.upper()}}}]}}"
        with pytest.raises(ConfigErrors, match=r"is declared by POST /config:8, too \(consumer 'u5'\)") as caught:
            load(gateway, text(plain))
        assert [finding.line for finding in caught.value.findings] == [COUNT + 3]
    load(gateway, b"tiers: {free: {}}")
    gateway.post("/consumers", username="u4")
    gateway.post("/consumers/u4/key-auth", key="key-of-consumer-6")
    with pytest.raises(ConfigErrors) as caught:
        load(gateway, text())
    assert [(f.line, f.message.partition(":")[0]) for f in caught.value.findings] == [
        (7, "consumers 'u4'"),
        (9, "keyauth_credentials of consumer 'u6'"),
    ]
    assert "its key is held by consumer 'u4' in the Admin API (id " in caught.value.findings[1].message
    assert [c.username for c in gateway.publisher.consumers.values()] == ["u4"]
    assert gateway.call("GET", "/consumer_groups")["data"][0]["name"] == "free"


def test_apply_reports_the_first_conflicts_of_very_many(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "MOST", 5)
    for n in range(8):
        gateway.post("/consumers", username=f"u{n}")
        gateway.post(f"/consumers/u{n}/key-auth", key=f"key-of-consumer-{n}")
    with pytest.raises(ConfigErrors) as caught:
        load(gateway, text())
    assert len(caught.value.findings) == 5
    assert {finding.path for finding in caught.value.findings} <= {f"consumers[{n}]" for n in range(8)}


def test_conflicts_get_their_positions_in_one_pass() -> None:
    people = "".join(f"- {{username: u{n}, keyauth_credentials: [{{key: key-{n}}}]}}\n" for n in range(20_000))
    file = read_text("f.yaml", f"consumers:\n{people}- {{username: last, tags: [x]}}\n".encode(), {})
    conflicts = [Conflict("consumers", Origin("f.yaml", line), "x") for line in range(2, 20_003)]
    conflicts += [Conflict("keyauth_credentials", Origin("f.yaml", line), "x") for line in range(2, 20_002)]
    began = time.process_time()
    found = findings(conflicts, file)
    assert time.process_time() - began < 5  # one pass for each conflict would take minutes
    assert (found[0].path, found[0].line, found[0].col) == ("consumers[0]", 2, 3)
    assert (found[20_000].path, found[20_000].line) == ("consumers[20000]", 20_002)
    assert (found[-1].path, found[-1].line) == ("consumers[19999].keyauth_credentials[0]", 20_001)


def test_publication_retries_a_first_file(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "CHUNK", 10)
    for step in ("write_base", "publish"):
        gateway.publisher.fail = {step: OSError(28, "No space left on device")}
        with pytest.raises(Exception, match="No space left"):
            load(gateway, text())
        gateway.publisher.fail = {}
        gateway.post("/consumers", username=f"after-{step}")
        assert len(gateway.publisher.consumers) == COUNT + 1
        gateway.call("DELETE", f"/consumers/after-{step}")
        load(gateway, b"tiers: {free: {}}")


def test_native_rows_equal_those_of_the_entities_own_checks(tmp_path: Path) -> None:
    text = """
    tiers: {t: {}}
    consumers:
    - {username: 'a "quoted" \u00fc', tier: t, tags: [x, x], keyauth_credentials: [{key: key-0123456789abcdef}]}
    - {username: b, custom_id: c, keyauth_credentials: [{key: short, ttl: 60, tags: [y]}], acls: [{group: g}]}
    - {custom_id: d, keyauth_credentials: [{key_hash: %s}], acls: [{group: 'g "h"', tags: [z]}]}
    - {username: e, keyauth_credentials: [{key: "${A}"}]}
    - {username: f, keyauth_credentials: [{key: "${A:-not-shown}-2"}]}
    - {username: h, keyauth_credentials: [{key: "${file:name of\\ta \\"key\\"}"}]}
    """
    (tmp_path / 'name of\ta "key"').write_text("key-of-a-file")
    parsed = read_text("f'\"\t\x01\u00e9.yaml", (text % ("aB" * 32)).encode(), {"A": "value-of-a"}, tmp_path)
    publisher = FakePublisher("", "")
    rows = ConsumerRows(parsed, {"t": "the tier"}, publisher, 7, lambda ids: dict.fromkeys(ids, 5))
    assert sum(map(rows.native.count, CONSUMER_KINDS)) == 14
    for kind in CONSUMER_KINDS:
        made = list(rows.rows(kind))
        for row in made:
            given = without_nulls(row.body) | ({"key": "x"} if kind == "keyauth_credentials" else {})
            checked = check_entity(KINDS[kind], given).model_dump(mode="json")
            assert checked | ({"key": None} if kind == "keyauth_credentials" else {}) == row.body
            assert list(checked) == list(row.body)
            assert row.origin is not None
            assert row.origin.hash == content_hash(row.body, row.hash.hex(), row.expires_at, row.tier)
        records, highest = rows.native.records(kind, 0, len(made), 4, {})
        columns = [columns_of(KINDS[kind], row) for row in made]
        numbered = KINDS[kind].numbered
        names = [c.name for c in tables.ENTITIES[kind].columns if c.name != "n" or numbered]
        wanted = [tuple((c | {"n": 5 + at})[name] for name in names) for at, c in enumerate(columns)]
        assert records == wanted
        assert highest == 4 + len(made)
        tags = [(kind, row.id, tag) for row in made for tag in row.body["tags"] or ()]
        assert rows.native.tags(kind, 0, len(made)) == tags
    consumers_, keys = (list(rows.rows(kind)) for kind in CONSUMER_KINDS[:2])
    assert [row.id for row in consumers_[:1]] == [entity_id("consumers", 'a "quoted" \u00fc')]
    assert consumers_[2].id == entity_id("consumers", "custom_id\nd")
    assert keys[0].id == entity_id("keyauth_credentials", f"{consumers_[0].id}:{keys[0].hash.hex()}")
    assert [key.body["key_hint"] for key in keys] == ["...cdef", "...", "...", "...", "...", "..."]
    assert [(key.expires_at, key.body["created_at"]) for key in keys[:2]] == [(0, 7), (65, 5)]
    assert [key.origin and key.origin.reference for key in keys][3:] == ["${A}", None, '${file:name of\ta "key"}']
    assert [rows.native.name(row.id) for row in consumers_] == [row.body["username"] or "d" for row in consumers_]
    assert rows.native.name(keys[0].id) is None and rows.native.name("x") is None


def test_rows_refuse_arguments_that_do_not_fit_their_consumers() -> None:
    parsed = read_text("f", b"tiers: {t: {}}\nconsumers: [{username: u, tier: t, keyauth_credentials: [{key: k}]}]", {})
    fields = [("id", "null")]
    shapes, key = (fields, fields, fields), (b"d" * 32, "")
    for tiers, keys in (([], [key]), (["1"], []), (["1"], [(b"", "")])):
        with pytest.raises(ValueError):
            FileConsumerRows(parsed.consumers, "f", 0, tiers, shapes, keys, lambda ids: {}, 0)
    rows = FileConsumerRows(parsed.consumers, "f", 0, ["1"], shapes, [key], lambda ids: {}, 0)
    work: list[Callable[[], object]] = [
        lambda: rows.row("consumers", 1),
        lambda: rows.records("consumers", 0, 2, 0, {}),
        lambda: rows.updates("consumers", [(1, 1, 1)]),
    ]
    for one in work:
        with pytest.raises(IndexError):
            one()
    with pytest.raises(ValueError):
        rows.compare("tiers", [])


def test_equal_consumers_are_not_compared_with_the_store(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed tier of a file with hundreds of thousands of keys is in force without a look at them."""
    load(gateway, text(*OTHERS))

    def unwanted(*_: object) -> ConsumerRows:
        raise AssertionError("the consumers are the same")

    before = held(gateway.data / "store.db")
    with monkeypatch.context() as patched:
        patched.setattr(in_force, "consumer_rows", unwanted)
        plugin = b"plugins: [{name: rate-limiting, consumer: u3, config: {minute: 5}}]\n"
        tiers = b"tiers: {free: {limits: [{requests: 5, per: day}]}, pro: {}}"
        found = load(gateway, text(*OTHERS).replace(b"tiers: {free: {}, pro: {}}", tiers) + plugin)
        assert (found["added"], found["changed"], found["removed"]) == (1, 1, 0)
        assert "+ plugin rate-limiting on consumer u3" in found["lines"]
        after = held(gateway.data / "store.db")
        assert all(after[kind] == before[kind] for kind in CONSUMER_KINDS)
        with pytest.raises(AssertionError):
            load(gateway, text(*OTHERS).replace(b"key-of-consumer-1}", b"key-of-consumer-x}"))
    found = load(gateway, text())
    assert found["removed"] == 5, "the other consumer, its keys and group, and the plugin"
    gateway.close()
    gateway.open(forget=True)
    assert load(gateway, text())["added"] == 2 * COUNT + 2, "they had left the store"


def declared_line(gateway: Gateway, path: str) -> int:
    """The line of the file that a refused change names."""
    answer = gateway.call("DELETE", path, 409)
    line: int = answer["fields"]["@declared_by"]["line"]
    assert f":{line} " in answer["message"] or f":{line}" in answer["message"]
    return line


@pytest.fixture
def any_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections of any length are known."""
    monkeypatch.setattr(section, "AT_LEAST", 1)


def test_a_file_with_the_same_section_is_not_read_whole(
    gateway: Gateway, any_section: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its consumers stay as they are, and know the lines that they stand on now."""
    long = text().replace(b"key-of-consumer-", b"long-key-of-consumer-")
    load(gateway, long)
    before = held(gateway.data / "store.db")

    def unwanted(*_: object) -> None:
        raise AssertionError("the section is the same")

    with monkeypatch.context() as patched:
        patched.setattr(source, "load_yaml", unwanted)
        for head, line in ((b"", 3), (b"# one\n# two\n", 5), (b"\n", 4), (b"", 3)):
            tiers = b"tiers: {free: {limits: [{requests: %d, per: day}]}, pro: {}}" % (line * 10)
            plugin = b"plugins: [{name: rate-limiting, consumer: u3, config: {minute: %d}}]\n" % line
            found = load(gateway, head + long.replace(b"tiers: {free: {}, pro: {}}", tiers) + plugin)
            assert found["changed"] >= 1 and found["removed"] == 0
            assert declared_line(gateway, "/consumers/u0") == line
            assert declared_line(gateway, "/consumers/u7") == line + 7
        gateway.close()
        gateway.open()
        load(gateway, b"\n\n" + long)
    assert declared_line(gateway, "/consumers/u1") == 6
    after = held(gateway.data / "store.db")
    assert all(after[kind] == before[kind] for kind in CONSUMER_KINDS)
    load(gateway, b"\n" + long + b"- {username: late, tier: free}\n")
    assert declared_line(gateway, "/consumers/late") == 4 + COUNT
    assert declared_line(gateway, "/consumers/u1") == 5
    after = held(gateway.data / "store.db")
    assert all(set(after[kind]) >= set(before[kind]) for kind in CONSUMER_KINDS), "no row of the others was written"
    taken = gateway.post("/consumers", username="mine")["id"]
    with pytest.raises(ConfigErrors) as caught:
        gateway.control.configuration.load("api", b"\n\n\n" + long + b"- {username: mine, tier: free}\n")
    (finding,) = caught.value.findings
    assert finding.line == 6 + COUNT and taken in finding.message


def test_a_tier_that_consumers_need_cannot_leave_a_file_with_the_same_section(
    gateway: Gateway, any_section: None
) -> None:
    long = text().replace(b"key-of-consumer-", b"long-key-of-consumer-")
    load(gateway, long)
    with pytest.raises(ConfigErrors) as caught:
        gateway.control.configuration.load("api", long.replace(b"tiers: {free: {}, pro: {}}", b"tiers: {pro: {}}"))
    assert caught.value.findings[0].line == 3 and "no tier 'free'" in caught.value.findings[0].message
