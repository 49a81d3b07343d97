"""Detects changes of a configuration: hashes of its bytes, of the current values of its references, and of the files that it names.

In: unparsed bytes. Out: hashes, and the files that it names. It collects references, certificates and tokenizers anywhere in the text, comments
included:
one too many costs a needless load, one too few would miss a change.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aigw.config.interpolate import MAX_PEM, Resolver, Unresolved, read_regular
from aigw.config.tokenizers import MAX_TOKENIZER

_REFERENCE: Final = re.compile(rb"\$\{[^{}\n]*\}")
_VARIABLE: Final = re.compile(rb"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-[^{}]*)?\}")
_PATH: Final = rb"""((?:[$]\{[^{}\n]*\}|[^"'\n,}#])+)"""
_PEM: Final = re.compile(rb"""tls_(?:ca|cert|key)["']?\s*:\s*["']?""" + _PATH)

_TOKENIZER: Final = re.compile(rb"""(?<![$]\{)\bfile["']?\s*:(?!\s*[0-9]+\s*[,}#\n])\s*["']?""" + _PATH)
"""`tokenizer: {file: PATH}`. A number is the bound of a file part."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`hash` covers the content alone; `whole` also the name and the values of all references. `files`: all files that references name,
    existing or not."""

    hash: str
    whole: str
    files: tuple[Path, ...]
    variables: tuple[str, ...] = ()
    """The variables that references name. A running gateway has the values of its start."""


def fingerprint(name: str, data: bytes, environment: Mapping[str, str], folder: Path) -> Fingerprint:
    """Never raises: an unresolved reference contributes its error message."""
    content = hashlib.sha256(data)
    whole = hashlib.sha256(name.encode(errors="surrogateescape") + b"\0" + content.digest())
    resolver = Resolver(environment, folder)
    variables: dict[str, None] = {}
    for reference in dict.fromkeys(_REFERENCE.findall(data) if b"${" in data else ()):
        if (variable := _VARIABLE.match(reference)) is not None:
            variables[variable[1].decode()] = None
        try:
            value, _, _ = resolver.resolve(reference.decode(errors="replace"))
        except Unresolved as error:
            value = f"\0{error}"
        whole.update(b"\0" + value.encode(errors="surrogateescape"))
    for name_of_pem in dict.fromkeys(found.strip() for found in (_PEM.findall(data) if b"tls_" in data else ())):
        whole.update(b"\0" + _content(resolver, name_of_pem, MAX_PEM))
    for tokenizer in dict.fromkeys(found.strip() for found in (_TOKENIZER.findall(data) if b"file" in data else ())):
        whole.update(b"\0" + hashlib.sha256(_content(resolver, tokenizer, MAX_TOKENIZER)).digest())
    return Fingerprint(content.hexdigest(), whole.hexdigest(), tuple(dict.fromkeys(resolver.files)), tuple(variables))


def _content(resolver: Resolver, name: bytes, most: int) -> bytes:
    """The content of a file of at most `most` bytes, or the reason why it has none."""
    try:
        file = resolver.folder / resolver.resolve(name.decode(errors="replace"))[0]
        resolver.files.append(file)
        return read_regular(file, most)
    except (Unresolved, OSError, ValueError) as error:
        return str(error).encode(errors="surrogateescape")
