"""Reads Rust as far as the fences need it: code without comments and strings, functions, impls, modules, imports.

In: the text of files. Out: names, lines and edges. It is a scanner with brace matching, not a parser: it knows strings,
characters, lifetimes, nested comments and `#[cfg(test)]`; names that macros make are invisible to it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TOKENS: Final = re.compile(
    r"""(?P<line>//[^\n]*)
      | (?P<block>/\*)
      | (?P<raw>\b(?:b|c)?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes))
      | (?P<string>\b[bc]?"(?:[^"\\]|\\(?:.|\n))*"|"(?:[^"\\]|\\(?:.|\n))*")
      | (?P<char>b?'(?:[^'\\\n]|\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.))')
    """,
    re.VERBOSE,
)
_IDENT: Final = r"(?:r\#)?[A-Za-z_]\w*"
_VISIBLE: Final = r"pub(?:\([^)]*\))?\s+"
_MOD: Final = re.compile(rf'(#\[path\s*=\s*"\s*"\]\s*)?(?:{_VISIBLE})?\bmod\s+({_IDENT})\s*;')


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def split(text: str) -> tuple[str, str]:
    """The code with comments and the insides of strings blanked, and the comments with all else blanked. Lines stay."""
    code: list[str] = []
    comments: list[str] = []
    at = 0
    while found := _TOKENS.search(text, at):
        start, end = found.span()
        if found["block"] is not None:
            end = _end_of_block(text, start)
        taken = text[start:end]
        is_comment = found["line"] is not None or found["block"] is not None
        code += [text[at:start], _blank(taken) if is_comment else f'"{_blank(taken[1:-1])}"']
        comments += [_blank(text[at:start]), taken if is_comment else _blank(taken)]
        at = end
    return "".join((*code, text[at:])), "".join((*comments, _blank(text[at:])))


def _end_of_block(text: str, start: int) -> int:
    depth = 0
    for found in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(text)


def closing(code: str, start: int) -> int:
    """The index of the brace, bracket or parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.compile(r"[{}()\[\]]").finditer(code, start):
        depth += 1 if found[0] in "{([" else -1
        if depth == 0:
            return found.start()
    return len(code) - 1


def without_tests(code: str) -> str:
    """Code with every item under `#[cfg(test)]` blanked."""
    while found := re.search(r"#\[cfg\(test\)\]", code):
        end = re.compile(r"[{;]").search(code, found.end())
        stop = len(code) if end is None else closing(code, end.start()) + 1 if end[0] == "{" else end.end()
        code = code[: found.start()] + _blank(code[found.start() : stop]) + code[stop:]
    return code


@dataclass(frozen=True)
class Function:
    """A function with a body. `lines` are those from `fn` to the closing brace, both included."""

    name: str
    line: int
    lines: int


def functions(text: str) -> list[Function]:
    """Every function with a body, tests included."""
    code, _ = split(text)
    found = []
    for head in re.finditer(rf"\bfn\s+({_IDENT})", code):
        at = head.end()
        while at < len(code) and code[at] not in "{;":
            at = closing(code, at) + 1 if code[at] in "([" else at + 1
        if at < len(code) and code[at] == "{":
            first, last = code.count("\n", 0, head.start()), code.count("\n", 0, closing(code, at))
            found.append(Function(head[1], first + 1, last - first + 1))
    return found


def inherent_impls(text: str) -> list[str]:
    """The types, as they are written and without arguments, that have an inherent impl outside tests."""
    code = without_tests(split(text)[0])
    found = []
    for head in re.finditer(r"(?:^|(?<=[{};\]]))(?:\s*unsafe)?\s*\bimpl\b", code):
        at = head.end()
        words, depth = [], 0
        while at < len(code) and not (depth == 0 and code[at] in "{;"):
            if code[at] == ">" and code[at - 1] != "-":
                depth -= 1
            elif code[at] == "<":
                depth += 1
            elif depth == 0:
                words.append(code[at])
            at += 1
        subject = "".join(words).split(" where ")[0].split("\nwhere")[0].strip()
        if subject and not re.search(r"\bfor\b", subject) and re.fullmatch(rf"(?:{_IDENT}\s*::\s*)*{_IDENT}", subject):
            found.append(re.sub(r"\s", "", subject))
    return found


@dataclass
class Module:
    """One file of a crate: its path from the root, its code without tests, its children, and the names it imports."""

    path: tuple[str, ...]
    file: str
    code: str
    children: set[str] = field(default_factory=set)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of `use`, private or public, by the path they stand for; `*n` for the n-th glob."""
    private: list[tuple[str, ...]] = field(default_factory=list)
    """Paths that the file uses: of imports that are not re-exports, and of expressions."""

    @property
    def defined(self) -> set[str]:
        pattern = rf"\b(?:struct|enum|union|trait|type|fn|const|static|macro_rules!)\s+(?:mut\s+)?({_IDENT})"
        return set(re.findall(pattern, self.code))


Crate = dict[tuple[str, ...], Module]


def crate(root: Path, base: Path) -> Crate:
    """Every module of the crate whose root file is `root`, by path; file names are relative to `base`."""
    modules: Crate = {}

    def read(file: Path, path: tuple[str, ...], folder: Path) -> None:
        text = file.read_text(encoding="utf-8")
        module = Module(path, str(file.relative_to(base)), without_tests(split(text)[0]))
        modules[path] = module
        for found in _MOD.finditer(module.code):
            name = found[2].removeprefix("r#")
            module.children.add(name)
            if found[1]:
                named = re.search(r'#\[path\s*=\s*"([^"]+)"', text[found.start() : found.end()])
                child = file.parent / str(named and named[1])
            else:
                child = folder / f"{name}.rs"
            if child.exists():
                read(child, (*path, name), child.parent if child.name == "mod.rs" else child.with_suffix(""))
            else:
                read(folder / name / "mod.rs", (*path, name), folder / name)
        _imports(module)

    read(root, (), root.parent)
    return modules


def _trees(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, name) of each leaf of a use tree."""
    text = text.strip()
    brace = text.find("{")
    if brace == -1:
        path, _, alias = text.partition(" as ")
        parts = tuple(part.strip().removeprefix("r#") for part in path.split("::") if part.strip())
        if parts and parts[-1] == "self":
            parts = parts[:-1]
        if parts:
            yield parts, alias.strip() or parts[-1]
        return
    head = tuple(part.strip().removeprefix("r#") for part in text[:brace].split("::") if part.strip())
    inner, depth, piece = text[brace + 1 : closing(text, brace)], 0, ""
    for letter in inner + ",":
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            if piece.strip() == "self":
                yield head, head[-1]
            else:
                yield from ((head + path, name) for path, name in _trees(piece))
            piece = ""
        else:
            piece += letter


def _imports(module: Module) -> None:
    """Fills `names` and `private` of a module."""
    code = module.code
    inner = [
        (found.end() - 1, closing(code, found.end() - 1)) for found in re.finditer(rf"\bmod\s+{_IDENT}\s*{{", code)
    ]

    def absolute(path: tuple[str, ...], at: int) -> tuple[str, ...] | None:
        """From the crate's root; None for other crates."""
        here: tuple[str, ...] = module.path + ("",) * sum(start < at < end for start, end in inner)
        if path[0] == "crate":
            return path[1:]
        if path[0] not in ("self", "super"):
            return module.path + path if path[0] in module.children else None
        for part in path:
            if part == "super":
                here = here[:-1]
            elif part != "self":
                break
        rest = tuple(part for part in path if part not in ("self", "super"))
        return tuple(part for part in here if part) + rest

    for found in re.finditer(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);", code):
        for path, name in _trees(found[2]):
            whole = absolute(path, found.start())
            if whole is None:
                continue
            module.names[f"*{len(module.names)}" if name == "*" else name] = whole[:-1] if name == "*" else whole
            if not found[1] or module.path == ():
                module.private.append(whole[:-1] if name == "*" else whole)
    rest = re.sub(r"\buse\s+[^;]+;", lambda found: _blank(found[0]), code)
    children = "|".join(map(re.escape, module.children)) or "(?!)"
    for found in re.finditer(rf"(?<![\w:])(?:crate|self|super|(?:r\#)?(?:{children}))(?:\s*::\s*{_IDENT})+", rest):
        path = tuple(part.strip().removeprefix("r#") for part in found[0].split("::"))
        if (whole := absolute(path, found.start())) is not None:
            module.private.append(whole)


def home(
    modules: Crate, path: tuple[str, ...], seen: frozenset[tuple[str, ...]] = frozenset()
) -> tuple[str, ...] | None:
    """The module that defines the item at `path`, through re-exports; None when the crate has none."""
    if path in modules:
        return path
    if path in seen:
        return None
    for cut in range(len(path) - 1, -1, -1):
        module = modules.get(path[:cut])
        if module is None:
            continue
        name = path[cut]
        if name in module.names and name not in module.defined:
            return home(modules, module.names[name] + path[cut + 1 :], seen | {path})
        if name not in module.defined:
            for alias, target in module.names.items():
                if alias.startswith("*") and target in modules and name in modules[target].defined:
                    return home(modules, (*target, *path[cut:]), seen | {path})
        return path[:cut]
    return None


def edges(modules: Crate) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """For each module the modules that define what it uses. Re-exports make no edge."""
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path, module in modules.items():
        targets = {home(modules, used) for used in module.private}
        found[path] = {target for target in targets if target is not None and target != path}
    return found


def _owner(modules: Crate, module: Module, name: str, types: dict[str, list[Module]]) -> str:
    """The file that defines the type an inherent impl names. `types`: the modules that define a type of a name."""
    defining = types.get(name.rpartition("::")[2], [])
    if module in defining:
        return module.file
    parts = tuple(part.removeprefix("r#") for part in name.split("::"))
    where = home(modules, module.path + parts) if parts[0] not in ("crate", "self", "super") else None
    if where is not None and modules[where] in defining:
        return modules[where].file
    return defining[0].file if len(defining) == 1 else module.file


def split_impls(modules: Crate) -> dict[str, int]:
    """How many files have an inherent impl of a type, by the type's file and name, where that is more than one."""
    types: dict[str, list[Module]] = {}
    for module in modules.values():
        for name in set(re.findall(rf"\b(?:struct|enum|union)\s+({_IDENT})", module.code)):
            types.setdefault(name, []).append(module)
    found: dict[str, set[str]] = {}
    for module in modules.values():
        for name in inherent_impls(module.code):
            subject = f"{_owner(modules, module, name, types)}::{name.rpartition('::')[2]}"
            found.setdefault(subject, set()).add(module.file)
    return {name: len(files) for name, files in found.items() if len(files) > 1}
