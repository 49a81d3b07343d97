"""References in text: `${VAR}`, `${VAR:-default}`, `${file:PATH}`; `$${` is a plain `${`.

In: a text, the environment, the folder of the file. Out: the text with values in place of references.
Raises `Unresolved` with the reason. The default applies if the variable is unset or empty. Values are not interpolated again.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MAX_FILE: Final = 65536
RESTART: Final = (
    "a running gateway sees the variables of its start alone, so restart it after that, or write ${file:PATH}"
)
MAX_PEM: Final = 1 << 20
"""Bytes of one certificate file: the bundles of operating systems have a quarter of it."""
_MARK: Final = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")
_NAME: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-)?", re.ASCII)


class Unresolved(Exception):
    """A reference without a value. The message names the reference and the reason."""


@dataclass(slots=True)
class Resolver:
    """`files` collects all referenced files, existing or not, for the watch."""

    environment: Mapping[str, str]
    folder: Path
    files: list[Path] = field(default_factory=list)

    def resolve(self, text: str) -> tuple[str, list[tuple[str, str]], bool]:
        """(value, [(resolved value, reference)], whether the text is one reference and nothing else). Raises Unresolved."""
        if text[:2] == "${" and text.find("}") == len(text) - 1 and "{" not in text[2:]:  # the common case
            value = self._value(text[2:-1], closed=True)
            return value, [(value, f"${{{text[2:-1].partition(':-')[0]}}}")], True
        used: list[tuple[str, str]] = []

        def one(match: "re.Match[str]") -> str:
            if match.group(0) == "$${":
                return "${"
            value = self._value(match.group(1), closed=bool(match.group(2)))
            used.append((value, f"${{{match.group(1).partition(':-')[0]}}}"))
            return value

        whole = _MARK.fullmatch(text)
        return _MARK.sub(one, text), used, whole is not None and whole.group(0) != "$${"

    def _value(self, inside: str, *, closed: bool) -> str:
        if not closed:
            raise Unresolved("a reference is not closed: expected '}' (a plain '${' is written '$${')")
        if inside.startswith("file:"):
            return self._file(inside.removeprefix("file:"))
        name = _NAME.match(inside)
        if name is None or (name.group(2) is None and name.end() != len(inside)):
            raise Unresolved("expected ${NAME}, ${NAME:-default} or ${file:PATH} (a plain '${' is written '$${')")
        value = self.environment.get(name.group(1), "")
        if name.group(2) is not None:
            value = value or inside[name.end() :]
        elif name.group(1) not in self.environment:
            raise Unresolved(
                f"the variable {name.group(1)} is not set: set it, or write ${{{name.group(1)}:-default}}; {RESTART}"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unresolved(f"the variable {name.group(1)} is not valid UTF-8") from None
        return value

    def _file(self, name: str) -> str:
        path = self.folder / name
        self.files.append(path)
        try:
            data = read_regular(path, MAX_FILE)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise Unresolved(f"the file '{name}' cannot be read: {reason}") from None
        try:
            return data.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Unresolved(f"the file '{name}' is not valid UTF-8") from None


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises OSError, or ValueError for pipes, devices and larger files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if about.st_size > most:
            raise ValueError(f"larger than {most} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise ValueError(f"larger than {most} bytes")
    return data
