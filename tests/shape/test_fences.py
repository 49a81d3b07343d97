"""The fences of both languages: short functions, no import cycle, one file for a type's own methods.

Faults that are left stand in `ratchet.toml` and may only shrink. `test_readers.py` shows that each fence can fail.
"""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grimp
import pytest

from tests.shape import rust
from tests.shape.cycles import all_cycles
from tests.shape.files import ROOT, sources, tracked
from tests.shape.ratchet import hold

LONGEST: Final = 60
"""Lines of a function, from its head to its end: the 99th percentile of the code bases that this one is measured by."""
LARGE: Final = 400
"""Lines of a module above which the run prints a warning."""


@functools.cache
def crates() -> list[tuple[str, rust.Crate]]:
    """Name and modules of each crate of the workspace."""
    found = []
    for manifest in (ROOT / "Cargo.toml", *sorted((ROOT / "src").rglob("Cargo.toml"))):
        about = tomllib.loads(manifest.read_text())
        root = manifest.parent / about.get("lib", {}).get("path", "src/lib.rs")
        found.append((about["package"]["name"], rust.crate(root, ROOT)))
    return found


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """Name and lines of each function, its docstring included."""
    left: list[ast.AST] = [ast.parse(text)]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
        # Statements only: an expression holds no function with a name.
        for part in ("body", "orelse", "handlers", "finalbody", "cases"):
            if isinstance(inner := getattr(node, part, ()), list):
                left += inner


def long_functions() -> dict[str, int]:
    """Lines of each function above the bound, by file and name."""
    found: dict[str, int] = {}
    every = [
        (f"{name}::{function.name}", function.lines)
        for folder in ("src", "tests", "benches")
        for name, text in sources(folder, ".rs").items()
        for function in rust.functions(text)
    ]
    every += [
        (f"{name}::{function}", lines)
        for folder in ("python", "tests", "benches", "docs")
        for name, text in sources(folder, ".py").items()
        for function, lines in python_functions(text)
    ]
    for name, lines in every:
        if lines > LONGEST:
            found[name] = max(lines, found.get(name, 0))
    assert len(every) > 1000
    return found


def test_functions_are_short() -> None:
    hold("long_functions", long_functions(), f"split them: each by its steps; at most {LONGEST} lines")


def python_graph() -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """The imports of the package, modules by their path below `aigw`."""
    graph = grimp.build_graph("aigw", include_external_packages=False, cache_dir=None)
    assert len(graph.modules) > 50

    def path(module: str) -> tuple[str, ...]:
        return tuple(module.split("."))[1:]

    return {
        path(name): {path(other) for other in graph.find_modules_directly_imported_by(name)} for name in graph.modules
    }


def test_no_module_or_folder_imports_itself_by_way_of_others() -> None:
    graphs = {name: rust.edges(modules) for name, modules in crates()} | {"python": python_graph()}
    found = {name: all_cycles(graph) for name, graph in graphs.items()}
    told = "\n".join(f"{name}: {cycle}" for name, named in found.items() for cycle in named)
    counts = {name: sum(named.values()) for name, named in found.items() if named}
    hold("cycles", counts, f"cut them: move the code that both need below both\n{told}")


def test_each_type_has_its_methods_in_one_file() -> None:
    found: dict[str, int] = {}
    for _, modules in crates():
        found |= rust.split_impls(modules)
    hold("split_impls", found, "one type, one file of inherent methods: smaller types, or functions")


def test_large_modules_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {name: len(text.splitlines()) for name, text in (sources("src", ".rs") | sources("python", ".py")).items()}
    large = {name: size for name, size in sizes.items() if size > LARGE}
    assert len(sizes) > 100
    with capsys.disabled():
        for name, size in large.items():
            print(f"\nwarning: {name} has {size} lines: does it have one idea?", end="")


BOUNDARY: Final = ("src/ext/", "src/mock/")
"""Crates that are modules of Python."""


def knows_python(text: str) -> bool:
    """Whether Rust code, not its comments, names pyo3."""
    return re.search(r"\bpyo3\b", rust.split(text)[0]) is not None


def test_only_the_boundary_knows_python() -> None:
    outside = {name: text for name, text in sources("src", ".rs").items() if not name.startswith(BOUNDARY)}
    assert [name for name, text in outside.items() if knows_python(text)] == []
    for manifest in (ROOT / "Cargo.toml", *(ROOT / "src").rglob("Cargo.toml")):
        if not str(manifest.relative_to(ROOT)).startswith(BOUNDARY):
            about = tomllib.loads(manifest.read_text())
            assert "pyo3" not in {**about.get("dependencies", {}), **about.get("dev-dependencies", {})}, manifest


def has_story(name: str, text: str) -> bool:
    """Whether a module of Rust or Python opens with a head comment. An empty file has nothing to tell."""
    if name.endswith(".rs"):
        return text.startswith("//! ")
    return not text or re.match(r'(?:#[^\n]*\n|\s)*[rR]?"""', text) is not None


def silent(folder: str, suffix: str) -> list[str]:
    """Files below a folder that do not open with their story."""
    return [name for name, text in sources(folder, suffix).items() if not has_story(name, text)]


def test_every_module_opens_with_its_story() -> None:
    folders = ("src", "python", "tests", "benches", "docs")
    assert [name for folder in folders for name in silent(folder, ".py")] == []
    assert [name for folder in ("src", "tests", "benches") for name in silent(folder, ".rs")] == []


def test_the_files_are_there() -> None:
    assert {Path(name).parts[0] for name in tracked()} >= {"src", "python", "tests", "docs", "benches", "deploy"}


def test_mutants_are_tried_by_every_suite_of_the_core() -> None:
    suites = {Path(test["path"]).stem for test in tomllib.loads((ROOT / "Cargo.toml").read_text())["test"]}
    tried = set(re.findall(r"^mod (\w+);", (ROOT / "tests/rust/mutants.rs").read_text(), re.MULTILINE))
    # `schedules` is empty without the model checker.
    assert tried == suites - {"mutants", "schedules"}
