"""Detects changes of a configuration: hashes of its bytes and of the current values of its references.

In: unparsed bytes. Out: hashes, and the files that references name. It collects references anywhere in the text, comments included:
one too many costs a needless load, one too few would miss a change.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aigw.config.interpolate import Resolver, Unresolved

_REFERENCE: Final = re.compile(rb"\$\{[^{}\n]*\}")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`hash` covers the content alone; `whole` also the name and the values of all references. `files`: all files that references name,
    existing or not."""

    hash: str
    whole: str
    files: tuple[Path, ...]


def fingerprint(name: str, data: bytes, environment: Mapping[str, str], folder: Path) -> Fingerprint:
    """Never raises: an unresolved reference contributes its error message."""
    content = hashlib.sha256(data)
    whole = hashlib.sha256(name.encode(errors="surrogateescape") + b"\0" + content.digest())
    resolver = Resolver(environment, folder)
    for reference in dict.fromkeys(_REFERENCE.findall(data)):
        try:
            value, _, _ = resolver.resolve(reference.decode(errors="replace"))
        except Unresolved as error:
            value = f"\0{error}"
        whole.update(b"\0" + value.encode(errors="surrogateescape"))
    return Fingerprint(content.hexdigest(), whole.hexdigest(), tuple(dict.fromkeys(resolver.files)))
