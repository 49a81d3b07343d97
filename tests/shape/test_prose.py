"""Prose names its subjects: nominal "what ..." clauses only become fewer (docs/contributing/style.md)."""

import subprocess
from collections import Counter
from typing import Final

import pytest

from tests.support.prose import files, prose

# Clauses by suffix. A number here may fall; the goal is below 1 in 1,000 words.
AT_MOST: Final = {".md": 3, ".py": 0, ".pyi": 0, ".rs": 0}


def test_nominal_what_clauses_only_become_fewer(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        names = list(files())
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout to know the files of the repository: {error}")
    found: Counter[str] = Counter()
    words = 0
    for file in names:
        one = prose(file)
        found[file.suffix] += len(one.clauses)
        words += one.words
    with capsys.disabled():
        print(f'\nprose: {1000 * found.total() / words:.2f} nominal "what" clauses per 1,000 words', end="")
    assert {suffix: count for suffix, count in found.items() if count > AT_MOST[suffix]} == {}
