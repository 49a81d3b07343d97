"""Compares two configurations, entity by entity, in the form of decK. In: the entities of a file, and those of the store.

Entities with the same name are the same entity: ids and authors do not count. Entities of the Admin API that the file does not name
are ignored; entities that the file declared before and no longer declares would be deleted. Values appear in the file's form; for
keys only equality is shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aigw.control.file.changes import CALLED, flat
from aigw.control.file.dump import Rows
from aigw.control.store.origin import Origin, name_of
from aigw.control.store.rows import NO_SECTIONS, SECTIONS, Sections
from aigw.entities import KINDS
from aigw.entities.target import canonical
from aigw.types import JsonDict

_HIDDEN: Final = "***"


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity for the comparison: every value by its path, secrets as `Digest`."""

    kind: str
    name: str
    fields: Mapping[str, Any]
    by_file: bool


@dataclass(frozen=True, slots=True)
class Differs:
    """The change of one entity. `held`: the Admin API made it, so a file can declare it only after it is removed there."""

    action: str
    kind: str
    name: str
    fields: tuple[tuple[str, Any, Any], ...]
    held: bool = False

    def as_dict(self) -> JsonDict:
        changes = [{"field": path, "before": before, "after": after} for path, before, after in self.fields]
        return {"action": self.action, "kind": self.kind, "name": self.name, "fields": changes, "held": self.held}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, in the order of writing, and the names of entities of the Admin API that the file declares."""

    differs: tuple[Differs, ...]
    held: tuple[str, ...]

    def as_dict(self) -> JsonDict:
        counts = {word: sum(d.action == word for d in self.differs) for word in ("created", "updated", "deleted")}
        return {"changes": [d.as_dict() for d in self.differs], "summary": counts, "held": list(self.held)}


Key = tuple[str, ...]
_Part = tuple[str, JsonDict, str | None, bytes, int, Origin | None]


def compare(
    wanted: Rows,
    wanted_default: str | None,
    rows: Rows,
    default: str | None,
    sections: tuple[Sections, Sections] = (NO_SECTIONS, NO_SECTIONS),
) -> Comparison:
    """`wanted` are the rows of the file, `rows` the stored ones; the default tiers are ids. `sections`: stored, and of the file."""
    parts, stored = (
        [
            (kind, row.body, row.tier, row.hash, row.expires_at, row.origin)
            for kind, found in side.items()
            for row in found
        ]
        for side in (wanted, rows)
    )
    after, before = _entities(parts), _entities(stored)
    names = {body["id"]: name_of(body) for kind, body, *_ in (*parts, *stored) if kind == "tiers"}
    found = list(_differs(before, after))
    old, new = (names.get(key) if key is not None else None for key in (default, wanted_default))
    if old != new:
        found.insert(0, Differs("updated", "default_tier", "", (("default_tier", old, new),)))
    for section in SECTIONS:
        was, will = (flat(side.get(section) or {}) for side in sections)
        if was != will:
            paths = dict.fromkeys((*was, *will))
            both = ((path, was.get(path), will.get(path)) for path in paths)
            found.insert(0, Differs("updated", section, "", tuple(one for one in both if one[1] != one[2])))
    held = (f"{CALLED[e.kind]} {e.name}" for key, e in before.items() if key in after and not e.by_file)
    return Comparison(tuple(found), tuple(held))


def _differs(before: Mapping[Key, Entity], after: Mapping[Key, Entity]) -> Iterator[Differs]:
    for key, entity in after.items():
        there = before.get(key)
        if there is None:
            fields = tuple((path, None, _shown(value)) for path, value in entity.fields.items())
            yield Differs("created", CALLED[entity.kind], entity.name, fields)
        elif there.fields != entity.fields:
            yield Differs("updated", CALLED[entity.kind], entity.name, _changed(there, entity), not there.by_file)
    for key, entity in reversed(list(before.items())):
        if key not in after and entity.by_file:
            yield Differs("deleted", CALLED[entity.kind], entity.name, ())


def _changed(before: Entity, after: Entity) -> tuple[tuple[str, Any, Any], ...]:
    paths = dict.fromkeys((*before.fields, *after.fields))
    both = ((path, before.fields.get(path), after.fields.get(path)) for path in paths)
    return tuple((path, _shown(old), _shown(new)) for path, old, new in both if old != new)


def _shown(value: Any) -> Any:
    return _HIDDEN if isinstance(value, Digest) else value


class Digest(str):
    """A secret's digest."""


def _entities(parts: Iterable[_Part]) -> dict[Key, Entity]:
    listed = list(parts)
    names = {
        body["id"]: name_of(body)
        for kind, body, *_ in listed
        if kind in ("services", "routes", "consumers", "tiers", "upstreams")
    }
    found = {}
    for kind, body, tier, digest, expires_at, origin in listed:
        key, name = _called(kind, body, digest, names)
        fields = flat({k: v for k, v in body.items() if k not in KINDS[kind].foreign})
        for field in KINDS[kind].foreign:
            if kind in ("routes", "services", "snis") and body[field]:
                fields[field] = names.get(body[field]["id"], body[field]["id"])
        if tier is not None:
            fields["tier"] = names.get(tier)
        if expires_at:
            fields["ttl"] = expires_at - body["created_at"]
        for index, sealed in enumerate(body.get("keys") or ()):
            if sealed is not None:
                fields[f"upstreams[{index}].api_key"] = Digest(sealed["digest"])
        for place, secret in (body.get("secrets") or {}).items():
            # A certificate has a path of the same name, which is shown.
            fields[f"{place} (content)" if place in fields else place] = Digest(secret["digest"])
        found[key] = Entity(kind, name, fields, origin is not None)
    return found


def _called(kind: str, body: JsonDict, digest: bytes, names: Mapping[str, str]) -> tuple[Key, str]:
    """The entity's key in the comparison, and its name for people."""
    if kind == "keyauth_credentials":
        owner = names.get(body["consumer"]["id"], "")
        return (kind, owner, digest.hex()), f"{owner} {body['key_hint'] or ''}".rstrip()
    if kind == "acls":
        owner = names.get(body["consumer"]["id"], "")
        return (kind, owner, body["group"]), f"{owner} {body['group']}"
    if kind == "targets":
        owner = names.get(body["upstream"]["id"], "")
        return (kind, owner, canonical(body["target"])), f"{body['target']} of {owner}"
    if kind == "plugins":
        scope = [f"{field} {names.get(body[field]['id'])}" for field in KINDS[kind].foreign if body[field]]
        title = f"{body['name']} on {', '.join(scope) or 'everything'}"
        return (kind, title), body["instance_name"] or title
    return (kind, name_of(body)), name_of(body)
