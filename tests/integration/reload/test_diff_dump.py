"""`aigw diff` and `aigw dump` against a running gateway: it accepts its own dump, and the dump shows no difference."""

import json
import subprocess
from pathlib import Path

from tests.integration.reload.conftest import KEY, Reloading, write
from tests.support.processes import AIGW


def aigw(*arguments: str) -> "subprocess.CompletedProcess[str]":
    import os

    environment = {**os.environ, "ALICE_KEY": KEY, "AIGW_UPSTREAM_KEY_PLAIN_0": "an-upstream-key"}
    return subprocess.run([*AIGW, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment)


MORE = """
  - {username: bob, tier: pro, custom_id: "7", tags: [x, "y: z"], acls: [{group: gold}], keyauth_credentials: [{key: bob-key-0123456789, ttl: 3600}],
     plugins: [{name: rate-limiting, config: {minute: 5}}]}
  - {custom_id: only}
models:
  small: {upstreams: [{url: "http://127.0.0.1:9/v1", api_key: "${UPSTREAM_KEY:-none}"}], features: [standard]}
  plain: {upstreams: [{url: "http://127.0.0.1:9/v1", api_key: an-upstream-key}, {url: "https://x.example/v1", weight: 0}]}
plugins:
  - {name: acl, route: echo, config: {allow: [gold, "no"]}, enabled: false, instance_name: who}
  - {name: rate-limiting, route: echo, consumer: bob, config: {hour: 50, policy: local}}
"""  # noqa: E501


def test_a_dump_is_accepted_and_has_no_differences(reloading: Reloading, tmp_path: Path) -> None:
    admin = reloading.gateway.admin.removeprefix("http://")
    text = reloading.text + MORE
    write(reloading.file, text)
    reloading.in_force(text)
    reloading.gateway.make("/services", name="theirs", url="http://127.0.0.1:8/base")
    reloading.gateway.make("/services/theirs/routes", paths=["/theirs"], methods=["GET"])
    reloading.gateway.make("/consumers", username="eve")
    reloading.gateway.make("/consumers/eve/key-auth", key="eve-key-0123456789")
    reloading.gateway.make("/consumer_groups", name="theirs", tags=["made"])
    same = aigw("diff", str(reloading.file), "--admin", admin, "--non-zero-exit-code")
    assert (same.returncode, same.stdout, same.stderr) == (0, "Summary: Created: 0 Updated: 0 Deleted: 0\n", "")
    for form in ("yaml", "json"):
        dumped = tmp_path / f"dumped.{form}"
        end = aigw("dump", "--admin", admin, "--output", form, "-o", str(dumped))
        assert end.returncode == 0 and end.stdout == ""
        assert "AIGW_UPSTREAM_KEY_" in end.stderr
        content = dumped.read_text()
        assert not [secret for secret in (KEY, "bob-key", "eve-key", "an-upstream-key") if secret in content]
        assert "${ALICE_KEY}" in content and "${UPSTREAM_KEY:-none}" in content
        checked = aigw("check", str(dumped))
        assert checked.returncode == 0, checked.stderr
        # The gateway has no such variable: it holds the key in plain text.
        unset = aigw("diff", str(dumped), "--admin", admin)
        assert (unset.returncode, unset.stdout) == (2, "")
        assert "the variable AIGW_UPSTREAM_KEY_PLAIN_0 is not set: set it" in unset.stderr
        dumped.write_text(content.replace("${AIGW_UPSTREAM_KEY_PLAIN_0}", "an-upstream-key"))
        differs = aigw("diff", str(dumped), "--admin", admin, "--non-zero-exit-code")
        assert differs.returncode == 0, differs.stdout + differs.stderr
        assert "consumer eve" in differs.stderr and "delete them there" in differs.stderr
    reloading.restore()


def test_a_difference_is_told_as_deck_tells_it(reloading: Reloading, tmp_path: Path) -> None:
    admin = reloading.gateway.admin.removeprefix("http://")
    before = reloading.status()
    other = tmp_path / "other.yaml"
    other.write_text(
        reloading.text.replace("requests: 10,", "requests: 11,")
        .replace("  pro:", "  gold:")
        .replace("routes: [{name: echo, paths: [/echo]}], ", "")
        .replace("${ALICE_KEY}", "quite-another-key-01")
    )
    end = aigw("diff", str(other), "--admin", admin, "--non-zero-exit-code")
    assert end.returncode == 2 and end.stderr == ""
    assert end.stdout.splitlines() == [
        "updating tier free",
        "  - limits[0].requests: 10",
        "  + limits[0].requests: 11",
        "creating tier gold",
        "creating key-auth alice ...y-01",
        "deleting key-auth alice ...6789",
        "deleting tier pro",
        "deleting route echo",
        "",
        "Summary: Created: 2 Updated: 1 Deleted: 3",
    ]
    assert aigw("diff", str(other), "--admin", admin).returncode == 0
    told = json.loads(aigw("diff", str(other), "--admin", admin, "--output", "json").stdout)
    assert told["summary"] == {"created": 2, "updated": 1, "deleted": 3}
    assert told["changes"][0]["fields"] == [{"field": "limits[0].requests", "before": 10, "after": 11}]
    assert "quite-another" not in json.dumps(told)
    other.write_text("tiers: {free: {limits: [{requests: 5, pr: day}]}}\n")
    wrong = aigw("diff", str(other), "--admin", admin)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(f"{other}:1:39: tiers.free.limits[0].pr: unknown field\n")
    assert wrong.stderr.endswith(" ^^ did you mean 'per'?\n")
    assert wrong.stderr == aigw("check", str(other)).stderr
    assert aigw("diff", str(tmp_path / "none.yaml"), "--admin", admin).returncode == 2
    assert reloading.status() == before, "nothing was changed"


def test_nothing_that_answers_is_1(reloading: Reloading) -> None:
    for verb in (["diff", str(reloading.file)], ["dump"]):
        end = aigw(*verb, "--admin", "127.0.0.1:1")
        assert end.returncode == 1 and "is the gateway running" in end.stderr
        upstream = reloading.text.partition('url: "http://')[2].partition('"')[0]
        end = aigw(*verb, "--admin", upstream)
        assert end.returncode == 1, "an echo service is no Admin API"
