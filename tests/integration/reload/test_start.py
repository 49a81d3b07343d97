"""`aigw serve --config FILE`: the file is in force before the gateway is ready, or nothing starts."""

import json
import os
import signal
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import AIGW, PATIENCE_S, Gateway, Process, start_gateway

FILE = """
default_tier: free
tiers:
  free: {limits: [{requests: 100, per: day}]}
  pro: {limits: [{requests: 5000, per: day}]}
models:
  small-chat:
    upstreams: [{url: "http://127.0.0.1:9/v1", api_key: "${UPSTREAM_KEY:-none}"}]
services:
  - {name: echo, url: "http://127.0.0.1:9", routes: [{name: echo, paths: [/echo]}], plugins: [{name: key-auth}]}
consumers:
  - {username: alice, tier: pro, keyauth_credentials: [{key: "${ALICE_KEY}"}]}
  - {username: bob, acls: [{group: gold}]}
"""
ENV = {"ALICE_KEY": "alice-key-0123456789"}


def get(url: str) -> dict[str, object]:
    answer = httpx.get(url, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def refused(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a gateway that must not start."""
    process = Process([*AIGW, "serve", "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0", *arguments], stream="stderr")
    try:
        code = process.popen.wait(PATIENCE_S)
    finally:
        process.end(signal.SIGKILL)
    return code, "".join(process.lines)


def test_a_file_is_in_force_when_the_gateway_is_ready_and_is_found_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    gateway = start_gateway(tmp_path / "data", "--config", str(file), env=ENV)
    try:
        status = get(f"{gateway.admin}/status")["configuration"]
        assert isinstance(status, dict)
        assert (status["source"], status["error"]) == (str(file), None)
        answer = httpx.get(f"{gateway.proxy}/v1/models", headers={"apikey": ENV["ALICE_KEY"]}, trust_env=False)
        assert answer.status_code == 200 and "small-chat" in answer.text
        deleted = httpx.delete(f"{gateway.admin}/consumers/alice", trust_env=False)
        assert deleted.status_code == 409 and f"{file}:12" in deleted.json()["message"]
    finally:
        assert gateway.process.end() == 0
    log = "".join(gateway.process.lines)
    assert "+ consumer alice (tier pro)" in log and ENV["ALICE_KEY"] not in log
    again = start_gateway(tmp_path / "data", "--config", str(file), env=ENV)
    try:
        assert get(f"{again.admin}/status")["configuration"] == {**status, "generation": 3}
        assert status["notice"] is None
    finally:
        assert again.process.end() == 0
    assert any("config_unchanged" in line for line in again.process.lines)
    held = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert ENV["ALICE_KEY"].encode() not in held


def ended(gateway: Gateway) -> str:
    """The log of a gateway that ended well."""
    assert gateway.process.end() == 0
    return "".join(gateway.process.lines)


def used(gateway: Gateway, consumer: str) -> object:
    found = get(f"{gateway.admin}/consumers/{consumer}/limits")["data"]
    assert isinstance(found, list)
    return found[0]["used"]


def models(gateway: Gateway, key: str) -> int:
    return httpx.get(f"{gateway.proxy}/v1/models", headers={"apikey": key}, trust_env=False).status_code


def call(gateway: Gateway, key: str) -> None:
    """A call that counts: its upstream does not answer before the route's limits are taken."""
    httpx.get(f"{gateway.proxy}/echo/get", headers={"apikey": key}, trust_env=False)


def test_a_start_without_the_file_changes_nothing_and_says_so(tmp_path: Path, echo: str) -> None:
    file, data = tmp_path / "gateway.yaml", tmp_path / "data"
    file.write_text(FILE.replace('http://127.0.0.1:9"', f'{echo}"'))
    gateway = start_gateway(data, "--config", str(file), env=ENV)
    made = gateway.make("/consumers/bob/key-auth")["key"]
    for key in (ENV["ALICE_KEY"], made):
        call(gateway, key)
    before, consumers = get(f"{gateway.admin}/config"), get(f"{gateway.admin}/consumers")
    ended(gateway)

    # Twice: neither the first nor a later start without the file deletes anything; the variables are not needed.
    for extra in ({}, {"AIGW_CONFIG": ""}):
        alone = start_gateway(data, env=extra)
        try:
            assert (get(f"{alone.admin}/config"), get(f"{alone.admin}/consumers")) == (before, consumers)
            assert [models(alone, key) for key in (ENV["ALICE_KEY"], made)] == [200, 200]
            assert (used(alone, "alice"), used(alone, "bob")) == (1, 1)
            status = get(f"{alone.admin}/status")["configuration"]
            assert isinstance(status, dict) and (status["source"], status["error"]) == (str(file), None)
            assert "without --config" in status["notice"] and "--config none" in status["notice"]
            deleted = httpx.delete(f"{alone.admin}/consumers/alice", trust_env=False)
            assert deleted.status_code == 409 and str(file) in deleted.json()["message"]
            alone.process.popen.send_signal(signal.SIGHUP)
            alone.wait_event("reload_ignored")
        finally:
            log = ended(alone)
        assert (
            "config_kept" in log and "--config none" in log and "config_left" not in log and "config_change" not in log
        )

    back = start_gateway(data, "--config", str(file), env=ENV)
    try:
        assert get(f"{back.admin}/config") == before and get(f"{back.admin}/status")["configuration"]["notice"] is None  # type: ignore[index]
        assert [models(back, key) for key in (ENV["ALICE_KEY"], made)] == [200, 200]
    finally:
        assert "config_unchanged" in ended(back)


def test_only_config_none_deletes_the_entities_of_the_file(tmp_path: Path) -> None:
    file, data = tmp_path / "gateway.yaml", tmp_path / "data"
    file.write_text(FILE)
    gateway = start_gateway(data, "--config", str(file), env=ENV)
    gateway.make("/consumers", username="carol")
    ended(gateway)
    alone = start_gateway(data, "--config", "none")
    try:
        assert [c["username"] for c in get(f"{alone.admin}/consumers")["data"]] == ["carol"]  # type: ignore[attr-defined]
        status = get(f"{alone.admin}/status")["configuration"]
        assert isinstance(status, dict) and (status["source"], status["notice"]) == ("admin", None)
        # A control process that restarts finds the posted text in force, and deletes nothing.
        posted = "consumers: [{username: dora}]"
        assert httpx.post(f"{alone.admin}/config", json={"config": posted}, trust_env=False).status_code == 201
        os.kill(alone.children()["control"], signal.SIGKILL)
        alone.wait_event("ready", child="control")
        assert httpx.get(f"{alone.admin}/consumers/dora", trust_env=False).status_code == 200
    finally:
        log = ended(alone)
    assert '"event": "config_left"' in log and '"removed": 10' in log
    again = start_gateway(data)
    try:
        assert httpx.get(f"{again.admin}/consumers/dora", trust_env=False).status_code == 200
        assert "POST /config declared" in get(f"{again.admin}/status")["configuration"]["notice"]  # type: ignore[index]
    finally:
        ended(again)


def test_a_start_with_another_file_names_both_and_every_entity_that_it_deletes(tmp_path: Path) -> None:
    first, other, data = tmp_path / "gateway.yaml", tmp_path / "other.yaml", tmp_path / "data"
    first.write_text(FILE)
    other.write_text("tiers: {free: {limits: [{requests: 100, per: day}]}}\nconsumers: [{username: bob}]\n")
    ended(start_gateway(data, "--config", str(first), env=ENV))
    second = start_gateway(data, "--config", str(other))
    log = ended(second)
    event = next(json.loads(line) for line in log.splitlines() if '"config_replaced"' in line)
    assert (event["before"], event["file"]) == (str(first), str(other)) and "deleted" in event["why"]
    assert "- consumer alice" in log and "- tier pro" in log


def test_a_missing_file_ends_the_start_and_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    file, data = tmp_path / "gateway.yaml", tmp_path / "data"
    file.write_text(FILE)
    ended(start_gateway(data, "--config", str(file), env=ENV))
    file.rename(tmp_path / "moved.yaml")
    code, said = refused("--config", str(file), "--data", str(data))
    assert code == 2 and "cannot be read: No such file" in said and "without --config" in said
    alone = start_gateway(data)
    try:
        assert models(alone, ENV["ALICE_KEY"]) == 200
    finally:
        ended(alone)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tiers: {free: {limits: [{requests: 5, pr: day}]}}\nconsumers: [{username: a, tier: x}]\n",
         ["1:39: tiers.free.limits[0].pr: unknown field", "did you mean 'per'?", "2:33: consumers[0].tier: there is no tier 'x'"]),
        ("tiers: {", ["gateway.yaml:1:"]),
        (None, ["gateway.yaml: cannot be read: No such file or directory"]),
    ],
)  # fmt: skip
def test_a_wrong_file_ends_the_start_with_all_findings_and_leaves_nothing(
    tmp_path: Path, text: str | None, words: list[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    if text is not None:
        file.write_text(text)
    code, said = refused("--config", str(file), "--data", str(tmp_path / "data"))
    assert code == 2
    assert all(word in said for word in words), said
    assert said.count("started child=control") == 1 and "Traceback" not in said
    assert not (tmp_path / "data").exists()


def test_an_entity_of_the_admin_api_in_the_file_is_an_error_with_both_owners(tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path / "data")
    try:
        made = gateway.make("/consumers", username="bob")
    finally:
        assert gateway.process.end() == 0
    store = (tmp_path / "data" / "store.db").read_bytes()
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    code, said = refused("--config", str(file), "--data", str(tmp_path / "data"))
    assert code == 2 and "ALICE_KEY is not set" in said
    assert (tmp_path / "data" / "store.db").read_bytes() == store
    file.write_text(FILE.replace("${ALICE_KEY}", "some-other-key"))
    code, said = refused("--config", str(file), "--data", str(tmp_path / "data"))
    assert code == 2
    assert f"{file}:13:5: consumers[1]: consumers 'bob': its username is held by" in said and made["id"] in said
    assert "some-other-key" not in said


def test_a_hangup_names_the_variables_that_only_a_restart_reads_again(tmp_path: Path) -> None:
    file, data = tmp_path / "gateway.yaml", tmp_path / "data"
    file.write_text(FILE)
    gateway = start_gateway(data, "--config", str(file), env=ENV)
    try:
        gateway.process.popen.send_signal(signal.SIGHUP)
        event = gateway.wait_event("config_variables")
        assert event["variables"] == "UPSTREAM_KEY, ALICE_KEY" and "only a restart reads variables" in event["why"]
        # A variable that the gateway lacks is no error of the file alone: the message says that a reload cannot see it.
        file.write_text(FILE + '  - {username: carol, keyauth_credentials: [{key: "${CAROL_KEY}"}]}\n')
        rejected = gateway.wait_event("config_error")
        assert "CAROL_KEY is not set" in rejected["message"] and "restart it" in rejected["message"]
    finally:
        ended(gateway)


def test_the_start_logs_the_warnings_of_the_file_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "tiers: {free: {allow: {models: [gpt-5]}}}\nconsumers: [{username: a, keyauth_credentials: [{key: hush}]}]\n"
    )
    gateway = start_gateway(tmp_path / "data", "--config", str(file))
    posted = httpx.post(
        f"{gateway.admin}/config",
        content=file.read_bytes() + b"#\n",
        trust_env=False,
        headers={"Content-Type": "application/yaml"},
    )
    log = ended(gateway)
    found = [event for event in gateway.events if event.get("event") == "config_warning"]
    assert [(event["file"], event["line"], event["path"]) for event in found] == [
        (str(file), 1, "tiers.free.allow.models[0]"),
        (str(file), 2, "consumers[0].keyauth_credentials[0].key"),
    ]
    assert found[1].keys() >= {"message"} and all(event.get("suggestion", "") is not None for event in found)
    assert '"warnings": 2' in log and "hush" not in log
    assert [warning["line"] for warning in posted.json()["warnings"]] == [1, 2]
