"""Runs each marked block of the README against the demo and compares its output.

A block marked `run` exits with 0, one marked `run fails` with 1 or 2. The `text` block after it has lines of its output in order,
with `...` for anything. `text log` has lines of the first terminal. The test changes only the demo's ports, and waits four seconds
in place of one, because the machine may be busy.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from aigw.cli.verbs import GROUPS
from tests.support.processes import Demo, wait_until

ROOT: Final = Path(__file__).parents[3]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block, the text that is expected of it, and of the log."""

    language: str
    marks: list[str]
    text: str
    expected: str
    log: str

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "-", self.text.splitlines()[0])[:40]


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    for info, text in re.findall(r"^```([^\n]*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        language, *marks = info.split()
        if language != "text":
            found.append(Block(language, marks, text, "", ""))
        elif marks == ["log"]:
            found[-1] = found[-1]._replace(log=text)
        else:
            found[-1] = found[-1]._replace(expected=text)
    return found


BLOCKS: Final = blocks(README)
RUN: Final = [block for block in BLOCKS if "run" in block.marks]


def has(output: str, expected: str) -> bool:
    """Whether the lines of `expected` are in `output`, in their order, `...` standing for anything."""
    pattern = ".*".join(re.escape(line).replace(r"\.\.\.", ".*") for line in expected.split("\n") if line)
    return re.search(pattern, output, flags=re.DOTALL) is not None


def test_expectations_are_compared() -> None:
    assert has("a\nxbcy\n", "a\nb...y\n") and not has("b\na\n", "a\nb\n") and not has("ac", "a.c")


def test_the_readme_blocks_that_are_not_run_are_listed() -> None:
    assert len(RUN) >= 7
    others = [block.text for block in BLOCKS if block not in RUN]
    lines = [line.split("#")[0].strip() for text in others for line in text.splitlines()]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for line in lines:
        words = line.split()
        if words[0] == "make":
            assert set(words[1:]) <= targets, line
        elif words[0] == "pip":
            assert line == "pip install dist/aigw-*.whl && aigw demo", "tests/integration/wheel runs this one"
        else:
            assert words[0] in (".", ".venv/bin/aigw"), f"nothing runs this line: {line}"


def test_make_run_starts_this_demo() -> None:
    planned = subprocess.run(
        ["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert ".venv/bin/aigw demo" in planned


def test_the_table_has_every_verb() -> None:
    rows = re.findall(r"^\| `aigw ([a-z-]+)` \| (.*) \|$", README, flags=re.MULTILINE)
    assert rows == [row for verbs in GROUPS.values() for row in verbs.items()]


def test_links_lead_somewhere() -> None:
    pages = ("README.md", "docs/guides/tiers.md", "docs/guides/openai.md", "docs/guides/lab.md", "docs/limitations.md")
    pages += ("docs/guides/logs-and-metrics.md", "docs/guides/troubleshooting.md")
    for name in pages:
        page = ROOT / name
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{name}: {target}"


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_a_block_does_what_the_page_says(block: Block, demo: Demo) -> None:
    if block.language == "python":
        pytest.importorskip("openai")
        command = [sys.executable, "-c", demo.here(block.text)]
    else:
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        command = ["sh", "-c", demo.here(block.text).replace("sleep 1\n", "sleep 4\n")]
    if "config.minute" in block.text and (left := 60 - time.time() % 60) < 20:
        time.sleep(left)
    env = {**os.environ, **demo.environment, **demo.keys, "NO_COLOR": "1", "no_proxy": "*"}
    end = subprocess.run(
        command, cwd=demo.folder.parent, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    told = f"{end.stdout}\n{end.stderr}"
    assert "Traceback" not in told
    assert end.returncode in ((1, 2) if "fails" in block.marks else (0,)), told
    assert has(told, block.expected), told
    if block.log:
        wait_until(lambda: has("".join(demo.process.lines), block.log), f"the log has {block.log!r}")
