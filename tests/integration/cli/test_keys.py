"""Keys of the file's consumers, managed by `aigw keys`: without a variable, without a restart."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx

from tests.support.processes import AIGW, Gateway, wait_until

New = Callable[..., Gateway]
FILE = """
tiers:
  free: {limits: [{requests: 10, per: day}]}
  pro: {limits: [{requests: 20, per: day}]}
models:
  small-chat: {upstreams: [{url: "http://127.0.0.1:9/v1"}]}
consumers:
  - {username: alice, tier: free}
  - {username: bob, tier: free, keyauth_credentials: [{key: bobs-key-0123456789}]}
"""


def keys(gateway: Gateway, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [*AIGW, "keys", *words, "--admin", gateway.admin.removeprefix("http://")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def made(gateway: Gateway, *words: str) -> str:
    """The key that a verb prints, which is alone on standard output."""
    end = keys(gateway, *words)
    assert end.returncode == 0, end.stderr
    (key,) = end.stdout.splitlines()
    return key


def listed(gateway: Gateway, consumer: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        keys(gateway, "list", "--consumer", consumer, "--output", "json").stdout
    )
    return found


def opens(gateway: Gateway, key: str) -> bool:
    answer = httpx.get(f"{gateway.proxy}/v1/models", headers={"apikey": key}, trust_env=False)
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


def test_a_key_of_a_consumer_of_the_file_holds_at_once_and_outlives_reloads_and_restarts(
    new_gateway: New, tmp_path: Path
) -> None:
    file, data = tmp_path / "gateway.yaml", tmp_path / "data"
    file.write_text(FILE)
    gateway = new_gateway("--config", str(file), data=data)
    key = made(gateway, "create", "--consumer", "alice", "--tags", "laptop")
    assert opens(gateway, key)
    assert [(one["consumer"], one["tags"]) for one in listed(gateway, "alice")] == [("alice", ["laptop"])]
    file.write_text(FILE.replace("alice, tier: free", "alice, tier: pro"))
    gateway.wait_event("config_applied", trigger="file")
    limits = httpx.get(f"{gateway.proxy}/v1/limits", headers={"apikey": key}, trust_env=False).json()
    assert limits["tier"] == "pro"
    assert gateway.process.end() == 0
    for options in (["--config", str(file)], []):
        again = new_gateway(*options, data=data)
        assert opens(again, key)
        assert again.process.end() == 0


def test_a_rotated_key_is_replaced_with_its_labels_at_once_or_after_a_grace(new_gateway: New, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    gateway = new_gateway("--config", str(file))
    first = made(gateway, "create", "alice", "--tags", "laptop")
    (old,) = listed(gateway, "alice")
    second = made(gateway, "rotate", str(old["id"]))
    assert (opens(gateway, first), opens(gateway, second)) == (False, True)
    (old,) = listed(gateway, "alice")
    assert old["tags"] == ["laptop"]
    end = keys(gateway, "rotate", str(old["id"]), "--grace", "2", "--output", "json")
    told = json.loads(end.stdout)
    assert told["replaces"] == old["id"] and opens(gateway, told["key"])
    wait_until(lambda: not opens(gateway, second), "the old key has ended")
    assert [one["id"] for one in listed(gateway, "alice")] == [told["id"]]
    assert keys(gateway, "revoke", told["id"]).returncode == 0 and not opens(gateway, told["key"])


def test_a_key_that_the_file_declares_is_changed_in_the_file(new_gateway: New, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    gateway = new_gateway("--config", str(file))
    (declared,) = listed(gateway, "bob")
    for verb in ("rotate", "revoke"):
        end = keys(gateway, verb, str(declared["id"]))
        assert end.returncode == 1 and f"{file}:9" in end.stderr and "change the file" in end.stderr
    assert len(listed(gateway, "bob")) == 1 and opens(gateway, "bobs-key-0123456789")
    end = keys(gateway, "rotate", "no-such-key")
    assert end.returncode == 1 and "see aigw keys list" in end.stderr


def test_a_dump_marks_its_hmacs_with_the_secret_of_the_gateway(new_gateway: New, tmp_path: Path) -> None:
    gateway = new_gateway(data=tmp_path / "data")
    gateway.make("/consumers", username="carol")
    key = made(gateway, "create", "carol")
    dump = httpx.get(f"{gateway.admin}/config", trust_env=False).json()
    (credential,) = dump["consumers"][0]["keyauth_credentials"]
    mark = credential["key_hash"].split(":")[1]
    file = tmp_path / "dump.yaml"
    file.write_text(json.dumps(dump))
    here = subprocess.run([*AIGW, "check", str(file), "--strict", "--data", str(tmp_path / "data")], check=False)
    assert here.returncode == 0
    # On another gateway the key would never open: its log says so, and names the line.
    other = new_gateway("--config", str(file), data=tmp_path / "other")
    (warning,) = (event for event in other.events if event.get("event") == "config_warning")
    assert mark in warning["message"] and "another secret" in warning["message"] and warning["line"] == 1
    assert not opens_route(other, key)


def opens_route(gateway: Gateway, key: str) -> bool:
    """Whether a key of a gateway without models is known."""
    gateway.route("http://127.0.0.1:9", "/x")
    gateway.make("/services/s1/plugins", name="key-auth")
    return httpx.get(f"{gateway.proxy}/x", headers={"apikey": key}, trust_env=False).status_code != 401
