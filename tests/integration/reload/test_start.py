"""`aigw serve --config FILE`: the file is in force before the gateway is ready, or nothing starts."""

import signal
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import AIGW, PATIENCE_S, Process, start_gateway

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
    finally:
        assert again.process.end() == 0
    assert any("config_unchanged" in line for line in again.process.lines)
    held = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert ENV["ALICE_KEY"].encode() not in held
    # Without the file its entities are deleted, and the log says how many.
    alone = start_gateway(tmp_path / "data", env=ENV)
    try:
        assert get(f"{alone.admin}/consumers")["data"] == []
        status = get(f"{alone.admin}/status")["configuration"]
        assert isinstance(status, dict) and status["source"] == "admin"
    finally:
        assert alone.process.end() == 0
    assert any("config_left" in line and '"removed": 10' in line for line in alone.process.lines)


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
