"""The configuration in force as a file: a dump shows variables in place of plain-text keys of upstreams."""

import re
from pathlib import Path

import pytest
import yaml

from conftest import Gateway

YAML = {"content-type": "application/yaml"}

MODELS = """\
models:
  a.b: {upstreams: [{url: "http://h/v1", api_key: plain-key-one}, {url: "http://i/v1"}]}
  a-b: {upstreams: [{url: "http://h/v1", api_key: plain-key-two}]}
  c: {upstreams: [{url: "http://h/v1", api_key: "${NO_KEY:-none}"}]}
"""


@pytest.mark.parametrize("mark", ["", "hmac:aaaaaaaa:"])
def test_dump_keeps_the_mark_that_the_file_gives_an_hmac(gateway: Gateway, mark: str) -> None:
    text = f"consumers: [{{username: a, keyauth_credentials: [{{key_hash: '{mark}{7:064x}'}}, {{key: a-plain-key-0123456789}}]}}]"
    gateway.call("POST", "/config", content=text, headers={"content-type": "application/yaml"})
    hashes = gateway.client.get("/config").json()["consumers"][0]["keyauth_credentials"]
    foreign = f"{mark}{7:064x}"
    (own,) = {key["key_hash"] for key in hashes} - {foreign}
    assert len(hashes) == 2 and re.fullmatch("hmac:[0-9a-f]{8}:[0-9a-f]{64}", own) and "aaaaaaaa" not in own


def test_dump_gives_each_unreferenced_key_its_own_variable(gateway: Gateway) -> None:
    gateway.call("POST", "/config", content=MODELS, headers={"content-type": "application/yaml"})
    answer = gateway.client.get("/config")
    assert "plain-key" not in answer.text
    keys = {name: [u.get("api_key") for u in spec["upstreams"]] for name, spec in answer.json()["models"].items()}
    assert keys["c"] == ["${NO_KEY:-none}"] and keys["a.b"][1] is None
    assert {keys["a.b"][0], keys["a-b"][0]} == {"${AIGW_UPSTREAM_KEY_A_B_0}", "${AIGW_UPSTREAM_KEY_A_B_0_}"}


def test_no_key_lives_longer_by_a_dump(gateway: Gateway) -> None:
    declared = "consumers: [{username: f, keyauth_credentials: [{key: of-the-file-0123456789, ttl: 100}]}]"
    gateway.call("POST", "/config", content=declared, headers=YAML)
    gateway.post("/consumers", username="a")
    for ttl in (30, 100_000_000):
        gateway.post("/consumers/a/key-auth", key=f"lives-for-{ttl}", ttl=ttl)

    def times() -> dict[str, list[int]]:
        dumped = yaml.safe_load(gateway.client.get("/config").text)["consumers"]
        return {c["username"]: sorted(key["ttl"] for key in c.get("keyauth_credentials", [])) for c in dumped}

    gateway.now += 0.5
    first = times()
    assert first["f"] == [100] and first["a"] == [29, 99_999_999]
    gateway.now += 20
    assert times() == {"f": [100], "a": [9, 99_999_979]}
    gateway.now += 10
    assert times() == {"f": [100], "a": [99_999_969]}, "a key that ended does not come back"


def test_a_plugin_never_goes_to_another_consumer(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    gateway.post("/consumers", username="bob")
    only = gateway.post("/consumers", custom_id="bob")
    limit = {"name": "rate-limiting", "config": {"minute": 1, "policy": "local"}}
    gateway.post("/plugins", consumer={"id": only["id"]}, service={"name": "s"}, **limit)
    dump = gateway.client.get("/config").text
    error = gateway.call("POST", "/config/diff", 400, content=dump, headers=YAML)
    assert f"there is no consumer '{only['id']}'" in error["message"]


TEXTS = ["${HOME}", "$${HOME}", "$$${", "${file:/etc/hostname}", "a ${b} c ${d", "${X:-y}", "$", "$$", "${", "€${}"]


def test_texts_of_the_admin_api_come_back_from_a_dump_as_they_are(gateway: Gateway, tmp_path: Path) -> None:
    for number, text in enumerate(TEXTS):
        gateway.post("/consumers", username=f"c{number}", custom_id=text, tags=[f"t {number}"])
        spec = {"description": text, "limits": [{"requests": 5, "per": "day"}]}
        gateway.call("PUT", f"/tiers/t{number}", json=spec)
    dump = gateway.client.get("/config").text
    other = Gateway(tmp_path / "other").open()
    try:
        other.call("POST", "/config", content=dump, headers={"content-type": "application/yaml"})
        for number, text in enumerate(TEXTS):
            assert other.call("GET", f"/consumers/c{number}")["custom_id"] == text
            assert other.call("GET", f"/tiers/t{number}")["description"] == text
        assert other.client.get("/config").text == dump
    finally:
        other.close()
