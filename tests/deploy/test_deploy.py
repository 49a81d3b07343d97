"""What `deploy/` gives away, checked without a container engine or a running systemd: that it names what exists.

Whether an image builds is not shown here; that each of its steps works on the files it copies is.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest

from aigw._native import load_yaml
from aigw.cli.verbs import VERBS
from aigw.settings import Settings, load, variable

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
VARIABLES: Final = {variable(setting.name) for setting in fields(Settings)}


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile, its lines joined."""

    word: str
    rest: str


def stages(text: str) -> list[list[Step]]:
    """The instructions of each stage."""
    found: list[list[Step]] = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word:
            continue
        if word.upper() == "FROM":
            found.append([])
        found[-1].append(Step(word.upper(), rest.strip()))
    return found


STAGES: Final = stages((DEPLOY / "Dockerfile").read_text())
LAST: Final = STAGES[-1]


def one(stage: list[Step], word: str) -> str:
    """The only instruction with this word."""
    (found,) = [step.rest for step in stage if step.word == word]
    return found


def environment(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(text))


def test_every_image_is_named_by_a_version() -> None:
    images = [one(stage, "FROM").split()[0] for stage in STAGES]
    assert len(images) == 2
    for image in images:
        _, colon, tag = image.rpartition(":")
        assert colon and tag and "latest" not in tag, image
    wanted = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert wanted and images[0].startswith(f"rust:{wanted[1]}-"), "the compiler that Cargo.toml asks for"
    debian = {
        image.rpartition("-")[2] if image.startswith("rust") else image.split(":")[1].split("-")[0] for image in images
    }
    assert len(debian) == 1, "built on another Debian than it runs on: its Python may be another"


def ignored(path: str) -> bool:
    """Whether the context leaves this out: the last rule of `.dockerignore` that fits decides."""
    out = False
    for rule in (ROOT / ".dockerignore").read_text().split():
        pattern = rule.removeprefix("!")
        parts = path.split("/")
        heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if any(fnmatch(head, pattern) for head in heads):
            out = not rule.startswith("!")
    return out


def test_everything_that_is_copied_exists_and_is_sent() -> None:
    copied = [step.rest.split() for stage in STAGES for step in stage if step.word in ("COPY", "ADD")]
    taken = [source for words in copied if not words[0].startswith("--from") for source in words[:-1]]
    assert len(taken) > 5
    for source in taken:
        assert (ROOT / source).exists(), source
        assert not ignored(source), f"{source} is in .dockerignore"
    for secret in (".git/config", "aigw-data/secret", ".venv/bin/python", "target/release/x", "tests/unit/fakes.py"):
        assert ignored(secret), f"{secret} would be sent to the builder"
    assert not ignored("src/io/map.rs") and not ignored("tests/rust/keys.rs")
    between = [words for words in copied if words[0].startswith("--from")]
    assert between == [["--from=build", "/opt/aigw", "/opt/aigw"]]
    assert one(STAGES[0], "FROM").endswith(" AS build")


def test_the_image_copies_every_path_of_the_workspace() -> None:
    """Cargo reads every target's path, also of those it does not build."""
    copied = [source for step in STAGES[0] if step.word == "COPY" for source in step.rest.split()[:-1]]
    manifests = [ROOT / "Cargo.toml", *(ROOT / "src").rglob("Cargo.toml")]
    for manifest in manifests:
        for path in re.findall(r'^path = "(.+)"', manifest.read_text(), re.MULTILINE):
            target = os.path.relpath(manifest.parent / path, ROOT)
            assert any(target == source or target.startswith(f"{source}/") for source in copied), target


def test_it_runs_a_command_that_exists_as_nobody_in_particular() -> None:
    assert one(LAST, "USER") not in ("root", "0")
    command = [*json.loads(one(LAST, "ENTRYPOINT")), *json.loads(one(LAST, "CMD"))]
    assert command[0] == "/opt/aigw/bin/aigw"
    built = " ".join(step.rest for step in STAGES[0] if step.word == "RUN")
    assert "venv /opt/aigw" in built and "/opt/aigw/bin/pip install" in built
    assert re.search(r'^aigw = "aigw\.cli:main"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert command[1] in VERBS
    installed = next(step.rest for step in LAST if step.word == "RUN")
    assert "useradd" in installed and f" {one(LAST, 'USER')}" in installed


def test_its_settings_are_settings_and_ask_for_a_token() -> None:
    given = {name: value for name, value in environment(one(LAST, "ENV")).items() if name.startswith("AIGW_")}
    assert set(given) <= VARIABLES
    with pytest.raises(Exception, match="has no token"):
        load({}, given)
    settings = load({}, given | {"AIGW_ADMIN_TOKEN": "t"})
    assert one(LAST, "EXPOSE").split() == [str(settings.proxy.port), str(settings.admin.port)]
    assert one(LAST, "VOLUME") == str(settings.data)


def test_its_health_check_is_a_program_that_asks_what_there_is() -> None:
    _, _, command = one(LAST, "HEALTHCHECK").partition("CMD ")
    words = json.loads(command)
    assert words[:2] == ["/opt/aigw/bin/python", "-c"]
    ast.parse(words[2])
    assert "/readyz" in words[2] and "AIGW_ADMIN_TOKEN" in words[2]
    assert "readyz" in (ROOT / "python/aigw/admin/paths.py").read_text()


UNIT: Final = DEPLOY / "systemd" / "aigw.service"


def unit(name: str) -> list[str]:
    """The values of a line of the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_the_unit_gives_a_drain_its_time_and_starts_what_exists() -> None:
    (start,) = unit("ExecStart")
    assert start.split()[1] in VERBS
    assert {name for line in unit("Environment") for name in environment(line)} <= VARIABLES
    (stop,) = unit("TimeoutStopSec")
    assert float(stop) > load({}, {}).drain_timeout + 10
    assert unit("RestartPreventExitStatus") == ["2"]
    assert unit("KillMode") == ["mixed"]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    # /opt/aigw does not exist here: the test checks the rest of the unit.
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/aigw/bin/aigw serve", f"{sys.executable} -m aigw serve"))
    command = ["systemd-analyze", "verify", "--man=no", str(here)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in said.stderr.splitlines() if UNIT.name in line]
    assert (told, said.returncode) == ([], 0), said.stderr


def test_the_example_for_prometheus_asks_our_page() -> None:
    """Word by word: `promtool check config` accepts exactly these, and is not at hand everywhere."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    job = {
        "job_name": "aigw",
        "scrape_interval": "15s",
        "static_configs": [{"targets": [str(load({}, {}).admin)]}],
    }
    assert load_yaml(text.encode()).value() == {"scrape_configs": [job]}, "no metrics_path: its default is ours"
    # The lines to uncomment for another host belong into the job.
    token = re.sub(r"^    # (?=http_headers:|  )", "    ", text, flags=re.MULTILINE)
    headers = {"Kong-Admin-Token": {"files": ["/etc/prometheus/aigw-admin-token"]}}
    assert load_yaml(token.encode()).value() == {"scrape_configs": [{**job, "http_headers": headers}]}
