"""Every verb that asks a gateway, against the demo: what it prints, for people and for programs, and its exit codes."""

import json
import os
import pty
import select
import subprocess
import time
from typing import Any

import pytest

from aigw._native import load_yaml
from tests.support.processes import AIGW, Demo

TIERS = {"free", "pro", "enterprise"}


class Cli:
    """Runs verbs at one demo."""

    def __init__(self, demo: Demo) -> None:
        self.keys = demo.keys
        self.admin = demo.admin
        self.env = {**os.environ, **demo.environment, "NO_COLOR": "1"}

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        end = subprocess.run(
            [*AIGW, *arguments], env=self.env, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        assert end.returncode == code, f"{arguments}: {end.returncode}\n{end.stdout}\n{end.stderr}"
        assert "Traceback" not in end.stderr
        return end

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--output", "json", code=code).stdout)


@pytest.fixture(scope="module")
def cli(demo: Demo) -> Cli:
    return Cli(demo)


def test_the_demo_shows_keys_once_and_where_they_are(demo: Demo) -> None:
    said = "".join(demo.process.lines)
    assert all(said.count(f"  {name}={key}\n") == 1 for name, key in demo.keys.items())
    assert sorted(demo.keys) == ["ENTERPRISE_KEY", "FREE_KEY", "PRO_KEY"]
    assert f". {demo.folder.name}/keys" in said
    for line in said.split("\n\n"):
        if line.lstrip().startswith("curl"):
            for command in line.replace("\\\n", " ").splitlines():
                end = subprocess.run(
                    f"{command} -f", shell=True, capture_output=True, text=True, timeout=30, check=True
                )
                assert json.loads(end.stdout)
    assert said.count("  curl -s") == 2
    schema = (demo.folder / "tiers.yaml").read_text().splitlines()[0].rpartition("=")[2]
    assert json.loads((demo.folder / schema).read_text())["title"] == "aigw configuration"


def test_keys_create_prints_the_key_alone_and_revoke_ends_it(cli: Cli) -> None:
    made = cli("keys", "create", "lena", "--tags", "a", "b")
    key = made.stdout.removesuffix("\n")
    assert len(key) == 32 and key.isalnum() and "not shown again" in made.stderr and key not in made.stderr
    cli("try", "--key", key)
    (row,) = [k for k in cli.json("keys", "list", "lena") if k["tags"] == ["a", "b"]]
    assert row["key_hint"] == f"...{key[-4:]}" and row["consumer"] == "lena" and row["ttl"] is None
    assert row["id"] in cli("keys", "list").stdout
    assert cli("keys", "revoke", row["id"]).stdout == f"revoked {row['id']}\n"
    refused = cli.json("try", "--key", key, "--model", "small-chat", code=1)
    assert (refused["decision"], refused["status"], refused["reason"]) == ("refused", 401, "invalid_api_key")


def test_keys_create_takes_a_key_and_a_time_to_live(cli: Cli) -> None:
    made = cli.json("keys", "create", "omar-labs", "--key", "of-my-own-0123456789", "--ttl", "3600")
    assert made["key"] == "of-my-own-0123456789" and 3590 <= made["ttl"] <= 3600
    again = cli("keys", "create", "lena", "--key", "of-my-own-0123456789", code=1)
    assert "UNIQUE" in again.stderr and "of-my-own" not in again.stderr
    assert (
        cli("keys", "create", "lena", "--key", "-", stdin="from-a-pipe-0123456789\n").stdout
        == "from-a-pipe-0123456789\n"
    )
    told = cli("keys", "list", "omar-labs").stdout.splitlines()
    assert told[0].split() == ["ID", "CONSUMER", "KEY", "CREATED", "VALID", "TAGS"]
    assert any(line.split()[2] == "...6789" and line.split()[-2:] == ["s", "-"] for line in told[1:])


def test_keys_refuses_unknown_consumers_and_keys_of_the_file(cli: Cli) -> None:
    for arguments in (("keys", "create", "nobody"), ("keys", "list", "nobody")):
        assert "no consumer 'nobody'" in cli(*arguments, code=1).stderr
    assert "leave it out" in cli("keys", "create", "lena", "--ttl", "-1", code=2).stderr
    declared = next(k for k in cli.json("keys", "list", "northwind"))
    refused = cli("keys", "revoke", declared["id"], code=1)
    assert "change the file" in refused.stderr
    mine = cli.json("keys", "create", "northwind")
    both = cli.json("keys", "revoke", "no-such-key", declared["id"], mine["id"], code=1)
    assert both["revoked"] == [mine["id"]]
    assert [failure["id"] for failure in both["failed"]] == ["no-such-key", declared["id"]]
    assert "no such key" in cli("keys", "revoke", "no-such-key", code=1).stderr


def test_tiers_lists_all_and_shows_one(cli: Cli) -> None:
    rows = {line.split()[0]: line for line in cli("tiers").stdout.splitlines()}
    assert rows.keys() == {"TIER", *TIERS}
    assert "requests/day, 5 requests/second (burst 10), 50,000 tokens/day, $0.01/day, 2 at once" in rows["free"]
    assert (
        "features standard, no tools, n <= 1, body <= 256 KiB, prompt <= 4,000 tokens, output <= 512 tokens"
        in rows["free"]
    )
    assert "(shadow)" in rows["enterprise"] and "everything" in rows["enterprise"] and "/request" in rows["enterprise"]
    listed = {tier["name"]: tier for tier in cli.json("tiers")}
    assert listed.keys() == TIERS and listed["pro"]["consumers"] == 1 and listed["pro"]["more_consumers"] is False
    one = cli.json("tiers", "free")
    assert one["name"] == "free" and one["output"] == {"max_tokens": 512}
    written = load_yaml(cli("tiers", "free").stdout.encode()).value()
    assert written["free"]["limits"][1]["burst"] == 10
    assert load_yaml(cli("tiers", "--output", "yaml").stdout.encode()).value().keys() == TIERS
    assert cli("tiers", "free", "--output", "table").stdout.splitlines()[1].startswith("free")
    assert "aigw tiers lists them" in cli("tiers", "gold", code=1).stderr


def test_the_file_accepts_a_printed_tier(cli: Cli) -> None:
    from aigw.config import read_text

    text = "tiers:\n" + "".join(f"  {line}\n" for line in cli("tiers", "--output", "yaml").stdout.splitlines())
    assert read_text("f.yaml", text.encode()).tiers.keys() == TIERS


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_try_shows_an_allowed_call(cli: Cli, stream: list[str]) -> None:
    told = cli("try", "--key", cli.keys["PRO_KEY"], "--model", "big-reasoner", *stream).stdout
    for words in (
        "decision  allowed",
        "status    200",
        "x-ratelimit-limit-requests: 40",
        "tokens in, 16 out",
        "answer    token",
    ):
        assert words in told
    assert ("events" in told) == bool(stream)
    as_json = cli.json("try", "--key", cli.keys["PRO_KEY"], "--model", "big-reasoner", *stream)
    assert as_json["decision"] == "allowed" and as_json["usage"]["completion_tokens"] == 16
    assert as_json["latency_ms"] >= as_json["first_byte_ms"] > 0 and as_json["request_id"]


def test_try_calls_other_endpoints_and_routes(cli: Cli) -> None:
    key = cli.keys["PRO_KEY"]
    for path in ("/v1/embeddings", "/v1/completions"):
        assert cli.json("try", path, "--key", key, "--model", "small-chat")["status"] == 200
    assert '"object":"list"' in cli.json("try", "/v1/models", "--key", key)["text"]
    told = cli.json("try", "/ai/summarize", "--key", key, "--data", '{"text": "long"}')
    assert told["request"] == "POST /ai/summarize" and told["limits"]["x-ratelimit-limit-day"] == "5000"


def test_tokens_counts_as_the_gateway_does(cli: Cli) -> None:
    for body in ({"messages": [{"role": "user", "content": "Grüße an alle"}]}, {"input": ["two", "texts"]}):
        text = json.dumps({"model": "small-chat", **body})
        told = cli.json("try", "/v1/tokenize", "--key", cli.keys["PRO_KEY"], "--data", text)
        found = json.loads(cli("tokens", "-", "--model", "small-chat", "--output", "json", stdin=text).stdout)
        assert json.loads(told["text"]) == {"tokens": found["tokens"], "bound": found["bound"]}
    assert "tokens    5\n" in cli("tokens", "-", "--model", "small-chat", stdin="one two three four five").stdout
    assert "GET /models of the Admin API" in cli("tokens", "-", "--model", "none", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--key", "$FREE_KEY", "--model", "big-reasoner"], 403, "feature_not_in_tier"),
        (["--key", "$FREE_KEY", "--model", "nothing"], 404, "model_not_found"),
        (["--key", "no-such-key"], 401, "invalid_api_key"),
        ([], 401, "no_api_key"),
        (["/v1/nothing", "--key", "$FREE_KEY"], 404, "unsupported_endpoint"),
        (["/ai/summarize", "--data", "x"], 401, None),
        (["/nowhere"], 404, None),
    ],
)
def test_try_shows_a_refused_call(cli: Cli, arguments: list[str], status: int, reason: str | None) -> None:
    words = ["try", *(cli.keys.get(word[1:], word) if word.startswith("$") else word for word in arguments)]
    told = cli.json(*words, code=1)
    assert (told["decision"], told["status"], told["reason"]) == ("refused", status, reason)
    assert told["message"]
    shown = cli(*words, code=1).stdout
    assert "decision  refused by the gateway" in shown and str(status) in shown


def test_status_prints_json_and_a_table(cli: Cli) -> None:
    told = cli.json("status")
    assert told["configuration"]["error"] is None and all(w["state"] == "ready" for w in told["workers"])
    shown = cli("status", "--output", "table").stdout
    assert "tiers.yaml" in shown and "store          reachable" in shown and "ready" in shown


def test_top_prints_one_frame(cli: Cli, demo: Demo) -> None:
    watching = subprocess.Popen(
        [*AIGW, "top", "--every", "3", "--output", "json"], env=cli.env, stdout=subprocess.PIPE, text=True
    )
    body = '{"model": "small-chat", "messages": [{"role": "user", "content": "x"}]}'
    headers = ["-H", f"Authorization: Bearer {cli.keys['PRO_KEY']}", "-H", "Content-Type: application/json"]
    call = [
        "curl",
        "-s",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        *headers,
        "-d",
        body,
        f"{demo.proxy}/v1/chat/completions",
    ]
    end = time.monotonic() + 20
    while watching.poll() is None and time.monotonic() < end:
        subprocess.run(call, check=True, timeout=30)
    said, _ = watching.communicate(timeout=30)
    frame = json.loads(said)
    assert watching.returncode == 0 and frame["requests_per_s"] > 0 and frame["answers_per_s"]["2xx"] > 0
    pro = next(row for row in frame["tokens"] if (row["tier"], row["model"]) == ("pro", "small-chat"))
    assert (
        pro["output_per_s"] > 0 and pro["calls_per_s"] > 0 and pro["latency"]["p95_ms"] >= pro["latency"]["p50_ms"] > 0
    )
    assert frame["latency"]["p50_ms"] is not None and len(frame["workers"]) >= 1
    shown = cli("top", "--once", "--every", "0.2").stdout
    assert "pro" in shown and "small-chat" in shown and "REFUSED BY" in shown and "\x1b" not in shown
    assert "REFUSED BY" in cli("top", "--every", "0.2").stdout  # no terminal: one frame


def test_top_on_a_terminal_ends_on_q(cli: Cli) -> None:
    parent, child = pty.openpty()
    with subprocess.Popen(
        [*AIGW, "top", "--every", "0.2"], env={**cli.env, "TERM": "xterm"}, stdin=child, stdout=child, stderr=child
    ) as watching:
        os.close(child)
        said, end = b"", time.monotonic() + 30
        while b"REFUSED BY" not in said and time.monotonic() < end:
            if select.select([parent], [], [], 1)[0]:
                said += os.read(parent, 65536)
        assert b"REFUSED BY" in said, said
        os.write(parent, b"q")
        while watching.poll() is None and time.monotonic() < end:
            if select.select([parent], [], [], 0.2)[0]:
                try:
                    os.read(parent, 65536)
                except OSError:
                    break
        assert watching.wait(10) == 0
    os.close(parent)


def test_a_verb_sends_the_admin_token(new_gateway: Any) -> None:
    gateway = new_gateway(env={"AIGW_ADMIN_TOKEN": "sesame-0123456789"})
    address = gateway.admin.removeprefix("http://")
    without = {name: value for name, value in os.environ.items() if name != "AIGW_ADMIN_TOKEN"}
    refused = subprocess.run(
        [*AIGW, "tiers", "--admin", address], env=without, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1 and "set AIGW_ADMIN_TOKEN" in refused.stderr
    env = {**without, "AIGW_ADMIN_TOKEN": "sesame-0123456789"}
    told = subprocess.run([*AIGW, "tiers", "--admin", address], env=env, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout.split()[0]) == (0, "TIER")
