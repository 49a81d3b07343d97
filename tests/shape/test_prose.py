"""Prose names its subjects: nominal "what ..." clauses only become fewer (docs/contributing/style.md)."""

import subprocess
from collections import Counter
from typing import Final

import pytest

from tests.support.prose import files, prose

# Clauses by suffix. A number here may fall; the goal is below 1 in 1,000 words.
AT_MOST: Final = {".md": 25, ".py": 285, ".pyi": 8, ".rs": 210}


def test_nominal_what_clauses_only_become_fewer() -> None:
    try:
        names = list(files())
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout to know the files of the repository: {error}")
    found: Counter[str] = Counter()
    for file in names:
        found[file.suffix] += len(prose(file).clauses)
    assert {suffix: count for suffix, count in found.items() if count > AT_MOST[suffix]} == {}
