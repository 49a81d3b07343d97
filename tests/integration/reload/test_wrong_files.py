"""Files with errors: the configuration in force stays, and /status, the log and a metric show the reason."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.integration.reload.conftest import KEY, WITHIN_S, Reloading, write
from tests.support.processes import wait_until


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    return "\n".join(lines)


def _remove(file: Path, _: str) -> None:
    file.unlink()


def _folder(file: Path, _: str) -> None:
    file.unlink()
    file.mkdir()


def _dangling(file: Path, _: str) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _pipe(file: Path, _: str) -> None:
    file.unlink()
    os.mkfifo(file)


def _unreadable(file: Path, text: str) -> None:
    file.unlink()
    if os.geteuid() == 0:
        file.symlink_to("/proc/self/mem")  # there is nothing that root may not read; this fails all the same
    else:
        write(file, text)
        file.chmod(0)


WRONG: dict[str, tuple[Callable[[Path, str], object], str]] = {
    "syntax": (lambda file, text: write(file, text + "tiers: {"), "is not closed"),
    "unknown tier": (lambda file, text: write(file, text.replace("default_tier: free", "default_tier: fre")), "no tier 'fre'"),
    "alias bomb": (lambda file, text: write(file, _bomb()), "alias"),
    "50 MB": (lambda file, text: write(file, text + "# " + "x" * 80 + "\n" + "- x\n" * 12_500_000), ""),
    "half-written": (lambda file, text: write(file, text[: text.index("consumers") + 25]), ""),
    "empty": (lambda file, text: write(file, ""), "the file is empty"),
    "binary": (lambda file, text: write(file, bytes(range(256)) * 100), ""),
    "deleted": (_remove, "No such file"),
    "directory": (_folder, "not a regular file"),
    "dangling symlink": (_dangling, "No such file"),
    "pipe": (_pipe, "not a regular file"),
    "unreadable": (_unreadable, "cannot be read"),
}  # fmt: skip


def rejected(reloading: Reloading) -> list[str]:
    """The reasons in the log, oldest first."""
    return [json.loads(line)["why"] for line in reloading.log().splitlines() if '"config_rejected"' in line]


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_leaves_the_configuration_in_force(reloading: Reloading, kind: str) -> None:
    reloading.restore()
    before = reloading.status()
    change, words = WRONG[kind]
    change(reloading.file, reloading.text)
    changed = time.time()
    error = reloading.wrong()
    assert error["at"] - changed < (WITHIN_S if kind != "50 MB" else 20)
    assert words in error["message"] and error["file"] == str(reloading.file)
    assert reloading.status() == {**before, "error": error}
    assert httpx.get(f"{reloading.gateway.admin}/readyz", trust_env=False).status_code == 200
    assert reloading.call().status_code in (200, 429)
    assert reloading.call("nobody").status_code == 401
    assert reloading.metric("aigw_config_reload_success") == ["aigw_config_reload_success 0"]
    assert reloading.history()[0]["error"] == error["message"]
    # The log follows the status.
    wait_until(lambda: rejected(reloading)[-1:] == [error["message"]], "the log has the error")
    said = [line for line in reloading.log().splitlines() if '"config_error"' in line]
    assert said and KEY not in reloading.log()
    reloading.restore()
    assert reloading.status() == before
    assert reloading.metric("aigw_config_reload_success") == ["aigw_config_reload_success 1"]


def test_a_replaced_folder_is_seen(reloading: Reloading) -> None:
    folder = reloading.file.parent
    away = folder.with_name("away")
    before = reloading.status()
    folder.rename(away)
    error = reloading.wrong()
    assert "No such file" in error["message"]
    assert reloading.call().status_code in (200, 429)
    away.rename(folder)
    reloading.in_force(reloading.text)
    assert reloading.status() == before


def test_a_control_process_that_comes_back_serves_what_was_in_force(reloading: Reloading) -> None:
    reloading.restore()
    before = reloading.status()
    write(reloading.file, reloading.text.replace("default_tier: free", "default_tier: fre"))
    reloading.wrong()
    os.kill(reloading.gateway.children()["control"], signal.SIGKILL)
    reloading.gateway.wait_event("died", child="control")
    reloading.gateway.wait_event("ready", child="control")
    status = reloading.status()
    assert "no tier 'fre'" in status["error"]["message"]
    assert {**status, "error": None, "generation": 0} == {**before, "generation": 0}
    assert reloading.call().status_code in (200, 429)
    reloading.restore()
