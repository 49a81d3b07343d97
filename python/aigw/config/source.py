"""The open file: its values with references resolved, and its findings with their positions.

In: the bytes. Out: `root`, and the findings collected by `add`. Source lines and messages of findings hold no secret: the value of a
reference appears as the reference. Invariant: for any bytes, only ConfigErrors is raised.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from aigw._native import FileConsumers, YamlDocument, load_yaml
from aigw.config.finding import ConfigErrors, Finding, Path, dotted, printable, short
from aigw.config.interpolate import Resolver, Unresolved
from aigw.config.secret import MASK, limit_amount, masked, masked_line, secret_name, secret_path, without_users
from aigw.entities.sealed import reference_of

MAX_FINDINGS: Final = 1000
WIDTH: Final = 160
_NAMED_KEY: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL)
"""A private key that a message repeats, since it stands where another value belongs."""
_QUOTED: Final = re.compile(r"'.*'", re.DOTALL)
_REPLACED_FROM: Final = 4
"""Minimum length of a value that is replaced by its reference. Shorter values occur inside ordinary words."""


class Source:
    """One file while it is being checked. `document`: the parsed bytes. `resolves`: whether a path's references are resolved; the others stay
    texts."""

    def __init__(
        self,
        name: str,
        data: bytes,
        document: YamlDocument,
        environment: Mapping[str, str],
        folder: FilePath,
        resolves: Callable[[Path], bool] = lambda path: True,
    ) -> None:
        self.name = name
        self._data = data
        self.findings: list[Finding] = []
        self.warnings: list[Finding] = []
        self.document: Final = document
        self._marked = {mark for _, mark, _ in self.document.problems}
        for message, mark, path in self.document.problems:
            known = next(
                (n for n, step in enumerate(path[:-1], 1) if isinstance(step, str) and secret_name(step)), None
            )
            hidden = message if known is None else _QUOTED.sub(f"'{MASK}'", message)
            self.findings.append(self._finding(hidden, mark, dotted(path[:known]), None))
        self.resolver = Resolver(environment, folder)
        self.wholes: dict[Path, str] = {}
        """Values that consist of one reference: they may be numbers or booleans."""
        self.resolved: list[str] = []
        self._unresolved: set[Path] = set()
        self._references: dict[Path, list[tuple[str, str]]] = {}
        wanted = filter(resolves, self.containing("${"))
        values = {path: value for path in wanted if (value := self._resolve(path)) is not None}
        self.consumers: FileConsumers = self.document.consumers(
            [
                (path, value, path in self.wholes, self._shown_reference(path))
                for path, value in values.items()
                if path[:1] == ("consumers",)
            ]
        )
        """Consumers that follow every rule for one consumer. Their values are not in `root`, where None stands for them, unless
        they have plugins."""
        self.root: Any = self.document.value((), self.consumers)
        for path, value in values.items():
            self._put_value(path, value)

    @classmethod
    def of(
        cls,
        name: str,
        data: bytes,
        environment: Mapping[str, str],
        folder: FilePath,
        most: int,
        resolves: Callable[[Path], bool] = lambda path: True,
    ) -> "Source":
        """Parse the whole; `most`: bytes. Raises ConfigErrors."""
        try:
            document = load_yaml(data, most)
        except ValueError as error:
            raise ConfigErrors([_syntax(name, data, *error.args)]) from None
        return cls(name, data, document, environment, folder, resolves)

    def containing(self, text: str) -> list[Path]:
        """The paths of the texts with this one, which has no space and no quote, in it."""
        # A text that is not among the bytes can only be written with escapes.
        if text.encode() not in self._data and b"\\" not in self._data:
            return []
        return self.document.containing(text)

    def _resolve(self, path: Path) -> str | None:
        """The value of a text with references; None with a finding."""
        try:
            value, used, whole = self.resolver.resolve(self.document.text(path))
        except Unresolved as error:
            self.add(path, str(error))
            self._unresolved.add(path)
            return None
        self.resolved += [v for v, _ in used]
        if long := [u for u in used if len(u[0]) >= _REPLACED_FROM]:
            self._references.setdefault(path[:2], []).extend(long)
        if whole:
            self.wholes[path] = value
        return value

    def _shown_reference(self, path: Path) -> str | None:
        """The reference in place of a key, where it may be shown. With a default it may hold the key itself."""
        text = self.document.text(path)
        return text if path[-1:] == ("key",) and reference_of(text) == text else None

    def _put_value(self, path: Path, value: str) -> None:
        if not path:
            self.root = value
        elif path[0] != "consumers" or len(path) < 2 or self.get(path[:2]) is not None:
            self.put(path, value)

    def put(self, path: Path, value: object) -> None:
        """Set the value at an existing path."""
        node = self.root
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value

    def get(self, path: Path) -> Any:
        """The value at a path; None for a missing path."""
        node = self.root
        for step in path:
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                return None
        return node

    def text(self, path: Path) -> str:
        """The text at a path, references in it resolved."""
        whole = self.get(path)
        return whole if isinstance(whole, str) else self.resolver.resolve(self.document.text(path))[0]

    def text_at(self, path: Path) -> str | None:
        """The text at a path with its references unresolved; None for a missing path."""
        try:
            return self.document.text(path)
        except KeyError:
            return None

    def line(self, path: Path) -> int:
        """The line that declares a value."""
        return self._mark(path, at_key=True)[0]

    def lines(self, path: Path) -> list[int]:
        """The lines of a list's items or a mapping's keys."""
        try:
            return self.document.lines(path)
        except KeyError:
            return []

    def bare(self, path: Path) -> str | None:
        """The text of an unquoted scalar; None for other values."""
        try:
            text = self.document.source_text(path)
        except KeyError:
            return None
        return None if text[:1] in ("'", '"', "|", ">", "[", "{", "") or "\n" in text else text

    def add(self, path: Path, message: str, *, at_key: bool = False, suggestion: str | None = None) -> None:
        """Add a finding, unless the value already has one from parsing or from its reference."""
        if path in self._unresolved or self.full or (mark := self._mark(path, at_key=at_key)) in self._marked:
            return
        for value, reference in self._references.get(path[:2], ()):
            message = message.replace(value, reference)
        self.findings.append(self._finding(message, mark, dotted(path), suggestion))

    def warn(self, path: Path, message: str, *, suggestion: str | None = None) -> None:
        """Add a warning, up to `MAX_FINDINGS`."""
        if len(self.warnings) < MAX_FINDINGS:
            self.warnings.append(self._finding(message, self._mark(path, at_key=False), dotted(path), suggestion))

    @property
    def full(self) -> bool:
        """Whether the number of findings has reached its bound."""
        return len(self.findings) >= MAX_FINDINGS

    def fail(self) -> None:
        """Raises ConfigErrors when there are findings."""
        if self.findings:
            raise ConfigErrors(sorted(self.findings, key=lambda f: (f.line, f.col)))

    def _mark(self, path: Path, *, at_key: bool) -> tuple[int, int, int]:
        """The place of a value or its key, or of the nearest thing around it that is there."""
        while True:
            for look in (self.document.key_mark, self.document.mark) if at_key else (self.document.mark,):
                try:
                    return look(path)
                except KeyError:
                    continue
            if not path:
                return (1, 1, 1)
            path, at_key = path[:-1], True

    def _finding(self, message: str, mark: tuple[int, int, int], path: str, suggestion: str | None) -> Finding:
        line, column, length = mark
        shown, caret, length = self._shown(line, column, length)
        suggestion = None if suggestion is None else printable(short(suggestion))
        text = printable(without_users(_NAMED_KEY.sub(MASK, message)))
        path = printable(short(path))
        return Finding(self.name, line, column, path, text, shown, caret, length, suggestion)

    def _shown(self, line: int, column: int, length: int) -> tuple[str, int, int]:
        """The source line without secrets and comments, the caret's index in it, and the marker's length."""
        text, before, cut, scalars = self.document.excerpt(line, column, WIDTH)
        caret = wanted = column - 1 - before
        shown, done = "", 0
        for start, end, path, is_key in scalars:
            if start < done:
                continue
            shown += text[done:start]
            piece = text[start:end]
            if _hidden(path, is_key, piece):
                piece = masked(piece)
            if start <= wanted:
                caret = len(shown) + (wanted - start if piece == text[start:end] else 0)
                if start == wanted:
                    length = len(piece) if piece != text[start:end] else length
            shown += piece
            done = end
        rest = text[done:]
        comment = rest.find("#")
        shown += rest if comment < 0 else rest[:comment].rstrip()
        if scalars and wanted >= scalars[-1][1]:
            caret = len(shown) - len(rest) + (wanted - done) if comment < 0 else len(shown)
        head = "..." if before else ""
        shown = head + without_users(shown) + ("..." if cut else "")
        return printable(shown.replace("\t", " ")), max(0, caret) + len(head), length


_MAY_HOLD_KEYS: Final = ("cert", "cert_alt")
"""Fields in which a private key may stand by mistake, cut off in the line that is shown."""


def _hidden(path: Path | None, is_key: bool, text: str) -> bool:
    if "PRIVATE KEY" in text or (path and not is_key and path[-1] in _MAY_HOLD_KEYS):
        return True
    if path is None:
        return not is_key
    if not is_key and limit_amount(path, text):
        return False
    # A mapping in place of a secret: its keys may be the secret.
    return any(secret_name(s) for s in path[:-1] if isinstance(s, str)) if is_key else secret_path(path)


def _syntax(name: str, data: bytes, message: str, line: int, column: int, length: int, offset: int) -> Finding:
    end = data.find(b"\n", offset)
    around = data[max(0, offset - 16384) : offset + 4096 if end < 0 else min(end, offset + 4096)].split(b"\n")
    if b"${" in around[-1] and "flow" in message:
        message += ': write "${...}" in quotes between [ ] and { }'
    above = [text.decode("utf-8", "replace").rstrip("\r") for text in around]
    long = len(around[-1]) > 4096
    readable = "UTF-" not in message.partition(":")[0]
    shown = "" if long or not readable else masked_line(above[-1], above[:-1])
    comment = shown.find(" #", column)
    shown = printable((shown if comment < 0 else shown[:comment]).replace("\t", " "))[:WIDTH]
    caret = min(column - 1, len(shown))
    return Finding(name, line, column, "", printable(message), shown, caret, length)


__all__ = ["MASK", "Source"]
