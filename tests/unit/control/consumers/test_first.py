"""A large file: store and publication are the same by the short way and by the general one."""

import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from aigw.config import ConfigErrors, read_text, source
from aigw.control.consumers import rewrite
from aigw.control.file import apply
from aigw.control.file.conflicts import Conflict
from aigw.control.file.in_force import findings
from aigw.control.store.origin import Origin
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


def run(data: Path, monkeypatch: pytest.MonkeyPatch, *, short: bool) -> list[Any]:
    gateway = Gateway(data).open()
    made, seen = indexes(data / "store.db"), []
    with monkeypatch.context() as patched:
        patched.setattr(apply, "CHUNK", 10)
        patched.setattr(rewrite, "AT_LEAST", 10)
        patched.setenv("KEY", "key")
        patched.setenv("KEY8", "key-of-consumer-8")
        if not short:
            patched.setattr(source, "plain", lambda document: {})
        try:
            for step in STEPS:
                told = load(gateway, step)
                told["lines"] = sorted(told["lines"])
                publisher = gateway.publisher
                seen.append(
                    (told, held(data / "store.db"), publisher.policy, publisher.consumers, publisher.credentials)
                )
                assert indexes(data / "store.db") == made
                assert load(gateway, step)["lines"] == [], "nothing twice"
        finally:
            gateway.close()
    return seen


def test_both_ways_end_in_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, general = (run(tmp_path / str(way), monkeypatch, short=way) for way in (True, False))
    assert len(short) == len(STEPS)
    for step, (one, other) in enumerate(zip(short, general, strict=True)):
        assert one == other, step
    assert short[0][0]["added"] == 2 * COUNT + 2 and short[1][0]["added"] == 0
    assert any("tier free -> pro" in line for line in short[3][0]["lines"])


def test_a_first_file_is_one_base_and_numbers_come_back(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "CHUNK", 10)
    told = load(gateway, text())
    assert (told["added"], told["lines"][2], told["lines"][-1]) == (
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


def test_all_change_tier_in_one_go(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "AT_LEAST", 10)
    load(gateway, text())
    made = gateway.call("GET", "/consumers/u3")["created_at"]
    gateway.post("/consumers", username="own")
    gateway.now += 100
    gateway.publisher.calls.clear()
    told = load(gateway, text(tier="pro"))
    assert (told["added"], told["changed"], told["removed"]) == (0, COUNT, 0)
    assert told["lines"][0] == "~ consumer u0: tier free -> pro" and len(told["lines"]) == COUNT
    assert gateway.publisher.calls.count("write_base") == 1 and "append" not in gateway.publisher.calls
    held = gateway.call("GET", "/consumers/u3")
    assert held["created_at"] == made and held["updated_at"] == made + 100
    assert {one.tier for one in gateway.publisher.consumers.values() if one.username != "own"} == {2}


def test_conflicts_of_plain_consumers(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_of_a_whole_file_of_conflicts_the_first_are_told(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "MOST", 5)
    for n in range(8):
        gateway.post("/consumers", username=f"u{n}")
        gateway.post(f"/consumers/u{n}/key-auth", key=f"key-of-consumer-{n}")
    with pytest.raises(ConfigErrors) as caught:
        load(gateway, text())
    assert len(caught.value.findings) == 5
    assert {finding.path for finding in caught.value.findings} <= {f"consumers[{n}]" for n in range(8)}


def test_conflicts_are_placed_in_one_look_at_the_file() -> None:
    people = "".join(f"- {{username: u{n}, keyauth_credentials: [{{key: key-{n}}}]}}\n" for n in range(20_000))
    file = read_text("f.yaml", f"consumers:\n{people}- {{username: last, tags: [x]}}\n".encode(), {})
    conflicts = [Conflict("consumers", Origin("f.yaml", line), "x") for line in range(2, 20_003)]
    conflicts += [Conflict("keyauth_credentials", Origin("f.yaml", line), "x") for line in range(2, 20_002)]
    began = time.process_time()
    found = findings(conflicts, file)
    assert time.process_time() - began < 5  # a look for each of them would take minutes
    assert (found[0].path, found[0].line, found[0].col) == ("consumers[0]", 2, 3)
    assert (found[20_000].path, found[20_000].line) == ("consumers[20000]", 20_002)
    assert (found[-1].path, found[-1].line) == ("consumers[19999].keyauth_credentials[0]", 20_001)


def test_a_first_file_that_cannot_be_published_is_tried_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
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
