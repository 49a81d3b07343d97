"""Counts nominal "what ..." clauses in the prose of the repository: the measure that docs/contributing/style.md explains.

In: names of files. Out: for each, its words of prose and the clauses found. Prose is comments and docstrings of Rust and Python, and
Markdown without its code. Run it by hand: `python -m tests.support.prose [FILE OR FOLDER ...]`.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
SUFFIXES: Final = (".md", ".py", ".pyi", ".rs")
VERBS: Final = "is|are|was|were|be|been|has|have|had|do|does|did|must|may|can|cannot|could|will|would|should|comes|came|goes|holds|says|stands"
CLAUSE: Final = re.compile(rf"\bwhat\b(?!\s+to\b)(?:\s+[\w'`]+){{0,3}}?\s+(?:{VERBS})\b", re.IGNORECASE)


class Prose(NamedTuple):
    """The prose of one file."""

    words: int
    clauses: list[str]
    """Each clause with a few words after it."""


def _markdown(text: str) -> str:
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`code`", text)


def _rust(text: str) -> str:
    return "\n".join(re.findall(r"//[/!]?(.*)", text))


def _python(text: str) -> str:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    parts = [token.string.lstrip("#") for token in tokens if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(text)):
        # A string that is a statement is a docstring, of a field, too.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            parts.append(node.value.value)
    return "\n".join(parts)


def prose(file: Path) -> Prose:
    """The prose of a file with one of `SUFFIXES`."""
    read = {".md": _markdown, ".rs": _rust}.get(file.suffix, _python)
    text = " ".join(read(file.read_text(encoding="utf-8")).split())
    clauses = [text[match.start() : match.end() + 30] for match in CLAUSE.finditer(text)]
    return Prose(len(re.findall(r"[A-Za-z][\w'-]*", text)), clauses)


def files(wanted: Iterable[str] = ()) -> Iterator[Path]:
    """Files of the repository with prose, all or those at and below the wanted names."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *wanted]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if name.endswith(SUFFIXES) and (ROOT / name).is_file():
            yield ROOT / name


def main(wanted: list[str]) -> None:
    """Print the clauses of each file and the sum."""
    words = clauses = 0
    for file in files(wanted):
        found = prose(file)
        words, clauses = words + found.words, clauses + len(found.clauses)
        for clause in found.clauses:
            print(f"{file.relative_to(ROOT)}: {clause}")
    print(f"{clauses} in {words} words: {1000 * clauses / max(words, 1):.2f} per 1,000")


if __name__ == "__main__":
    main(sys.argv[1:])
