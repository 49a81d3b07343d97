"""The shape of the house as tests: a ratchet that only tightens.

Each rule is a sentence of the conventions. What breaks one today stands in a table here, by name and with a number; the
number may fall, and goes when the rule holds. Nothing is added to a table without a reason beside it.
"""

import ast
import re
import subprocess
from pathlib import Path
from typing import Final

import grimp
import pytest

ROOT: Final = Path(__file__).parents[2]

LINES: Final = 400
# Modules above it, and how large they may be: what they are today.
LARGE: Final = {
    "src/accept/openai.rs": 500,
    "src/ext/app.rs": 448,
    "src/match/router.rs": 408,
}
# Where memory is touched by hand, each block with its SAFETY text.
UNSAFE: Final = {"src/io/map.rs", "src/io/socket.rs", "src/ext/step.rs"}
# Handlers that catch everything and go on, by file, outside `serve/`.
CATCH_ALL: Final = {
    "python/aigw/control/group_commit.py": 2,  # whatever an operation raises is told to its caller
    "python/aigw/telemetry/faults.py": 1,  # how threads outlive faults: in one place, and counted
}


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


def rust() -> dict[str, str]:
    return sources("src", ".rs")


def python() -> dict[str, str]:
    return sources("python/aigw", ".py")


def code(text: str) -> str:
    """Rust without its comments."""
    return re.sub(r"//[^\n]*", "", text)


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import one another (Tarjan's strongly connected components of more than one)."""
    found: list[set[str]] = []
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            together = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(together) > 1:
                found.append(together)

    for node in graph:
        if node not in number:
            visit(node)
    return found


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}}) == [{"b", "c"}]


def test_no_python_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("aigw", include_external_packages=False, cache_dir=None)
    assert len(graph.modules) > 50
    assert cycles({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []


def test_every_module_opens_with_its_story() -> None:
    silent = [name for name, text in rust().items() if not text.startswith("//! ")]
    silent += [name for name, text in python().items() if not ast.get_docstring(ast.parse(text))]
    silent += [
        name
        for folder in ("tests", "benches", "docs")
        for name, text in sources(folder, ".py").items()
        if text and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


def test_only_the_boundary_knows_python() -> None:
    outside = {name: text for name, text in rust().items() if not name.startswith("src/ext/")}
    assert [name for name, text in outside.items() if re.search(r"\bpyo3\b", code(text))] == []
    for crate in ("Cargo.toml", "src/io/Cargo.toml"):
        dependencies = re.split(r"^\[(?:dev-)?dependencies\]$", (ROOT / crate).read_text(), flags=re.MULTILINE)[1:]
        assert all("pyo3" not in part.partition("\n[")[0] for part in dependencies), crate


def test_unsafe_stands_in_the_named_files_only_and_says_why() -> None:
    used = {name: len(re.findall(r"\bunsafe\b", code(text))) for name, text in rust().items()}
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


def test_no_module_outgrows_one_idea() -> None:
    sizes = {name: len(text.splitlines()) for name, text in (rust() | python()).items()}
    too_large = {name: size for name, size in sizes.items() if size > LARGE.get(name, LINES)}
    assert too_large == {}, "split them: each by its ideas, not by its length"
    assert [name for name in LARGE if sizes.get(name, 0) <= LINES] == [], "small enough now: take them out of the table"


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z][a-z-]*):([^=\n].*)?$", makefile, flags=re.MULTILINE)
    assert len(targets) > 8
    assert [name for name, rest in targets if not re.search(r"## \S", rest)] == []
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert sorted(phony.split()) == sorted(name for name, _ in targets)


# What belongs to the machine or the place where something was written, and to nobody who reads it.
FOREIGN: Final = {
    "a path of somebody's machine": re.compile(r"(?<![\w.$}/-])/(?:work|root|home/\w+|Users/\w+|opt/wheels)/"),
    "the number of a ticket": re.compile(
        r"\b(?:issues?|tickets?|PR|pull request|fixes|closes|gh)[ -]*#?\d+\b|(?<![&\w/#'\"(])#\d+\b", re.I
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_of_where_it_was_written_is_in_the_repository(what: str) -> None:
    found = []
    for name in tracked():
        if name in ("Cargo.lock", "requirements/dev.lock", "LICENSE"):
            continue
        text = (ROOT / name).read_bytes().decode("utf-8", errors="ignore")
        found += [f"{name}: {match[0]}" for match in FOREIGN[what].finditer(text)]
    assert found == []
