"""What the demo keeps: keys that are made once, and a copy that is its user's."""

import stat
from pathlib import Path

import pytest

from aigw.cli.demo import _copy, keys_for
from aigw.errors import ConfigError


def test_keys_are_made_once_and_kept_from_others(tmp_path: Path) -> None:
    file, kept = tmp_path / "tiers.yaml", tmp_path / "keys"
    file.write_text('a: ["${FREE_KEY}", "${PRO_KEY}", "${FREE_KEY}", "${UPSTREAM_KEY:-none}", "${OTHER}"]\n')
    keys, made = keys_for(file, kept)
    assert made == list(keys) == ["FREE_KEY", "PRO_KEY"]
    assert keys["FREE_KEY"].startswith("free-") and len(keys["FREE_KEY"]) == 37
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert keys_for(file, kept) == (keys, [])
    file.write_text('a: ["${FREE_KEY}", "${NEW_KEY}"]\n')
    more, made = keys_for(file, kept)
    assert made == ["NEW_KEY"] and more == {**keys, "NEW_KEY": more["NEW_KEY"]}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_shell_reads_the_keys(tmp_path: Path) -> None:
    import subprocess

    file, kept = tmp_path / "tiers.yaml", tmp_path / "keys"
    file.write_text("a: ${FREE_KEY}\n")
    keys, _ = keys_for(file, kept)
    shell = subprocess.run(
        ["sh", "-c", '. "$1"; echo $FREE_KEY', "sh", kept], capture_output=True, text=True, check=True
    )
    assert shell.stdout.strip() == keys["FREE_KEY"]


def test_the_copy_is_made_once_and_has_the_demos_ports(tmp_path: Path) -> None:
    file, to = tmp_path / "tiers.yaml", tmp_path / "copy.yaml"
    file.write_text("url: http://127.0.0.1:9100/v1\n")
    _copy(file, to, {9100: 12345})
    assert to.read_text() == "url: http://127.0.0.1:12345/v1\n"
    to.write_text("edited\n")
    assert _copy(file, to, {9100: 1}).read_text() == "edited\n"
    with pytest.raises(ConfigError, match=r"none.yaml.*name the configuration file"):
        _copy(tmp_path / "none.yaml", tmp_path / "other", {})
