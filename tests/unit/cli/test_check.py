"""`aigw check` and `aigw schema`, as a person and as a pipeline see them."""

import json
from pathlib import Path

from tests.unit.cli.test_cli import aigw


def test_check_exits_with_0_for_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("tiers: {free: {}}\nconsumers: [{username: a, tier: free}]\n")
    end = aigw("check", str(path))
    assert (end.returncode, end.stderr) == (0, "")
    assert end.stdout == f"{path}: fine: 0 models, 1 tiers, 0 services, 0 routes, 1 consumers\n"
    end = aigw("check", str(path), "--output", "json")
    assert end.returncode == 0 and json.loads(end.stdout)["ok"] is True


def test_check_exits_with_2_for_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("teirs: {free: {}}\n")
    end = aigw("check", str(path))
    assert (end.returncode, end.stdout) == (2, "")
    assert end.stderr == f"{path}:1:1: teirs: unknown field\n  teirs: {{free: {{}}}}\n  ^^^^^ did you mean 'tiers'?\n"
    end = aigw("check", str(path), "--output", "json")
    assert end.returncode == 2
    finding = {"line": 1, "col": 1, "path": "teirs", "message": "unknown field", "suggestion": "tiers"}
    assert json.loads(end.stdout) == {"ok": False, "errors": [{"file": str(path), **finding}], "warnings": []}


WARNED = """
models: {small-chat: {upstreams: [{url: "http://h/v1", api_key: os.environ/UPSTREAM_KEY}]}}
tiers: {free: {allow: {models: [smal-chat]}, timeouts: {first_byte: 10s, total: 5s}}}
consumers: [{username: a, tier: free, keyauth_credentials: [{key: hush-hush}, {key_hash: "hmac:aaaaaaaa:HEX"}]}]
""".replace("HEX", "0f" * 32)


def test_check_warns_of_a_usable_file_and_refuses_it_when_strict(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(WARNED)
    end = aigw("check", str(path))
    assert end.returncode == 0 and end.stdout.startswith(f"{path}: can be used, with 4 warnings: 1 models, 1 tiers")
    lines = [line for line in end.stderr.splitlines() if line.startswith(str(path))]
    assert [line.split(": ")[:3] for line in lines] == [
        [f"{path}:2:65", "warning", "models.small-chat.upstreams[0].api_key"],
        [f"{path}:3:33", "warning", "tiers.free.allow.models[0]"],
        [f"{path}:3:69", "warning", "tiers.free.timeouts.first_byte"],
        [f"{path}:4:67", "warning", "consumers[0].keyauth_credentials[0].key"],
    ]
    assert "did you mean '${UPSTREAM_KEY}'?" in end.stderr and "did you mean 'small-chat'?" in end.stderr
    assert "hush-hush" not in end.stderr
    strict = aigw("check", str(path), "--strict")
    refused = f"{path}: --strict refuses it for 4 warnings: a gateway can use the file\n"
    assert (strict.returncode, strict.stdout, strict.stderr) == (2, "", end.stderr + refused)
    told = json.loads(aigw("check", str(path), "--output", "json").stdout)
    assert told["ok"] is True and [one["line"] for one in told["warnings"]] == [2, 3, 3, 4] and told["errors"] == []
    told = json.loads(aigw("check", str(path), "--strict", "--output", "json").stdout)
    assert told["ok"] is False and len(told["warnings"]) == 4


def test_check_compares_hmacs_with_the_secret_of_a_data_folder(tmp_path: Path) -> None:
    path, data = tmp_path / "f.yaml", tmp_path / "data"
    path.write_text(WARNED)
    end = aigw("check", str(path), "--data", str(data))
    assert end.returncode == 2 and "there is no secret" in end.stderr
    data.mkdir()
    (data / "secret").write_bytes(bytes(32))
    end = aigw("check", str(path), "--data", str(data))
    assert end.returncode == 0 and "made under another secret (aaaaaaaa; the data folder has" in end.stderr


def test_check_shows_an_open_bracket_where_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("tiers:\n  free: {limits: [{requests: 5, per: day}\n  pro: {}\nconsumers: []\n")
    end = aigw("check", str(path))
    assert end.returncode == 2
    assert end.stderr.splitlines()[0] == f"{path}:2:18: the bracket '[' is not closed before line 3"


def test_check_exits_with_2_for_a_missing_file(tmp_path: Path) -> None:
    end = aigw("check", str(tmp_path / "none"))
    assert end.returncode == 2 and end.stderr == f"{tmp_path}/none: cannot be read: No such file or directory\n"


def test_schema_prints_the_schema() -> None:
    end = aigw("schema")
    assert end.returncode == 0 and json.loads(end.stdout)["title"] == "aigw configuration"
