"""The access log: a file that workers cannot append to is an error of the command line before the start."""

import os
from pathlib import Path

import pytest

from aigw.errors import ConfigError
from aigw.serve.log import Seldom, check_access_log
from aigw.settings import load


def test_the_check_accepts_an_appendable_file_and_leaves_it_unchanged(tmp_path: Path) -> None:
    for target in ("-", "off", str(tmp_path / "new.log"), "/dev/null"):
        check_access_log(target)
    assert not (tmp_path / "new.log").exists(), "a start that fails leaves nothing"
    kept = tmp_path / "kept.log"
    kept.write_text("a line\n")
    check_access_log(str(kept))
    assert kept.read_text() == "a line\n"
    (tmp_path / "link.log").symlink_to("later.log")
    check_access_log(str(tmp_path / "link.log"))
    assert (tmp_path / "link.log").is_symlink()


def test_the_check_names_the_option_of_an_unusable_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = tmp_path / "file"
    file.touch()
    for target, why in (
        (tmp_path / "nope" / "x", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (file / "x", "Not a directory"),
        (tmp_path / "pipe", "No such device or address"),
    ):
        with pytest.raises(
            ConfigError, match=f"--access-log: cannot append to '{target}': {why}; name a file in a folder"
        ):
            check_access_log(str(target))


def test_an_empty_log_path_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--access-log"):
        check_access_log(load({"access_log": ""}, {}).access_log)


def test_a_fault_that_goes_on_is_told_after_growing_pauses() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    told = []
    for tick in range(4 * 3600):
        now[0] = tick / 4
        if seldom.is_due():
            told.append(now[0])
    assert told == [0.0, 10.0, 30.0, 70.0, 150.0, 310.0, 630.0, 1230.0, 1830.0, 2430.0, 3030.0]
    seldom.ended()
    assert [seldom.is_due(), seldom.is_due()] == [True, False]
