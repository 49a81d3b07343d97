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
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from aigw._native import load_yaml
from aigw.cli.verbs import VERBS
from aigw.settings import Settings, load, variable

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
VARIABLES: Final = {variable(setting.name) for setting in fields(Settings)}


DOCKERFILE: Final = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")


def said(word: str) -> list[str]:
    """The rest of each line of the Dockerfile that begins with `word`; continued lines are one."""
    return re.findall(rf"^{word} (.*)$", DOCKERFILE, re.MULTILINE)


def copied() -> list[str]:
    """Paths of this repository that the image is built from."""
    return [path for line in said("COPY") if not line.startswith("--from") for path in line.split()[:-1]]


def environment(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(text))


def test_images_are_named_by_versions_and_the_compiler_is_ours() -> None:
    images = [line.split()[0] for line in said("FROM")]
    assert all(re.search(r":.+", image) and "latest" not in image for image in images), images
    wanted = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert wanted and images[0].startswith(f"rust:{wanted[1]}-")
    assert len(set(re.findall(r"bookworm|trixie", " ".join(images)))) == 1, "its Python runs on another Debian"


def test_the_context_holds_the_copied_paths_and_nothing_else() -> None:
    assert [path for path in copied() if not (ROOT / path).exists()] == []
    rules = (ROOT / ".dockerignore").read_text().split()
    assert rules[0] == "*", "leaves out all but the paths that are named: no secret and no build is sent"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())


def test_the_image_copies_every_path_of_the_workspace() -> None:
    """Cargo reads every target's path, also of those it does not build."""
    for manifest in (ROOT / "Cargo.toml", *(ROOT / "src").rglob("Cargo.toml")):
        for path in re.findall(r'^path = "(.+)"', manifest.read_text(), re.MULTILINE):
            target = os.path.relpath(manifest.parent / path, ROOT)
            assert any(target == one or target.startswith(f"{one}/") for one in copied()), target


def test_the_image_starts_a_verb_that_exists_as_an_unprivileged_numeric_user() -> None:
    (user,), (program,), (verb,) = said("USER"), said("ENTRYPOINT"), said("CMD")
    number, group = (int(part) for part in user.split(":"))
    assert number > 0 and group > 0 and json.loads(program) == ["/opt/aigw/bin/aigw"]
    (made,) = (line for line in said("RUN") if "useradd" in line)
    assert f"--uid {number} --gid {group}" in made and f"install -d -o {number} -g {group}" in made
    assert json.loads(verb)[0] in VERBS


def test_the_image_sets_settings_that_exist_and_asks_for_a_token() -> None:
    (line,), (ports,), (volume,) = said("ENV"), said("EXPOSE"), said("VOLUME")
    given = {name: value for name, value in environment(line).items() if name.startswith("AIGW_")}
    assert set(given) <= VARIABLES
    with pytest.raises(Exception, match="has no token"):
        load({}, given)
    settings = load({}, given | {"AIGW_ADMIN_TOKEN": "t"})
    assert ports.split() == [str(settings.proxy.port), str(settings.admin.port)]
    assert volume == str(settings.data)


def test_the_health_check_is_a_program_that_asks_for_readiness() -> None:
    (line,) = said("HEALTHCHECK")
    program = json.loads(line.partition("CMD ")[2])[2]
    ast.parse(program)
    assert "/readyz" in program and "AIGW_ADMIN_TOKEN" in program


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


def test_the_unit_requires_its_environment_file() -> None:
    (file,) = unit("EnvironmentFile")
    assert file == "/etc/aigw.env", "a dash in front would make a missing file a start with other settings"


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
