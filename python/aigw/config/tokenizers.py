"""The check of a model's tokenizer.json, when the configuration is read.

In: a checked spec and its source. Out: the content with its hash, once it is known to count texts; a finding for a file that is missing or
wrong. The control process reads the file once for all workers, which load a copy of these bytes. Where a gateway starts and the file
is gone, the copy of its content in force serves, with a warning.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from aigw._native import check_tokenizer
from aigw.config.interpolate import read_regular
from aigw.config.source import Source
from aigw.entities.model import ModelSpec

MAX_TOKENIZER: Final = 64 << 20
"""Bytes. The largest known, of 262,144 tokens in many scripts, has 33 MB."""
_KEPT: Final = 16
"""Results of checks. A check reads the whole vocabulary, which takes seconds, and each reload would repeat it."""
Copies = Mapping[tuple[str, str], Path]
"""(model, path in the file) -> the copy of the content in force."""
_results: dict[str, int | str] = {}


class TokenizerContent(NamedTuple):
    """A tokenizer.json that can count."""

    sha256: str
    per_byte: int
    """Most tokens that one byte of text can become."""
    content: bytes


def check_file(source: Source, model: str, spec: ModelSpec, copies: Copies) -> TokenizerContent | None:
    """The tokenizer.json of a model; None without one, or with a finding. `copies` serve in place of missing files."""
    name, path = spec.tokenizer_path, ("models", model, "tokenizer", "file")
    if name is None:
        return None
    file = source.resolver.folder / name
    source.resolver.files.append(file)
    try:
        content = _content(source, path, file, copies.get((model, name)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        source.add(path, f"the file '{name}' cannot be read: {reason}")
        return None
    digest = hashlib.sha256(content).hexdigest()
    result = _checked(digest, content)
    if isinstance(result, str):
        source.add(
            path, f"the file '{name}' {result}; name the tokenizer.json of the model's repository, or write bytes"
        )
        return None
    return TokenizerContent(digest, result, content)


def _content(source: Source, path: tuple[str, ...], file: Path, copy: Path | None) -> bytes:
    """The content of the file, or of its copy with a warning if the file is gone. Raises OSError, ValueError."""
    try:
        return read_regular(file, MAX_TOKENIZER)
    except FileNotFoundError:
        if copy is None:
            raise
        content = read_regular(copy, MAX_TOKENIZER)
    source.warn(
        path, f"the file '{file}' is gone: its copy in the data folder serves; put the file back, a reload needs it"
    )
    return content


def _checked(digest: str, content: bytes) -> int | str:
    """The most tokens of one byte, or the reason why the content cannot count."""
    found = _results.get(digest)
    if found is None:
        try:
            found = check_tokenizer(content)
        except ValueError as error:
            found = str(error)
        if len(_results) >= _KEPT:
            _results.clear()
        _results[digest] = found
    return found


__all__ = ["MAX_TOKENIZER", "Copies", "TokenizerContent", "check_file"]
