"""The recipe for limit kinds (docs/contributing/add-a-limit.md) as a test: a kind is known in the files of its recipe only.

In: the registry in `src/limits/mod.rs`, and the sources without comments and tests. A kind is found by its type's name, its
module's path, and its name as a string. An edit elsewhere means that the interface in `src/limits/mod.rs` lacks something.
"""

import ast
import re
from typing import Final

import pytest

from tests.shape.files import ROOT, sources

REGISTRY: Final = "src/limits/mod.rs"
# Where configuration chooses a kind: the tier's schema, and Kong's rate-limiting, which has windows only.
SCHEMAS: Final = {"python/aigw/entities/tier.py", "python/aigw/plugins/rate_limiting/compile.py"}
# Parts of a kind that have a file of their own.
PARTS: Final = {
    kind: {"src/limits/gcra.rs"} for kind in ("bucket", "tokens_bucket", "input_tokens_bucket", "output_tokens_bucket")
}
METERS: Final = {"tokens", "input_tokens", "output_tokens", "spend", "concurrency"}
RECIPE: Final = "docs/contributing/add-a-limit.md"


def kinds() -> dict[str, tuple[str, str]]:
    """Name of each registered kind -> its type and its file. A kind for several meters has their names."""
    registry = (ROOT / REGISTRY).read_text()
    (line,) = re.findall(r"^limits! \{(.*?)\}$", registry, flags=re.MULTILINE | re.DOTALL)
    found = {}
    for kind in line.replace(",", " ").split():
        (module,) = re.findall(rf"^use (\w+)::(?:\{{[^}}]*\b)?{kind}\b[^;]*;$", registry, flags=re.MULTILINE)
        file = f"src/limits/{module}.rs"
        text = (ROOT / file).read_text()
        names = re.findall(r'const NAME: &\'static str = "(\w+)";', text)
        meters = re.findall(rf"type {kind} = (?:Budget|Bucket)<(\w+)>;", text)
        if meters:
            own = re.findall(rf'impl Counted for {meters[0]} {{\s+const KIND: &\'static str = "(\w+)";', text)
            names = re.findall(rf'\b{meters[0]} = "(\w+)"', text) or own or names
        found[names[0]] = (kind, file)
    return found


def product(text: str) -> str:
    """Rust without comments and without the tests at the file's end."""
    return re.sub(r"//[^\n]*", "", text.partition("#[cfg(test)]")[0])


def strings(text: str) -> set[str]:
    """Every string of a Python file that is no docstring or part of one."""
    return {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("name", kinds())
def test_kind_is_known_in_the_files_of_its_recipe_only(name: str) -> None:
    kind, file = kinds()[name]
    own = {file, REGISTRY} | PARTS.get(name, set())
    # The name of a budget is its meter's name, too, and a field's: readers of these words are everywhere.
    quoted = "" if name in METERS else f'|"{name}"'
    word = re.compile(rf"\b{kind}\b|\blimits::{file.split('/')[-1][:-3]}\b{quoted}")
    rust = {path for path, text in sources("src", ".rs").items() if word.search(product(text))}
    assert rust - own == set()
    if name in METERS:
        return
    python = {path for path, text in sources("python/aigw", ".py").items() if name in strings(text)}
    # `tiers` of the command line skips the field `window`, which all limits share.
    assert python - SCHEMAS - {"python/aigw/cli/verbs/tiers.py"} == set()


def test_registry_names_a_kind_once() -> None:
    registry = product((ROOT / REGISTRY).read_text())
    for kind, file in kinds().values():
        module = file.split("/")[-1][:-3]
        assert registry.count(f"pub mod {module};") == 1
        uses, (line,) = (
            re.findall(r"^use .*;$", registry, flags=re.MULTILINE),
            re.findall(r"limits! \{([^}]*)\}", registry),
        )
        assert sum(bool(re.search(rf"\b{kind}\b", use)) for use in uses) == len(re.findall(rf"\b{kind}\b", line)) == 1


def test_recipe_names_files_that_exist() -> None:
    text = (ROOT / RECIPE).read_text()
    named = set(re.findall(r"`((?:src|python|tests|docs)/[\w/.-]+)`", text))
    assert len(named) >= 5
    assert [path for path in named if not (ROOT / path).exists()] == []
