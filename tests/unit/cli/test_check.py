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
    assert json.loads(end.stdout) == {"ok": False, "errors": [{"file": str(path), **finding}]}


def test_check_exits_with_2_for_a_missing_file(tmp_path: Path) -> None:
    end = aigw("check", str(tmp_path / "none"))
    assert end.returncode == 2 and end.stderr == f"{tmp_path}/none: cannot be read: No such file or directory\n"


def test_schema_prints_the_schema() -> None:
    end = aigw("schema")
    assert end.returncode == 0 and json.loads(end.stdout)["title"] == "aigw configuration"
