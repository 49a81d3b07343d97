"""The section `consumers` of a file: a hundred thousand of them may stand there.

In: the open file, whose consumers are read natively (`FileConsumers`). Out: findings, and the plugins of consumers. Native
code applies the rules to each consumer; this module explains each rule that was broken, with the messages of
`ConsumerInFile`, and checks what one consumer by itself cannot show: references to tiers, and names, keys and groups that
occur twice. No message contains a key.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from aigw.config.finding import Path
from aigw.config.report import convert, report
from aigw.config.shape import ConsumerInFile
from aigw.config.source import MAX_FINDINGS, Source
from aigw.schema.violations import message_of
from aigw.types import JsonDict

CHUNK: Final = 5000
_MANY: Final = TypeAdapter(list[ConsumerInFile], config=ConfigDict(defer_build=True))
_KEYS: Final = "keyauth_credentials"

Item = tuple[Path, JsonDict]
Refer = Callable[[Path, str, Any], str | None]


class ConsumersCheck:
    """One pass over the consumers of one file. `refer` checks a reference by name, and adds the finding for a wrong one."""

    def __init__(self, source: Source, progress: Callable[[str, int, int], None], refer: Refer) -> None:
        self._source = source
        self._consumers = source.consumers
        self._progress = progress
        self._refer = refer

    def run(self, items: list[Item]) -> list[tuple[Path, JsonDict, str]]:
        """Check all consumers; `items` are those with a value in `Source.root`. Returns (path, record, username) of each plugin
        of a consumer."""
        self._progress("checking consumers", 0, self._consumers.count("consumers") + len(self._consumers.invalid))
        invalid = set(self._consumers.invalid)
        wrong = [item for item in items if item[0][1] in invalid]
        for start in range(0, len(wrong), CHUNK):
            self._explain(wrong[start : start + CHUNK])
        for index, name in enumerate(self._consumers.tiers):
            self._check_tier(index, name)
        for field, at, earlier in self._consumers.repeats(MAX_FINDINGS):
            self._repeated(field, at, earlier)
        return list(self._plugins())

    def _explain(self, items: list[Item]) -> None:
        """Findings on consumers that native code refused. A reference that stands for a number is converted, and the rest is
        checked again."""
        found = _violations(items)
        converted = [convert(self._source, *items[n], texts) for n, texts in found.items()]
        if any(converted):
            found = _violations(items)
        for n, (path, item) in enumerate(items):
            if self._source.full:
                return
            report(self._source, path, ConsumerInFile, found.get(n, _UNEXPLAINED))
            if isinstance(item.get("tier"), str):
                self._refer((*path, "tier"), "tiers", item["tier"])

    def _check_tier(self, index: int, name: str) -> None:
        for consumer, in_groups in self._consumers.referring_to(index):
            path: Path = ("consumers", consumer, *(("groups", 0, "name") if in_groups else ("tier",)))
            if self._source.full or self._refer(path, "tiers", name) is not None:
                return

    def _repeated(self, field: str, at: tuple[int, int], earlier: tuple[int, int]) -> None:
        if self._source.full:
            return
        path, other = _path(field, at), _path(field, earlier)
        line = self._source.line(other if field == "username" else other[:-1])
        if field in ("key", "key_hash"):
            whose = self._consumers.name(earlier[0])
            text = f"the same key as of consumer '{whose}' in line {line}: a key opens for one consumer"
        else:
            text = f"the {field} '{self._source.text(path)}' stands twice: first in line {line}"
        self._source.add(path, text)

    def _plugins(self) -> Iterator[tuple[Path, JsonDict, str]]:
        for consumer, username in self._consumers.with_plugins:
            for index, plugin in enumerate(self._source.get(("consumers", consumer, "plugins")) or ()):
                at: Path = ("consumers", consumer, "plugins", index)
                if username is None:
                    self._source.add(at, "a consumer with plugins needs a username")
                elif isinstance(plugin, dict):
                    yield at, plugin, username
                else:
                    self._source.add(at, "expected a record")


_UNEXPLAINED: Final[list[tuple[Path, str]]] = [
    ((), "cannot be read as a consumer: a fault of the gateway, please report it")
]


def _path(field: str, at: tuple[int, int]) -> Path:
    index, part = at
    if field in ("key", "key_hash"):
        return ("consumers", index, _KEYS, part, field)
    return ("consumers", index, "acls", part, field) if field == "group" else ("consumers", index, field)


def _violations(items: list[Item]) -> dict[int, list[tuple[Path, str]]]:
    """Index -> (path, message) of each broken rule."""
    found: dict[int, list[tuple[Path, str]]] = {}
    try:
        _MANY.validate_json(orjson.dumps([item for _, item in items]), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            found.setdefault(int(detail["loc"][0]), []).append((detail["loc"][1:], message_of(detail)))
    return found
