"""Consumers, with their keys and acls, in bulk: a file may hold a hundred thousand of them.

`ConsumerWritten`, whose fields are the entities' own, checks `CHUNK` consumers at a time. The bodies equal those that the entities would
dump (a test compares). Plain consumers (`plain`) are checked already. A key belongs to one consumer; messages never show it.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from aigw.config.entity import FileEntity, Secret, entity_id
from aigw.config.finding import Path
from aigw.config.plain import Plain
from aigw.config.shape import ConsumerWritten
from aigw.config.source import Source
from aigw.config.words import convert, tell
from aigw.entities.keyauth_credential import key_hint
from aigw.schema.violations import words
from aigw.types import JsonDict

CHUNK: Final = 5000
_MANY: Final = TypeAdapter(list[ConsumerWritten], config=ConfigDict(defer_build=True))

Item = tuple[Path, JsonDict]
Refer = Callable[[Path, str, Any], str | None]


def consumer_id(username: str | None, custom_id: str | None) -> str:
    """The id by username, or by custom_id without a username."""
    return entity_id("consumers", username if username is not None else f"custom_id\n{custom_id}")


class Consumers:
    """The section `consumers`. `plain` holds whole consumers; the other lists hold the entities of all other consumers. The caller checks
    `plugins`, as (path, record, username)."""

    def __init__(self, source: Source, progress: Callable[[str, int, int], None], refer: Refer) -> None:
        self.plain: list[Plain] = []
        self.consumers: list[FileEntity] = []
        self.credentials: list[FileEntity] = []
        self.acls: list[FileEntity] = []
        self.plugins: list[tuple[Path, JsonDict, str]] = []
        self._source = source
        self._progress = progress
        self._refer = refer
        self._keys: dict[tuple[str, str] | str, Path] = {}
        """Key, or ("hash", HMAC) -> path of the credential, or of a plain consumer."""
        self._tiers: set[str] = set()
        self._custom_ids: dict[str, Path] = {}

    def run(self, items: list[Item], plain: dict[int, Plain]) -> None:
        """Check all consumers, in the order of the file."""
        lines = self._source.lines(("consumers",))
        rest = iter(items)
        following = next(rest, None)
        for start in range(0, len(lines), CHUNK):
            if self._source.full:
                return
            self._progress("checking consumers", start, len(lines))
            part: list[Item] = []
            while following is not None and int(following[0][1]) < start + CHUNK:
                part.append(following)
                following = next(rest, None)
            whole = {int(path[1]): (path, item, checked) for (path, item), checked in self._checked(part)}
            for place in range(start, min(start + CHUNK, len(lines))):
                if (one := plain.get(place)) is not None:
                    self._take_plain(one)
                elif (found := whole.get(place)) is not None:
                    self._take(*found, lines[place])

    def _checked(self, items: list[Item]) -> list[tuple[Item, ConsumerWritten]]:
        good = items
        for attempt in range(3 if items else 0):
            try:
                return list(zip(good, _validated([item for _, item in good]), strict=True))
            except ValidationError as error:
                found: dict[int, list[tuple[Path, str]]] = {}
                for detail in error.errors(include_url=False, include_input=False):
                    found.setdefault(int(detail["loc"][0]), []).append((detail["loc"][1:], words(detail)))
            typed = [convert(self._source, *good[n], texts) for n, texts in found.items()] if attempt == 0 else []
            if not any(typed):
                for n, texts in found.items():
                    if not self._source.full:
                        path, item = good[n]
                        tell(self._source, path, ConsumerWritten, texts)
                        if isinstance(item.get("tier"), str):
                            self._refer((*path, "tier"), "tiers", item["tier"])
                good = [item for n, item in enumerate(good) if n not in found]
        return []

    def _take_plain(self, one: Plain) -> None:
        path, tier = ("consumers", one.place), one.tier
        if tier is not None and tier not in self._tiers and self._refer((*path, "tier"), "tiers", tier) is not None:
            self._tiers.add(tier)
        field = "key" if one.key is not None else "key_hash"
        first = self._keys.setdefault(one.key if one.key is not None else ("hash", one.key_hash or ""), path)
        if first is not path:
            self._same_key(first, (*path, "keyauth_credentials", 0), field)
        self.plain.append(one)

    def _same_key(self, first: Path, at: Path, field: str) -> None:
        if not self._source.full:
            first = first if len(first) > 2 else (*first, "keyauth_credentials", 0)
            whose = self._called(int(first[1]))
            text = f"the same key as of consumer '{whose}' in line {self._source.line(first)}: a key opens for one consumer"
            self._source.add((*at, field), text)

    def _called(self, place: int) -> str:
        """The consumer's name for messages."""
        if (one := self._source.plain.get(place)) is not None:
            return one.username
        item = self._source.get(("consumers", place))
        return str(item.get("username") or item.get("custom_id") or place)

    def _take(self, path: Path, item: JsonDict, checked: ConsumerWritten, line: int) -> None:
        username, custom_id = checked.username, checked.custom_id
        if custom_id is not None:
            first = self._custom_ids.setdefault(custom_id, path)
            if first is not path:
                text = f"the custom_id '{custom_id}' stands twice: first in line {self._source.line(first)}"
                self._source.add((*path, "custom_id"), text)
        tier = None
        if checked.tier is not None:
            tier = self._refer((*path, "tier"), "tiers", checked.tier)
        elif checked.groups:
            tier = self._refer((*path, "groups", 0, "name"), "tiers", checked.groups[0].name)
        key = consumer_id(username, custom_id)
        body: JsonDict = {
            "id": key,
            "created_at": 0,
            "updated_at": 0,
            "username": username,
            "custom_id": custom_id,
            "tags": checked.tags,
        }
        name = username if username is not None else custom_id or ""
        self.consumers.append(FileEntity("consumers", key, name, body, line, path, tier))
        if checked.keyauth_credentials:
            self._take_keys(path, key, name, checked)
        if checked.acls:
            self._take_acls(path, key, name, checked)
        if checked.plugins:
            self._take_plugins(path, item, username)

    def _take_keys(self, path: Path, consumer: str, name: str, checked: ConsumerWritten) -> None:
        here = (*path, "keyauth_credentials")
        lines = self._source.lines(here)
        for index, credential in enumerate(checked.keyauth_credentials or ()):
            at = (*here, index)
            given, hashed = credential.key, credential.key_hash
            digest = (
                hashlib.sha256(given.encode()).digest() if given is not None else b"hash:" + (hashed or "").encode()
            )
            first = self._keys.setdefault(given if given is not None else ("hash", hashed or ""), at)
            if first is not at:
                self._same_key(first, at, "key" if given is not None else "key_hash")
            key = entity_id("keyauth_credentials", f"{consumer}:{digest.hex()}")
            hint = key_hint(given) if given is not None else "..."
            body: JsonDict = {
                "id": key,
                "created_at": 0,
                "consumer": {"id": consumer},
                "key": None,
                "key_hint": hint,
                "tags": credential.tags,
                "ttl": None,
            }
            secret = Secret(given) if given is not None else None
            binary = bytes.fromhex(hashed) if hashed is not None else None
            line = lines[index] if index < len(lines) else 0
            entity = FileEntity(
                "keyauth_credentials",
                key,
                f"{name} {hint}",
                body,
                line,
                at,
                None,
                secret,
                binary,
                credential.ttl or None,
            )
            self.credentials.append(entity)

    def _take_acls(self, path: Path, consumer: str, name: str, checked: ConsumerWritten) -> None:
        here = (*path, "acls")
        lines = self._source.lines(here)
        seen: dict[str, int] = {}
        for index, acl in enumerate(checked.acls or ()):
            first = seen.setdefault(acl.group, index)
            line = lines[index] if index < len(lines) else 0
            if first != index:
                text = f"the group '{acl.group}' stands twice: first in line {lines[first]}"
                self._source.add((*here, index, "group"), text)
            key = entity_id("acls", f"{consumer}:{acl.group}")
            body: JsonDict = {
                "id": key,
                "created_at": 0,
                "consumer": {"id": consumer},
                "group": acl.group,
                "tags": acl.tags,
            }
            self.acls.append(FileEntity("acls", key, f"{name} {acl.group}", body, line, (*here, index)))

    def _take_plugins(self, path: Path, item: JsonDict, username: str | None) -> None:
        for index, plugin in enumerate(item["plugins"]):
            at = (*path, "plugins", index)
            if username is None:
                self._source.add(at, "a consumer with plugins needs a username")
            elif isinstance(plugin, dict):
                self.plugins.append((at, plugin, username))
            else:
                self._source.add(at, "expected a record")


def _validated(items: list[JsonDict]) -> list[ConsumerWritten]:
    return _MANY.validate_json(orjson.dumps(items), strict=True)
