"""The files of the repository that the fences look at."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]


def tracked() -> list[str]:
    """Every file of the repository, relative, that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout to know what belongs to the repository: {error}")
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def sources(folder: str, suffix: str) -> dict[str, str]:
    """Text by name of the files below a folder."""
    files = sorted((ROOT / folder).rglob(f"*{suffix}"))
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
