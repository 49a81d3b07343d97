"""The demo makes keys once, and a copy of the file that belongs to the user."""

import stat
import subprocess
from pathlib import Path

import pytest

from aigw.cli import main
from aigw.cli.verbs.demo import _check, _copy, keys_for
from aigw.errors import AigwError, ConfigError


def test_the_demo_makes_keys_once_and_keeps_them_private(tmp_path: Path) -> None:
    file, kept = tmp_path / "tiers.yaml", tmp_path / "keys"
    file.write_text(
        'a: [{key: "${FREE_KEY}"}, {"key" : ${PRO_KEY}}, {key: "${FREE_KEY}"}, {key: "${FIXED_KEY:-none}"}, {key: "${OTHER}"}]\n'
    )
    keys, made = keys_for(file, kept)
    assert made == list(keys) == ["FREE_KEY", "PRO_KEY"]
    assert keys["FREE_KEY"].startswith("free-") and len(keys["FREE_KEY"]) == 37
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert keys_for(file, kept) == (keys, [])
    file.write_text("a: [{key: '${FREE_KEY}'}, {key: '${NEW_KEY}'}]\n")
    more, made = keys_for(file, kept)
    assert made == ["NEW_KEY"] and more == {**keys, "NEW_KEY": more["NEW_KEY"]}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_the_demo_leaves_keys_of_upstreams_to_the_user(tmp_path: Path) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text('a: {api_key: "${OPENAI_API_KEY}", headers: {x-key: "${TEAM_KEY}", api-key: "${AZURE_KEY}"}}\n')
    assert keys_for(file, tmp_path / "keys") == ({}, [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--proxy-port", "70000"], "70000 is not in the range"),
        (["--llm-port", "0"], "0 is not in the range"),
        (["--proxy-port", "8001"], "two of them are the same port"),
    ],
)
def test_the_demo_refuses_ports_that_cannot_be(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--folder", str(tmp_path / "demo"), *options])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_shell_reads_the_keys(tmp_path: Path) -> None:

    file, kept = tmp_path / "tiers.yaml", tmp_path / "keys"
    file.write_text("key: ${FREE_KEY}\n")
    keys, _ = keys_for(file, kept)
    shell = subprocess.run(
        ["sh", "-c", '. "$1"; echo $FREE_KEY', "sh", kept], capture_output=True, text=True, check=True
    )
    assert shell.stdout.strip() == keys["FREE_KEY"]


@pytest.mark.parametrize(("status", "kind"), [(2, ConfigError), (1, AigwError), (0, AigwError)])
def test_the_demo_ends_with_the_exit_code_of_its_gateway(status: int, kind: type[AigwError]) -> None:
    with subprocess.Popen(["sh", "-c", f"exit {status}"]) as child:
        child.wait()
    with pytest.raises(kind, match=rf"\(status {status}\); its log is above") as caught:
        _check([child])
    assert type(caught.value) is kind


def test_the_demo_copies_the_file_once_with_its_own_ports(tmp_path: Path) -> None:
    file, to = tmp_path / "tiers.yaml", tmp_path / "copy.yaml"
    file.write_text("url: http://127.0.0.1:9100/v1\n")
    _copy(file, to, {9100: 12345})
    assert to.read_text() == "url: http://127.0.0.1:12345/v1\n"
    to.write_text("edited\n")
    assert _copy(file, to, {9100: 1}).read_text() == "edited\n"
    with pytest.raises(ConfigError, match=r"none.yaml.*name the configuration file"):
        _copy(tmp_path / "none.yaml", tmp_path / "other", {})
