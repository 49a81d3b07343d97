"""A changed file is in force within a second, however it was changed; SIGHUP and POST /config do it at once; counts stay."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.reload.conftest import KEY, WITHIN_S, Reloading, rename_over, write
from tests.support.processes import start_gateway, wait_until

HOWS = {"in place": write, "renamed over": rename_over}


def touch(reloading: Reloading) -> None:
    """Touch the file, and wait until it was read and found to be as it was."""

    def unchanged() -> list[str]:
        return reloading.metric('aigw_config_reloads_total{result="unchanged"}')

    before = unchanged()
    os.utime(reloading.file)
    wait_until(lambda: unchanged() != before, "it was read")


@pytest.mark.parametrize("how", HOWS)
def test_a_change_is_in_force_within_a_second(reloading: Reloading, how: str) -> None:
    changed = reloading.text.replace("requests: 10,", f"requests: {11 + list(HOWS).index(how)},")
    written = HOWS[how](reloading.file, changed)
    assert reloading.in_force(changed) - written < WITHIN_S
    assert reloading.limits()[0][0] == 11 + list(HOWS).index(how)
    reloading.restore()
    assert f"~ tier free: limits[0].requests 10 -> {11 + list(HOWS).index(how)}" in reloading.log()
    assert reloading.metric("aigw_config_reload_success") == ["aigw_config_reload_success 1"]
    status = reloading.status()
    (info,) = reloading.metric("aigw_config_info")
    assert f'hash="{status["hash"]}"' in info and f'generation="{status["generation"]}"' in info


def test_a_file_in_the_making_is_never_reported(reloading: Reloading) -> None:
    changed = reloading.text.replace("requests: 10,", "requests: 13,")
    rejected = reloading.metric('aigw_config_reloads_total{result="rejected"}')
    with reloading.file.open("w") as file:
        file.write(changed[: len(changed) // 2] + "{")
        file.flush()
        time.sleep(0.3)  # longer than the watch waits for quiet
        file.seek(0)
        file.write(changed)
        file.truncate()
    written = time.time()
    assert reloading.in_force(changed) - written < WITHIN_S
    assert reloading.metric('aigw_config_reloads_total{result="rejected"}') == rejected
    reloading.restore()


def test_a_touch_is_no_change(reloading: Reloading) -> None:
    before = reloading.status()
    os.utime(reloading.file)
    assert reloading.post().status_code == 200, "and the reading that it asks for finds nothing new"
    assert reloading.status() == before


def test_sighup_reads_at_once(reloading: Reloading) -> None:
    changed = reloading.text.replace("requests: 10,", "requests: 14,")
    write(reloading.file, changed)
    os.kill(reloading.gateway.pid, signal.SIGHUP)
    reloading.in_force(changed)
    wait_until(lambda: reloading.history()[0]["source"] in ("sighup", "file"), "the history has it")
    reloading.restore()
    write(reloading.file, "tiers: [")
    os.kill(reloading.gateway.pid, signal.SIGHUP)
    assert reloading.wrong()["line"] == 1
    reloading.restore()
    assert reloading.history()[0]["error"]


def test_a_posted_configuration_rules_until_the_file_changes(reloading: Reloading) -> None:
    changed = reloading.text.replace("requests: 10,", "requests: 15,") + "  - {username: bob, tier: pro}\n"
    answer = reloading.post(content=changed.encode(), headers={"content-type": "application/yaml"})
    assert answer.status_code == 201
    told = answer.json()
    assert told["diff"]["lines"] == ["~ tier free: limits[0].requests 10 -> 15", "+ consumer bob (tier pro)"]
    assert (told["diff"]["added"], told["diff"]["changed"], told["diff"]["removed"]) == (1, 1, 0)
    status = reloading.status()
    assert (status["hash"], status["generation"], status["source"]) == (
        told["hash"],
        told["generation"],
        "POST /config",
    )
    assert reloading.limits()[0][0] == 15
    touch(reloading)
    assert reloading.limits()[0][0] == 15
    again = reloading.post(json={"config": changed})
    assert (again.status_code, again.json()["diff"]["lines"]) == (200, [])
    wrong = reloading.post(
        json={"config": "tiers: {free: {limits: [{requests: 1, pr: day}]}}\nconsumers: [{tier: x}]\n"}
    )
    assert wrong.status_code == 400
    assert wrong.json()["message"].startswith(
        "declarative config is invalid: POST /config:1:39: tiers.free.limits[0].pr: unknown"
    )
    assert {"line": 1, "col": 39, "suggestion": "per"}.items() <= wrong.json()["errors"][0].items()
    assert reloading.limits()[0][0] == 15 and reloading.status()["error"]["file"] == "POST /config"
    touch(reloading)
    assert reloading.limits()[0][0] == 15, "also after an error: the file did not change"
    write(reloading.file, "tiers: [")
    assert reloading.wrong()["file"] == str(reloading.file)
    write(reloading.file, reloading.text)
    wait_until(lambda: reloading.status()["error"] is None, "the file is as it was")
    assert reloading.limits()[0][0] == 15
    assert reloading.post(content=b"x", headers={"content-type": "image/png"}).status_code == 415
    assert reloading.post(content=b"", headers={}).status_code == 201, "nothing sent: the file"
    assert reloading.in_force(reloading.text)
    newest = reloading.history()[0]
    assert (newest["source"], newest["added"], newest["changed"], newest["removed"]) == ("api", 0, 1, 1)


def test_a_posted_configuration_outlives_a_killed_control_process(reloading: Reloading) -> None:
    posted = reloading.text.replace("requests: 10,", "requests: 16,")
    assert reloading.post(content=posted.encode(), headers={"content-type": "application/yaml"}).status_code == 201
    before = reloading.status()
    for _ in range(2):
        os.kill(reloading.gateway.children()["control"], signal.SIGKILL)
        reloading.gateway.wait_event("died", child="control")
        reloading.gateway.wait_event("ready", child="control")
        touch(reloading)
        assert {**reloading.status(), "generation": 0} == {**before, "generation": 0}
        assert reloading.limits()[0][0] == 16
    changed = reloading.text.replace("requests: 10,", "requests: 17,")
    write(reloading.file, changed)
    reloading.in_force(changed)
    reloading.restore()


def test_a_configuration_posted_without_a_file_outlives_the_control_process(tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path / "data")
    posting = Reloading(gateway, tmp_path / "none", "")
    try:
        text = b"consumers: [{username: a, keyauth_credentials: [{key: some-key-0123456789}]}]\n"
        assert posting.post(content=text, headers={"content-type": "application/yaml"}).status_code == 201
        before = posting.status()
        os.kill(gateway.children()["control"], signal.SIGKILL)
        gateway.wait_event("died", child="control")
        gateway.wait_event("ready", child="control")
        assert {**posting.status(), "generation": 0} == {**before, "generation": 0}
    finally:
        assert gateway.process.end() == 0
    again = start_gateway(tmp_path / "data")
    try:
        status = Reloading(again, tmp_path / "none", "").status()
        assert status["source"] == "POST /config" and "stay in force" in status["notice"], "the gateway started again"
    finally:
        assert again.process.end() == 0


def test_the_history_is_newest_first(reloading: Reloading) -> None:
    for number in range(20):
        good = reloading.text.replace("requests: 10,", f"requests: {20 + number},")
        for text in ("tiers: [", good):
            reloading.post(content=text.encode(), headers={"content-type": "application/yaml"})
    times = [entry["time"] for entry in reloading.history()]
    assert times == sorted(times, reverse=True)
    write(reloading.file, reloading.text + "#\n")
    reloading.in_force(reloading.text + "#\n")
    reloading.restore()


def test_seven_of_ten_stay_seven_of_ten(reloading: Reloading) -> None:
    for _ in range(7):
        assert reloading.call().status_code == 200
    assert reloading.limits() == [(10, 7)]
    pro = reloading.text.replace("{username: alice,", "{username: alice, tier: pro,")
    write(reloading.file, pro)
    reloading.in_force(pro)
    assert reloading.limits() == [(20, 7)]
    assert "~ consumer alice: tier none -> pro" in reloading.log()
    without = reloading.text.replace("  - {username: alice", "  - {username: bob")
    write(reloading.file, without)
    reloading.in_force(without)
    assert reloading.call().status_code == 200, "the key is bob's now"
    reloading.restore()
    assert reloading.limits() == [(10, 7)]
    statuses = [reloading.call().status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


def test_a_swapped_symlink_and_a_referenced_file_are_seen(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is swapped."""
    text = "consumers: [{username: a, keyauth_credentials: [{key: '${file:key}'}]}]\ntiers: {t: {limits: [{requests: 1, per: day}]}}\n"

    def version(name: str, text: str, key: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "gateway.yaml").write_text(text)
        (folder / "key").write_text(key + "\n")
        (tmp_path / "..next").symlink_to(name)
        (tmp_path / "..next").replace(tmp_path / "..data")

    version("..1", text, "first-key-0123456789")
    for name in ("gateway.yaml", "key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    gateway = start_gateway(tmp_path / "data", "--config", str(tmp_path / "gateway.yaml"))
    watched = Reloading(gateway, tmp_path / "gateway.yaml", text)
    try:
        swapped = text.replace("requests: 1,", "requests: 2,")
        version("..2", swapped, "first-key-0123456789")
        written = time.time()
        assert watched.in_force(swapped) - written < WITHIN_S
        before = watched.status()
        (tmp_path / "..2" / "key").write_text("other-key-0123456789\n")
        written = time.time()
        wait_until(lambda: watched.status()["loaded_at"] != before["loaded_at"], "the key is read again")
        assert watched.status()["loaded_at"] - written < WITHIN_S
        assert watched.status()["hash"] == before["hash"]
        assert watched.history()[0]["lines"] == ["+ key-auth a ...6789", "- key-auth a ...6789"]
    finally:
        assert gateway.process.end() == 0
    assert "key-0123456789" not in watched.log() and KEY not in watched.log()
