"""The copies of models' tokenizer files in the data folder: `DATA/tokenizers`, each named by the SHA-256 of its content.

In: the checked contents of a configuration, before it is stored. Out: files on disk, which workers load. The user's own file may change or
go: the copy serves until no configuration in force, nor the one before, names it.
"""

import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import orjson

from aigw.config.tokenizers import Copies, TokenizerContent
from aigw.errors import StoreError

_DRAFT: Final = "draft"
_FOLDER: Final = "tokenizers"


class TokenizerCopies:
    """The folder of one gateway. Only the control process writes it."""

    def __init__(self, data: Path) -> None:
        self._folder: Final = data / _FOLDER

    def keep(self, contents: Mapping[str, TokenizerContent]) -> None:
        """Write the copies that are missing; they are on disk when this returns. Raises StoreError."""
        new = {one.sha256: one.content for one in contents.values() if not (self._folder / one.sha256).exists()}
        if not new:
            return
        try:
            self._folder.mkdir(0o700, exist_ok=True)
            for name, content in new.items():
                self._write(name, content)
            self._sync()
        except OSError as error:
            raise StoreError(f"{self._folder}: a tokenizer cannot be written: {error.strerror or error}") from None

    def missing(self, names: Iterable[str]) -> bool:
        """Whether one of the copies is gone, as in a data folder that was restored without them."""
        return any(not (self._folder / name).exists() for name in names)

    def sweep(self, in_use: Iterable[str]) -> None:
        """Remove all other copies. A removal that fails is tried again after the next configuration."""
        kept = set(in_use)
        with suppress(OSError):
            for file in self._folder.iterdir():
                if file.name not in kept:
                    file.unlink(missing_ok=True)

    def text(self, name: str) -> str:
        """The content of a copy. Raises OSError."""
        return (self._folder / name).read_text(encoding="utf-8")

    def _write(self, name: str, content: bytes) -> None:
        draft = self._folder / _DRAFT
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / name)

    def _sync(self) -> None:
        """Make the names durable."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def copies_in_force(store: Path) -> Copies:
    """The copies of the models in a store that is not open. Makes no store and migrates none."""
    if not store.exists():
        return {}
    found: dict[tuple[str, str], Path] = {}
    try:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
            for name, text in connection.execute("SELECT name, body FROM models"):
                body = orjson.loads(text)
                copy, tokenizer = body.get("tokenizer_file"), body["spec"].get("tokenizer")
                if copy is not None and isinstance(tokenizer, dict):
                    found[name, tokenizer["file"]] = store.parent / _FOLDER / copy["sha256"]
    except sqlite3.Error:
        return {}  # opening the store reports the fault
    return found
