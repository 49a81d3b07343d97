"""decK and the test program of Kong's Go client, built from their modules in `.cache/compat`. Raises Skipped where the modules or a compiler
are not to be had."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.compat.clients import must, prepare, tool

HERE: Final = Path(__file__).parent
CLIENT: Final = "github.com/kong/go-kong"
DECK: Final = "github.com/kong/deck"


@dataclass(frozen=True)
class Tools:
    """Both programs, the folder with the sources of the client's tests, and the versions."""

    deck: Path
    tests: Path
    sources: Path
    versions: dict[str, str]


def install() -> Tools:
    """Build both, unless they are there."""
    compiler = tool("go", "/usr/local/go/bin")

    def make(place: Path) -> None:
        build = [compiler, "build", "-mod=readonly", "-o", str(place / "deck"), "."]
        must(build, cwd=HERE, GOTOOLCHAIN="local")
        program = [compiler, "test", "-c", "-mod=readonly", "-o", str(place / "go-kong.test"), f"{CLIENT}/kong"]
        must(program, cwd=HERE, GOTOOLCHAIN="local")

    place = prepare("kong", make)
    found = [_listed(compiler, module) for module in (DECK, CLIENT)]
    versions = {name: version for _, name, version in found}
    return Tools(place / "deck", place / "go-kong.test", Path(found[1][0]) / "kong", versions)


def _listed(compiler: str, module: str) -> tuple[str, str, str]:
    """Folder, short name and version of a module."""
    form = "{{.Dir}} {{.Version}}"
    must([compiler, "mod", "download", module], cwd=HERE, GOTOOLCHAIN="local")
    done = subprocess.run(
        [compiler, "list", "-m", "-f", form, module],
        cwd=HERE, env={**os.environ, "GOTOOLCHAIN": "local"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder, version = done.stdout.split()
    return folder, module.rpartition("/")[2], version
