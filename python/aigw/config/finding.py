"""One finding about a file, and all findings together: for people, and as data.

gateway.yaml:12:23: tiers.free.limits[0].pr: unknown field
  - {requests: 100, pr: day}
                    ^^ did you mean 'per'?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aigw.errors import ConfigError
from aigw.types import JsonDict

SHOWN: Final = 100
"""Number of findings shown to a person; `ConfigErrors.findings` has all."""

LONGEST: Final = 400

Path = tuple[str | int, ...]
"""Position of a value in the tree: keys and list indexes (from 0) from the root of the file."""


def dotted(path: Path) -> str:
    """`tiers.free.limits[0].per`; keys other than plain words are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            is_simple = step.replace("-", "").replace("_", "").isalnum()
            text += f"{'.' if text else ''}{step if is_simple else repr(step)}"
    return text


def printable(text: str) -> str:
    """Text with escapes in place of control characters, which could move a cursor or change colours and direction."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def short(text: str) -> str:
    """Cut a text to `LONGEST` characters. Mask secrets first: a part of a secret would not be recognised."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@dataclass(frozen=True, slots=True)
class Finding:
    """`line` and `col` count from 1; 0 means the whole file. `source_line` has its secrets masked; the marker starts under its character
    `caret` (from 0) and is `length` wide."""

    file: str
    line: int
    col: int
    path: str
    message: str
    source_line: str = ""
    caret: int = 0
    length: int = 1
    suggestion: str | None = None

    def __str__(self) -> str:
        return self.rendered()

    def rendered(self, word: str = "") -> str:
        """For people: the text, the source line and the marker; `word`, as in "warning", follows the position."""
        file = printable(self.file)
        position = f"{file}:{self.line}:{self.col}: " if self.line else f"{file}: "
        text = f"{position}{word + ': ' if word else ''}{self.path + ': ' if self.path else ''}{self.message}"
        hint = f"did you mean '{self.suggestion}'?" if self.suggestion is not None else ""
        if not self.source_line:
            return f"{text}; {hint}" if hint else text
        shown = self.source_line.lstrip()
        indent = min(len(self.source_line) - len(shown), self.caret)
        caret = " " * (self.caret - indent) + "^" * max(1, min(self.length, len(self.source_line) - self.caret))
        return f"{text}\n  {self.source_line[indent:]}\n  {caret}{' ' + hint if hint else ''}"

    def as_dict(self) -> JsonDict:
        """For `--output json`."""
        return {
            "file": printable(self.file),
            "line": self.line or None,
            "col": self.col or None,
            "path": self.path,
            "message": self.message,
            "suggestion": self.suggestion,
        }


def rendered(findings: Sequence[Finding], word: str = "") -> str:
    """The first hundred findings, each with its source line."""
    lines = [finding.rendered(word) for finding in findings[:SHOWN]]
    if (more := len(findings) - SHOWN) > 0:
        lines.append(f"... and {more} more")
    return "\n".join(lines)


class ConfigErrors(ConfigError):
    """All findings about a file, in the order of the file. `str()` is for people."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(self.rendered())

    def rendered(self) -> str:
        """All findings (the first hundred), each with its source line."""
        return rendered(self.findings)
