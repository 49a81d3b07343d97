"""The text of a configuration for another folder: relative paths in it become absolute.

In: the text, and the folder of its file. Out: the text that reads the same files from any folder. These values are paths:
`${file:PATH}`, the fields of an upstream in `PEM_FIELDS`, and the file of a model's tokenizer. All else stays as it is, comments
included. Values of several lines stay, too.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from aigw._native import load_yaml
from aigw.config.finding import Path
from aigw.config.interpolate import Resolver, Unresolved
from aigw.entities.upstream import PEM_FIELDS

_FILE: Final = re.compile(r"\$\$\{|\$\{file:([^{}]*)\}")


def moved(text: str, folder: FilePath, environment: Mapping[str, str] | None = None) -> str:
    """The text with absolute paths. A text with an error of syntax stays unchanged: its reader reports the error."""
    folder = folder.resolve()
    resolver = Resolver(os.environ if environment is None else environment, folder)
    try:
        document = load_yaml(text.encode())
    except ValueError:
        return text
    edits: dict[tuple[int, int], tuple[str, str]] = {}
    named = set(_file_paths(document.value()))
    for path in [*document.containing("${file:"), *named]:
        old = document.text(path)
        new = _FILE.sub(lambda found: _absolute(found, folder), old)
        if path in named and _is_relative(new, resolver):
            new = f"{folder}/{new}"
        if new != old:
            line, column, _ = document.mark(path)
            edits[line, column] = (document.source_text(path), json.dumps(new, ensure_ascii=False))
    return _replaced(text, edits)


def _absolute(found: "re.Match[str]", folder: FilePath) -> str:
    return found[0] if found[1] is None else f"${{file:{folder / found[1]}}}"


def _is_relative(name: str, resolver: Resolver) -> bool:
    """Whether a path is relative once its references are resolved. A reference without a value counts as absolute."""
    try:
        return not FilePath(resolver.resolve(name)[0]).is_absolute()
    except Unresolved:
        return False


def _file_paths(root: Any) -> Iterator[Path]:
    """The paths of all texts that name a file. The document is unchecked: its parts may have any type."""
    models = root.get("models") if isinstance(root, dict) else None
    for name, model in models.items() if isinstance(models, dict) else ():
        tokenizer = model.get("tokenizer") if isinstance(model, dict) else None
        if isinstance(tokenizer, dict) and isinstance(tokenizer.get("file"), str):
            yield "models", name, "tokenizer", "file"
        upstreams = model.get("upstreams") if isinstance(model, dict) else None
        for index, upstream in enumerate(upstreams if isinstance(upstreams, list) else ()):
            for field in PEM_FIELDS:
                if isinstance(upstream, dict) and isinstance(upstream.get(field), str):
                    yield "models", name, "upstreams", index, field


def _replaced(text: str, edits: dict[tuple[int, int], tuple[str, str]]) -> str:
    """The text with other values at positions (line, column), which count from 1. From the end, so that earlier positions stay true."""
    lines = text.split("\n")
    for (line, column), (old, new) in sorted(edits.items(), reverse=True):
        before, after = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
        if after.startswith(old):
            lines[line - 1] = before + new + after.removeprefix(old)
    return "\n".join(lines)
