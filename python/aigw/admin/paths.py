"""Paths to handlers. In: the segments of a path. Out: its methods, each a function of a `Call`; None for an unknown path.

Nested paths follow from the entities' references, both ways: /services/{x}/routes and /routes/{x}/service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from aigw import sqlite
from aigw.admin import balancing, config, envelope, groups, info, limits, tiers, usage
from aigw.admin.call import Answer, Call, Handler, Methods, found, page_of
from aigw.admin.credentials import without_key
from aigw.admin.crud import Crud
from aigw.admin.envelope import Refusal
from aigw.admin.kinds import hooks_of
from aigw.admin.unsupported import EMPTY, empty, lacking_schema
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, EntityKind
from aigw.entities.keyauth_credential import VAULT
from aigw.plugins import PLUGINS
from aigw.schema.fields import is_uuid
from aigw.types import JsonDict

COLLECTIONS: Final = {kind.url: kind for kind in KINDS.values() if kind.served}
CHILD_URLS: Final = {"keyauth_credentials": "key-auth"}
CHILDREN: Final = {
    (KINDS[target].url, CHILD_URLS.get(kind.name, kind.url)): (KINDS[target], kind, name)
    for kind in KINDS.values()
    for name, target in kind.foreign.items()
    if KINDS[target].served
}
"""(parent's segment, child's segment) -> (parent, child, the child's reference)."""
TAGGED_AS: Final = {"tiers": "consumer_groups"}
"""Tables whose entities have another name in Kong's API."""


def find(segments: list[str]) -> Methods | None:
    """The methods of a path."""
    match segments:
        case [""]:
            return {"GET": lambda call: Answer(200, info.root(call.admin))}
        case [name] if name in _PLAIN:
            return _PLAIN[name]
        case ["plugins", "enabled"]:
            return {"GET": lambda _: Answer(200, {"enabled_plugins": sorted(PLUGINS)})}
        case ["config", "diff"]:
            return config.DIFF
        case ["config", "history"]:
            return config.HISTORY
        case ["tags", tag]:
            return {"GET": lambda call: _tags(call, tag)}
        case ["schemas", *rest]:
            return _schemas(rest) if lacking_schema(rest) is None else None
        case ["consumers", key, "limits"]:
            return {"GET": lambda call: _limits(call, key)}
        case ["audit", "ledger"]:
            return usage.AUDIT
        case ["usage", "events"]:
            return usage.EVENTS
        case ["usage", "events", request_id]:
            return usage.event(request_id)
        case ["tiers" | "models" as name]:
            return tiers.collection(KINDS[name])
        case ["tiers", name]:
            return tiers.tier(name)
        case ["models", name]:
            return tiers.model(name)
        case ["models", name, "tokenizer"]:
            return tiers.tokenizer(name)
        case ["consumer_groups", *rest]:
            return _groups(rest)
        case ["upstreams", key, *rest] if (methods := balancing.below(key, rest)) is not None:
            return methods
        case ["consumers", key, "consumer_groups"]:
            return groups.of_consumer(key)
        case ["consumers", key, "consumer_groups", group]:
            return groups.membership(group, key, "consumer_group")
        case [name] if name in EMPTY:
            return empty(name)
        case [name] if name in COLLECTIONS:
            return _collection(COLLECTIONS[name], None)
        case [name, key] if name in COLLECTIONS:
            return _entity(COLLECTIONS[name], key, None)
        case [name, key, child] if (name, child) in CHILDREN:
            parent, kind, reference = CHILDREN[name, child]
            return _collection(kind, _Parent(parent, key, reference))
        case [name, key, child, child_key] if (name, child) in CHILDREN:
            parent, kind, reference = CHILDREN[name, child]
            return _entity(kind, child_key, _Parent(parent, key, reference))
        case [name, key, reference] if (
            name in COLLECTIONS
            and reference in COLLECTIONS[name].foreign
            and KINDS[COLLECTIONS[name].foreign[reference]].served
        ):
            return _referenced(COLLECTIONS[name], key, reference)
    return None


@dataclass(frozen=True, slots=True)
class _Parent:
    """The parent entity of a nested path."""

    kind: EntityKind
    key: str
    reference: str

    def row(self, reader: StoreReader, crud: Crud) -> Row:
        """Raises 404."""
        return found(reader, crud, self.kind, self.key)


def _groups(rest: list[str]) -> Methods | None:
    match rest:
        case []:
            return groups.collection()
        case [key]:
            return groups.group(key)
        case [key, "consumers"]:
            return groups.members(key)
        case [key, "consumers", consumer]:
            return groups.membership(key, consumer, "consumer")
        case [key, "plugins"]:
            return _collection(KINDS["plugins"], _Parent(KINDS["tiers"], key, "consumer_group"))
        case [key, "plugins", plugin]:
            return _entity(KINDS["plugins"], plugin, _Parent(KINDS["tiers"], key, "consumer_group"))
    return None


def _fixed(parent: _Parent | None, reader: StoreReader, crud: Crud) -> dict[str, str]:
    return {} if parent is None else {parent.reference: parent.row(reader, crud).id}


def _collection(kind: EntityKind, parent: _Parent | None) -> Methods:
    def post(call: Call) -> Answer:
        return call.write(201, lambda w, crud: crud.create(w, kind, call.data, _fixed(parent, w, crud)))

    return {"GET": lambda call: _list(call, kind, parent), "POST": post}


def _entity(kind: EntityKind, key: str, parent: _Parent | None) -> Methods:
    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            fixed = _fixed(parent, reader, call.crud)
            row = found(reader, call.crud, kind, key, fixed)
            call.crud.must_be_under(row, fixed)
            shown = call.crud.shown(reader, kind, row)
        return Answer(200, _noted(call, kind, [shown])[0])

    def put(call: Call) -> Answer:
        return call.write(200, lambda w, crud: crud.upsert(w, kind, key, call.data, _fixed(parent, w, crud)))

    def patch(call: Call) -> Answer:
        return call.write(200, lambda w, crud: crud.patch(w, kind, key, call.data, _fixed(parent, w, crud)))

    def delete(call: Call) -> Answer:
        return call.write(204, lambda w, crud: crud.delete(w, kind, key, _fixed(parent, w, crud)))

    return {"GET": get, "PUT": put, "PATCH": patch, "DELETE": delete}


def _referenced(kind: EntityKind, key: str, reference: str) -> Methods:
    """The entity that another one references, as in /routes/{x}/service."""
    target = KINDS[kind.foreign[reference]]

    def target_id(reader: StoreReader, crud: Crud) -> str:
        row = crud.find(reader, kind, key)
        if row is None or not row.body[reference]:
            raise envelope.not_found()
        return str(row.body[reference]["id"])

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            row = found(reader, call.crud, target, target_id(reader, call.crud))
            shown = call.crud.shown(reader, target, row)
        return Answer(200, _noted(call, target, [shown])[0])

    def replace(session: WriteSession, crud: Crud, data: JsonDict) -> JsonDict:
        """An entity that references none gets a new one, as in Kong."""
        row = found(session, crud, kind, key)
        if there := row.body[reference]:
            return crud.upsert(session, target, there["id"], data, {})
        own = data.get("id")
        made = crud.upsert(session, target, own if isinstance(own, str) and is_uuid(own) else str(uuid4()), data, {})
        crud.patch(session, kind, row.id, {reference: {"id": made["id"]}}, {})
        return made

    def put(call: Call) -> Answer:
        return call.write(200, lambda w, crud: replace(w, crud, call.data))

    def patch(call: Call) -> Answer:
        return call.write(200, lambda w, crud: crud.patch(w, target, target_id(w, crud), call.data, {}))

    return {"GET": get, "PUT": put, "PATCH": patch}


def _list(call: Call, kind: EntityKind, parent: _Parent | None) -> Answer:
    where: dict[str, Any] = {}
    if kind.name == "consumers" and "custom_id" in call.query:
        where["custom_id"] = call.query["custom_id"]
    with call.admin.store.reading() as reader:
        where |= _fixed(parent, reader, call.crud)
        page = page_of(call, reader, kind, where, call.crud.shown_of(reader, kind), nested=parent is not None)
    _noted(call, kind, page["data"])
    return Answer(200, page)


def _noted(call: Call, kind: EntityKind, shown: list[JsonDict]) -> list[JsonDict]:
    """The same entities, after a line in the log if keys are among them."""
    fields = hooks_of(kind).key_fields if call.admin.shows_keys else ()
    keys = sum(bool(one.get(field)) and not one[field].startswith(VAULT) for one in shown for field in fields)
    if keys:
        call.admin.log("keys_shown", path=without_key(call.path), keys=keys, **call.caller._asdict())
    return shown


def _tags(call: Call, tag: str | None = None) -> Answer:
    size = envelope.page_size(call.query)
    offset = envelope.page_offset(call.query).split("\n")
    after = (offset[0], offset[1], offset[2]) if len(offset) == 3 else ("", "", "")
    with call.admin.store.reading() as reader:
        rows = reader.tags(size + 1, after, tag)
    data = [
        {"entity_name": TAGGED_AS.get(kind, kind), "entity_id": key, "tag": name} for name, kind, key in rows[:size]
    ]
    last = "\n".join(rows[size - 1]) if len(rows) > size else None
    keep = {"size": call.query["size"]} if "size" in call.query else {}
    return Answer(200, envelope.page(data, last, call.path, keep))


def _limits(call: Call, key: str) -> Answer:
    with call.admin.store.reading() as reader:
        row = found(reader, call.crud, KINDS["consumers"], key)
        return Answer(200, {"data": limits.limits(call.admin, reader, row, call.now)})


def _schemas(rest: list[str]) -> Methods | None:
    def validate(kind: EntityKind) -> Handler:
        def handler(call: Call) -> Answer:
            with call.admin.store.reading() as reader:
                call.crud.check(reader, kind, call.data)
            return Answer(200, {"message": "schema validation successful"})

        return handler

    match rest:
        case ["plugins", "validate"]:
            return {"POST": validate(KINDS["plugins"])}
        case ["plugins", name]:
            schema = info.plugin_schema(name)
            wrong = Refusal(404, {"message": f"No plugin named '{name[:128]}'"})
        case ["consumer_groups", "validate"]:
            return {"POST": validate(KINDS["tiers"])}
        case [name, "validate"] if name in tiers.SPECS:
            return {"POST": lambda call: _validate_spec(call, name)}
        case [name, "validate"] if name in KINDS:
            return {"POST": validate(KINDS[name])}
        case [name, "validate"]:
            raise _no_entity(name)
        case [name]:
            schema = info.schema(name)
            wrong = _no_entity(name)
        case _:
            return None

    def get(_: Call) -> Answer:
        if schema is None:
            raise wrong
        return Answer(200, schema)

    return {"GET": get}


def _no_entity(name: str) -> Refusal:
    return Refusal(404, {"message": f"No entity named '{name[:128]}'"})


def _validate_spec(call: Call, name: str) -> Answer:
    tiers.check_spec(name, call.data)
    return Answer(200, {"message": "schema validation successful"})


def _ready(call: Call) -> Answer:
    checks = info.readiness(call.admin)
    status = 200 if all(checks.values()) else 503
    word = "passed" if status == 200 else "failed"
    if "verbose" not in call.query and status == 200:
        return Answer(status, "ok")
    lines = [f"[{'+' if ok else '-'}]{name} {'ok' if ok else 'failed'}" for name, ok in checks.items()]
    if not checks["ledger"] and (why := call.admin.ledger_status().error):
        lines[list(checks).index("ledger")] = f"[-]ledger refuses calls: {why}"
    if checks["snapshot"] and (behind := call.admin.publication.in_force.error):
        # Workers still serve the snapshot in force: a 503 would make a load balancer turn this into an outage.
        lines[list(checks).index("snapshot")] = f"[!]snapshot behind the store: {behind}"
    if (
        checks["store"] and call.admin.store.is_locked()
    ):  # calls need no store, so this is no reason to take them elsewhere
        lines[list(checks).index("store")] = f"[!]store is locked by another process: {sqlite.UNLOCK}"
    return Answer(status, "\n".join([*lines, f"readyz check {word}"]) + "\n")


def _endpoints(_: Call) -> Answer:
    data = ["/", *(f"/{name}" for name in (*_PLAIN, *EMPTY)), "/plugins/enabled", "/tags/{tags}"]
    data += ["/schemas/{name}", "/schemas/{name}/validate", "/schemas/plugins/{plugin}", "/schemas/plugins/validate"]
    data += [
        "/config/diff",
        "/config/history",
        "/audit/ledger",
        "/usage/events",
        "/usage/events/{request_id}",
        "/consumers/{consumers}/limits",
        "/consumers/{consumers}/consumer_groups",
    ]
    data += ["/consumers/{consumers}/consumer_groups/{consumer_groups}", "/consumer_groups"]
    data += [
        f"/consumer_groups/{{consumer_groups}}{rest}"
        for rest in ("", "/consumers", "/consumers/{consumers}", "/plugins", "/plugins/{plugins}")
    ]
    data += [f"/upstreams/{{upstreams}}{rest}" for rest in ("/health", "/targets/all")]
    data += [f"/upstreams/{{upstreams}}/targets/{{targets}}/{word}" for word in ("healthy", "unhealthy")]
    data += [f"/{name}{rest}" for name in tiers.SPECS for rest in ("", f"/{{{name}}}")]
    for url, kind in COLLECTIONS.items():
        data += [
            f"/{url}",
            f"/{url}/{{{kind.name}}}",
            *(f"/{url}/{{{kind.name}}}/{name}" for name in kind.foreign if KINDS[kind.foreign[name]].served),
        ]
    for (url, child_url), (parent, child, _reference) in CHILDREN.items():
        data += [f"/{url}/{{{parent.name}}}/{child_url}", f"/{url}/{{{parent.name}}}/{child_url}/{{{child.name}}}"]
    return Answer(200, {"data": sorted(data), "next": None})


_PLAIN: Final[Mapping[str, Methods]] = {
    "status": {"GET": lambda call: Answer(200, info.status(call.admin))},
    "metrics": {"GET": lambda call: Answer(200, call.admin.metrics())},
    "livez": {"GET": lambda _: Answer(200, "ok")},
    "readyz": {"GET": _ready},
    "endpoints": {"GET": _endpoints},
    "config": config.CONFIG,
    "tags": {"GET": _tags},
    "usage": usage.USAGE,
    "denials": usage.DENIALS,
    "prices": usage.PRICES,
}
