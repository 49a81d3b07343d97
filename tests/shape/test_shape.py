"""Conventions as tests: unsafe code, caught exceptions, make targets, and traces of the machine that a text was written on.

Exceptions stand in a table here, by name and with a number. Nothing is added to a table without a reason beside it.
"""

import ast
import re
import subprocess
from typing import Final

import pytest

from tests.shape.files import ROOT, sources, tracked
from tests.shape.rust import split

# Where memory is touched by hand, each block with its SAFETY text.
UNSAFE: Final = {"src/io/map.rs", "src/io/socket.rs", "src/ext/coroutine.rs", "src/ext/memory.rs"}
# Handlers that catch everything and go on, by file, outside `serve/`.
CATCH_ALL: Final = {
    "python/aigw/admin/app.py": 1,  # a defect is an answer of its own, a line of the log and a count
    "python/aigw/control/group_commit.py": 2,  # whatever an operation raises is told to its caller
    "python/aigw/telemetry/faults.py": 1,  # how threads outlive faults: in one place, and counted
}


def rust() -> dict[str, str]:
    return sources("src", ".rs")


def python() -> dict[str, str]:
    return sources("python/aigw", ".py")


def test_unsafe_stands_in_the_named_files_only_and_says_why() -> None:
    used = {name: len(re.findall(r"\bunsafe\b", split(text)[0])) for name, text in rust().items()}
    assert {name for name, count in used.items() if count} == UNSAFE
    for name in UNSAFE:
        assert rust()[name].count("SAFETY:") >= used[name], f"{name}: each block has its SAFETY text"


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes whatever comes and goes on; one that ends in a bare `raise` lets it pass."""
    names = (
        {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else {"Exception"}
    )
    last = handler.body[-1]
    return bool(names & {"Exception", "BaseException"}) and not (isinstance(last, ast.Raise) and last.exc is None)


def test_nothing_is_caught_wholesale_outside_serve() -> None:
    found = {}
    for name, text in python().items():
        handlers = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ExceptHandler)]
        if count := sum(map(catches_all, handlers)):
            found[name] = count
    serve = {name for name in found if name.startswith("python/aigw/serve/")}
    too_many = {name: count for name, count in found.items() if name not in serve and count > CATCH_ALL.get(name, 0)}
    assert too_many == {}
    assert {name for name in CATCH_ALL if name not in found} == set(), "no longer needed in the table"


def test_only_two_verbs_load_the_mocks() -> None:
    users = {name for name, text in python().items() if "aigw._mock" in text}
    assert users == {"python/aigw/cli/verbs/echo.py", "python/aigw/cli/verbs/mock_llm.py"}


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z][a-z-]*):([^=\n].*)?$", makefile, flags=re.MULTILINE)
    assert len(targets) > 8
    assert [name for name, rest in targets if not re.search(r"## \S", rest)] == []
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert sorted(phony.split()) == sorted(name for name, _ in targets)


# Words that mean something only on the machine where they were written.
FOREIGN: Final = {
    "a path of somebody's machine": re.compile(r"(?<![\w.$}/-])/(?:work|root|home/\w+|Users/\w+|opt/wheels)/"),
    "the number of a ticket": re.compile(
        r"\b(?:issues?|tickets?|PR|pull request|fixes|closes|gh)[ -]*#?\d+\b|(?<![&\w/#'\"(])#\d+\b", re.I
    ),
}


def test_patches_of_benches_fit_the_sources() -> None:
    patches = [name for name in tracked() if name.startswith("benches/") and name.endswith(".patch")]
    assert patches
    for name in patches:
        done = subprocess.run(["git", "apply", "--check", name], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}write it again from a checkout with the change"


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_of_where_it_was_written_is_in_the_repository(what: str) -> None:
    found = []
    for name in tracked():
        if name in ("Cargo.lock", "requirements/dev.lock", "LICENSE"):
            continue
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an archive or an image
        found += [f"{name}: {match[0]}" for match in FOREIGN[what].finditer(text)]
    assert found == []
