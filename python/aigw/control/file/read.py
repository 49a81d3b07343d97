"""A configuration as it was read, and the first look at the file, before anything else is touched.

In: a path. Out: the text with what decides whether it changed, and what it says unless the store holds that already; or what is
wrong with it. A file that somebody is writing is waited for.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aigw.config import (
    ConfigErrors,
    File,
    Fingerprint,
    InTheMaking,
    being_written,
    fingerprint,
    read_bytes,
    read_text,
)
from aigw.control.file.stamp import peek

WRITTEN_S: Final = 10.0
"""How long a start waits for whoever is writing the file."""
_LOOK_S: Final = 0.05

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Text:
    """A configuration that nobody has checked yet. References to files are looked for below `folder`."""

    name: str
    data: bytes
    folder: Path
    mark: Fingerprint

    @classmethod
    def of(cls, name: str, data: bytes, folder: Path, environment: Mapping[str, str]) -> "Text":
        return cls(name, data, folder, fingerprint(name, data, environment, folder))


@dataclass(frozen=True, slots=True)
class First:
    """What the file said before the store was opened: `file` is None when the store holds it already."""

    text: Text | None = None
    file: File | None = None
    wrong: ConfigErrors | None = None


def first_look(path: Path | None, store: Path, *, must: bool, progress: Progress | None = None) -> First:
    """Read and check the file before anything else is touched. Raises ConfigErrors when it `must` be usable: then the gateway
    starts, and the file rules. Otherwise a posted text may be in force, and the file stand as it did then."""
    if path is None:
        return First()
    try:
        _await_writers(path, WRITTEN_S if must else 0.0)
        text = text_of(path, os.environ)
        stamp = peek(store)
        if stamp is not None and text.mark.whole in ((stamp.whole,) if must else (stamp.whole, stamp.file)):
            return First(text)
        return First(text, read_text(text.name, text.data, None, text.folder, progress))
    except ConfigErrors as error:
        if must:
            raise
        return First(wrong=error)


def _await_writers(path: Path, patience: float) -> None:
    """Wait until nobody writes the file. Raises InTheMaking when that takes longer."""
    end = time.monotonic() + patience
    while being_written([path]):
        if time.monotonic() >= end:
            raise InTheMaking(str(path))
        time.sleep(_LOOK_S)


def text_of(path: Path, environment: Mapping[str, str]) -> Text:
    return Text.of(str(path), read_bytes(str(path)), path.parent, environment)
