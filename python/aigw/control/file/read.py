"""The text of a configuration with its fingerprint, and the check of the file at start, before the store is opened.

In: a path. Out: the text, and the checked file unless the store already holds this content; or the errors of the file. A start
waits for a process that is writing the file.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aigw.config import (
    MAX_BYTES,
    ConfigErrors,
    File,
    Fingerprint,
    InTheMaking,
    being_written,
    fingerprint,
    mark_in,
    read_bytes,
    read_text,
)
from aigw.control.file.copies import copies_in_force
from aigw.control.file.stamp import peek

WAIT_FOR_WRITER_S: Final = 10.0
"""Seconds that a start waits for a process that is writing the file."""
NEW_MARK: Final = "a new one"
"""In place of the mark of a secret: this start makes the data folder's."""
_LOOK_S: Final = 0.05

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class FileText:
    """An unchecked configuration. References to files are relative to `folder`."""

    name: str
    data: bytes
    folder: Path
    mark: Fingerprint

    @classmethod
    def of(cls, name: str, data: bytes, folder: Path, environment: Mapping[str, str]) -> "FileText":
        return cls(name, data, folder, fingerprint(name, data, environment, folder))


@dataclass(frozen=True, slots=True)
class AtStart:
    """The file as `read_at_start` found it. `file` is None if the store already has its content."""

    text: FileText | None = None
    file: File | None = None
    errors: ConfigErrors | None = None


def read_at_start(
    path: Path | None, store: Path, *, must: bool, progress: Progress | None = None, most: int = MAX_BYTES
) -> AtStart:
    """Read and check the file before the store is opened. `must`: a gateway starts, so errors raise
    ConfigErrors. Otherwise a control process restarts: a posted text may be in force, and a file unchanged since then is not read."""
    if path is None:
        return AtStart()
    try:
        _await_writers(path, WAIT_FOR_WRITER_S if must else 0.0)
        text = text_of(path, os.environ, most)
        stamp = peek(store)
        if stamp is not None and text.mark.whole in ((stamp.whole,) if must else (stamp.whole, stamp.file)):
            return AtStart(text)
        mark, copies = mark_in(store.parent) or NEW_MARK, copies_in_force(store)
        return AtStart(text, read_text(text.name, text.data, None, text.folder, progress, mark, copies, most=most))
    except ConfigErrors as error:
        if must:
            raise
        return AtStart(errors=error)


def _await_writers(path: Path, patience: float) -> None:
    """Wait up to `patience` seconds until no process writes the file. Raises InTheMaking."""
    end = time.monotonic() + patience
    while being_written([path]):
        if time.monotonic() >= end:
            raise InTheMaking(str(path))
        time.sleep(_LOOK_S)


def text_of(path: Path, environment: Mapping[str, str], most: int = MAX_BYTES) -> FileText:
    return FileText.of(str(path), read_bytes(str(path), most), path.parent, environment)
