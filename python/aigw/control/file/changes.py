"""The changes of one write as lines for people: `+ tier gold`, `~ consumer alice: tier free -> pro`, `- route x`.

In: the changes, and names by id. Out: counts, and at most `MOST_LINES` lines. A line says that a key changed, and never shows
the key.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aigw.config.finding import printable
from aigw.control.store.origin import name_of
from aigw.control.store.rows import MOST_SHOWN, NO_SECTIONS, SECTIONS, SETTINGS, BulkChange, Change, Row, Sections
from aigw.entities import KINDS
from aigw.types import JsonDict

MOST_LINES: Final = MOST_SHOWN
MOST_FIELDS: Final = 6
MOST_TEXT: Final = 80

CALLED: Final[Mapping[str, str]] = {
    "services": "service", "routes": "route", "tiers": "tier", "models": "model", "consumers": "consumer",
    "keyauth_credentials": "key-auth", "acls": "acl", "plugins": "plugin", "upstreams": "upstream", "targets": "target",
    "certificates": "certificate", "snis": "SNI", "ca_certificates": "CA certificate",
}  # fmt: skip
"""Collection -> the word for one entity."""
_MADE: Final = frozenset(
    {
        "id",
        "created_at",
        "updated_at",
        "name",
        "username",
        "key",
        "key_hint",
        "keys",
        "moved",
        "sealed",
        "secrets",
        "ttl",
    }
)
_SIGNS: Final = {"created": "+", "updated": "~", "deleted": "-"}


@dataclass(frozen=True, slots=True)
class Difference:
    """The numbers of entities added, changed and removed, and the first lines."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    lines: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.added + self.changed + self.removed

    def as_dict(self) -> JsonDict:
        """JSON data for answers and the history."""
        return {"added": self.added, "changed": self.changed, "removed": self.removed, "lines": list(self.lines)}


def difference(
    changes: Sequence[Change | BulkChange],
    names: Callable[[str], str | None],
    default_tier: tuple[str | None, str | None],
    sections: tuple[Sections, Sections] = (NO_SECTIONS, NO_SECTIONS),
) -> Difference:
    """`names`: id -> name of a referenced entity; `default_tier`: ids before and after; `sections`: settings before and
    after."""
    counts = {"created": 0, "updated": 0, "deleted": 0}
    lines: list[str] = []
    single = [change for change in changes if isinstance(change, Change)]
    known = _Names(single, names)
    for change in changes:
        if isinstance(change, BulkChange):
            counts[change.action] += change.total
            shown = change.shown[: max(0, MOST_LINES - len(lines))]
            lines += [_line(change.action, one, one.after, known) for one in shown if one.after is not None]
            continue
        row = change.after or change.before
        if row is None:
            continue
        action = "created" if change.before is None else "deleted" if change.after is None else "updated"
        counts[action] += 1
        if len(lines) < MOST_LINES:
            lines.append(_line(action, change, row, known))
    if any(change.kind == SETTINGS for change in single) and default_tier[0] != default_tier[1]:
        before, after = (known.of(key) if key else "none" for key in default_tier)
        lines.insert(0, f"~ default_tier: {before} -> {after}")
    for section in SECTIONS:
        old, new = (side.get(section) or {} for side in sections)
        if old != new:
            fields = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
            lines.insert(0, f"~ {section}: {', '.join(fields)}")
    total = sum(counts.values())
    if total > MOST_LINES:
        lines.append(f"... and {total - MOST_LINES} more")
    return Difference(counts["created"], counts["updated"], counts["deleted"], tuple(lines))


class _Names:
    """Names by id: those of `names`, then those of the entities in the changes."""

    def __init__(self, changes: Sequence[Change], names: Callable[[str], str | None]) -> None:
        self._names = names
        self._changes = changes
        self._own: dict[str, str] | None = None

    def of(self, key: str) -> str:
        """The name, or the id of an unknown entity."""
        found = self._names(key)
        if found is None:
            if self._own is None:
                rows = (
                    c.before or c.after
                    for c in self._changes
                    if c.kind in ("services", "routes", "consumers", "tiers", "upstreams")
                )
                self._own = {row.id: name_of(row.body) for row in rows if row is not None}
            found = self._own.get(key, key)
        return printable(found)


def _line(action: str, change: Change, row: Row, names: _Names) -> str:
    head = f"{_SIGNS[action]} {CALLED[change.kind]} {title(change.kind, row.body, names.of)}"
    if change.before is None or change.after is None:
        tier = f" (tier {names.of(row.tier)})" if row.tier else ""
        return head + tier
    found = list(_fields(change.before, change.after, names))
    if not found:
        return head
    more = f", and {len(found) - MOST_FIELDS} more fields" if len(found) > MOST_FIELDS else ""
    return f"{head}: {', '.join(found[:MOST_FIELDS])}{more}"


def title(kind: str, body: JsonDict, name: Any) -> str:
    """The name of an entity for people. `name`: id -> name of the entities that it references."""
    if kind in ("keyauth_credentials", "acls"):
        return (
            f"{name(body['consumer']['id'])} {printable(body['key_hint'] or '' if kind != 'acls' else body['group'])}"
        )
    if kind == "targets":
        return f"{printable(body['target'])} of {name(body['upstream']['id'])}"
    if kind == "plugins" and not body["instance_name"]:
        scope = ", ".join(f"{field} {name(body[field]['id'])}" for field in KINDS[kind].foreign if body[field])
        return f"{body['name']} on {scope or 'everything'}"
    return printable(name_of(body))


def _fields(before: Row, after: Row, names: _Names) -> Iterator[str]:
    if before.tier != after.tier:
        yield "tier " + " -> ".join(names.of(tier) if tier else "none" for tier in (before.tier, after.tier))
    if before.hash != after.hash:
        yield "key changed"
    if before.expires_at != after.expires_at:
        yield "ttl changed"
    old, new = flat(before.body), flat(after.body)
    for path in dict.fromkeys((*old, *new)):
        if old.get(path) != new.get(path):
            yield f"{path} {_text(old.get(path))} -> {_text(new.get(path))}"
    for index, (one, other) in enumerate(_pairs(before.body.get("keys"), after.body.get("keys"))):
        if (one and one["digest"]) != (other and other["digest"]):
            yield f"upstreams[{index}].api_key changed"
    left, right = (body.get("secrets") or {} for body in (before.body, after.body))
    for place in dict.fromkeys((*left, *right)):
        if left.get(place, {}).get("digest") != right.get(place, {}).get("digest"):
            yield f"{place} changed"


def _pairs(left: list[Any] | None, right: list[Any] | None) -> Iterator[tuple[Any, Any]]:
    left, right = left or [], right or []
    for index in range(max(len(left), len(right))):
        yield left[index] if index < len(left) else None, right[index] if index < len(right) else None


def flat(body: JsonDict) -> dict[str, Any]:
    """`{"limits[0].requests": 5}`: every value by its path, without null and empty values."""
    found: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, inner in enumerate(value):
                walk(inner, f"{path}[{index}]")
        elif value not in (None, [], {}):
            found[path] = _pem(value) if path in ("cert", "cert_alt") else value

    for key, value in body.items():
        if key not in _MADE:
            walk(value, "" if key == "spec" else key)
    return found


def _pem(text: str) -> str:
    """A short text for people in place of certificates. Equal certificates have an equal one."""
    return f"SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _text(value: Any) -> str:
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else printable(str(value))
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 3] + "..."
