"""From a wheel to a governed call on a machine without a compiler: a fresh environment, `pip install WHEEL`, `aigw demo`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.processes import Process, free_ports, wait_until

ROOT = Path(__file__).parents[3]
NO_NETWORK = ("Temporary failure", "NewConnectionError", "Network is unreachable", "ConnectTimeout", "ProxyError")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built by the command of `make wheel`: after `make build` there is nothing to compile."""
    maturin = Path(sys.executable).with_name("maturin")
    if shutil.which("cargo") is None or not maturin.exists():
        pytest.skip("needs cargo and maturin to build a wheel")
    out = tmp_path_factory.mktemp("wheel")
    command = [maturin, "build", "--release", "--locked", "--interpreter", sys.executable, "--out", out]
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert made.returncode == 0, made.stderr
    (found,) = out.iterdir()
    return found


def test_make_wheel_builds_both_modules_in_release() -> None:
    planned = subprocess.run(["make", "-n", "-B", "wheel"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.index("src/mock/build-module") < planned.stdout.index("maturin build --release --locked")
    assert "dev.lock" not in planned.stdout and "run.lock" in planned.stdout


def test_make_run_installs_only_the_packages_of_running_and_shows_the_compiler() -> None:
    planned = subprocess.run(["make", "-n", "-B", "run"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert planned.returncode == 0, planned.stderr
    assert "dev.lock" not in planned.stdout and "run.lock" in planned.stdout
    compiles = [line for line in planned.stdout.splitlines() if "maturin develop" in line]
    assert compiles and not any("--quiet" in line for line in compiles)
    assert "--quiet" not in (ROOT / "src/mock/build-module").read_text()
    packages = {
        name: set(re.findall(r"^([a-z0-9-]+==\S+)", (ROOT / f"requirements/{name}.lock").read_text(), re.MULTILINE))
        for name in ("run", "dev")
    }
    assert packages["run"] < packages["dev"], "one environment holds both: `make test` adds the rest"
    names = {package.partition("==")[0] for package in packages["run"]}
    assert {"granian", "maturin"} <= names and not names & {"pytest", "mypy", "ruff", "openai"}


def test_the_wheel_runs_on_every_later_python_and_holds_the_example_and_both_modules(wheel: Path) -> None:
    assert re.fullmatch(r"aigw-[\d.]+-cp311-abi3-(manylinux|linux)_\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        example = packed.read("aigw/examples/tiers.yaml")
    assert {"aigw/_native.abi3.so", "aigw/_mock.abi3.so", "aigw/config/schema.json"} <= set(names)
    assert example == (ROOT / "deploy/examples/tiers.yaml").read_bytes()
    assert not [name for name in names if not name.startswith(("aigw/", "aigw-"))]


def test_a_fresh_environment_makes_a_governed_call(wheel: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    home, place = tmp_path / "venv", tmp_path / "place"
    place.mkdir()
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIGW_", "PYTHON"))}
    environment |= {"PATH": str(home / "bin"), "VIRTUAL_ENV": str(home)}  # without a compiler, and without this tree
    install = [home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
    done = subprocess.run(install, cwd=place, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode and any(word in done.stderr for word in NO_NETWORK):
        pytest.skip("needs a package index to install the dependencies from")
    assert done.returncode == 0, done.stderr

    ports = dict(zip(("proxy", "admin", "llm", "echo"), free_ports(4), strict=True))
    options = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    demo = Process([str(home / "bin" / "aigw"), "demo", *options], stream="both", env=environment, cwd=place)
    try:
        demo.wait_line(lambda line: "Ctrl-C ends everything" in line)
        said = "".join(demo.lines)
        printed = re.search(r"^  (curl .*?'$)", said, re.DOTALL | re.MULTILINE)
        assert printed is not None and "Next: aigw top" in said
        asked = printed[1].replace("curl", shutil.which("curl") or "", 1)
        answer = subprocess.run(["/bin/sh", "-c", asked], capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(answer.stdout)["model"] == "small-chat"
        checked = [home / "bin" / "aigw", "status", "--admin", f"127.0.0.1:{ports['admin']}"]
        state = json.loads(subprocess.run(checked, env=environment, capture_output=True, check=True).stdout)
        assert state["configuration"]["source"] == str(place / ".aigw-demo" / "tiers.yaml")
    finally:
        assert demo.end(signal.SIGINT) == 0
    wait_until(lambda: not any(map(_is_open, ports.values())), "every part of the demo has ended")


def _is_open(port: int) -> bool:
    return Path("/proc/net/tcp").read_text().find(f":{port:04X} 00000000:0000 0A") >= 0
