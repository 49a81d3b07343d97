"""Which path is what. In: the path's segments. Out: its methods, each a function of a `Call`; None: no such path.

Nested paths follow from the entities' references, both ways: /services/{x}/routes and /routes/{x}/service.
Handlers run on a thread; a write returns at once with the future of its group.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from aigw.admin import envelope, info, limits
from aigw.admin.context import Admin
from aigw.admin.crud import Crud
from aigw.admin.envelope import Refusal
from aigw.control.entities import KINDS, Kind
from aigw.control.store import Reading, Row, Writing
from aigw.plugins import PLUGINS
from aigw.types import JsonDict


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read: `now` in unix seconds, `path` without a trailing slash."""

    admin: Admin
    data: JsonDict
    query: Mapping[str, str]
    path: str
    now: int

    @property
    def crud(self) -> Crud:
        """The engine at this moment."""
        return Crud(self.admin.publisher, self.now)

    def write(self, status: int, operation: Callable[[Writing, Crud], Any]) -> "Answer":
        """Run on the writer; the answer's body is what the operation returns."""
        return Answer(status, None, self.admin.writer.submit(lambda writing: operation(writing, self.crud)))


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, and JSON (or text, or nothing): at once, or when the future of a write is done."""

    status: int
    body: Any = None
    pending: "Future[Any] | None" = field(default=None)


Handler = Callable[[Call], Answer]
Methods = Mapping[str, Handler]

COLLECTIONS: Final = {kind.url: kind for kind in KINDS.values()}
CHILD_URLS: Final = {"keyauth_credentials": "key-auth"}
CHILDREN: Final = {
    (KINDS[target].url, CHILD_URLS.get(kind.name, kind.url)): (KINDS[target], kind, name)
    for kind in KINDS.values()
    for name, target in kind.foreign.items()
}
"""(parent's segment, child's segment) -> (parent, child, the child's reference)."""
EMPTY: Final = ("upstreams", "targets", "certificates", "ca_certificates", "snis", "vaults", "keys", "key-sets")
"""Collections that Kong's clients always list, and that are always empty here."""


def find(segments: list[str]) -> Methods | None:
    """The methods of a path."""
    match segments:
        case [""]:
            return {"GET": lambda call: Answer(200, info.root(call.admin))}
        case [name] if name in _PLAIN:
            return _PLAIN[name]
        case ["plugins", "enabled"]:
            return {"GET": lambda _: Answer(200, {"enabled_plugins": sorted(PLUGINS)})}
        case ["tags", tag]:
            return {"GET": lambda call: _tags(call, tag)}
        case ["schemas", *rest]:
            return _schemas(rest)
        case ["consumers", key, "limits"]:
            return {"GET": lambda call: _limits(call, key)}
        case [name] if name in EMPTY:
            return {"GET": lambda _: Answer(200, {"data": [], "next": None}), "POST": lambda _: _refuse_write(name)}
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
        case [name, key, reference] if name in COLLECTIONS and reference in COLLECTIONS[name].foreign:
            return _referenced(COLLECTIONS[name], key, reference)
    return None


@dataclass(frozen=True, slots=True)
class _Parent:
    """The entity that a nested path hangs from."""

    kind: Kind
    key: str
    reference: str

    def row(self, reading: Reading, crud: Crud) -> Row:
        """Raises 404."""
        row = crud.find(reading, self.kind, self.key)
        if row is None:
            raise envelope.not_found()
        return row


def _fixed(parent: _Parent | None, reading: Reading, crud: Crud) -> dict[str, str]:
    return {} if parent is None else {parent.reference: parent.row(reading, crud).id}


def _collection(kind: Kind, parent: _Parent | None) -> Methods:
    def post(call: Call) -> Answer:
        return call.write(201, lambda w, crud: crud.create(w, kind, call.data, _fixed(parent, w, crud)))

    return {"GET": lambda call: _list(call, kind, parent), "POST": post}


def _entity(kind: Kind, key: str, parent: _Parent | None) -> Methods:
    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reading:
            fixed = _fixed(parent, reading, call.crud)
            row = call.crud.find(reading, kind, key)
        if row is None or any((row.body[f] or {}).get("id") != owner for f, owner in fixed.items()):
            raise envelope.not_found()
        return Answer(200, call.crud.shown(kind, row))

    def put(call: Call) -> Answer:
        return call.write(200, lambda w, crud: crud.upsert(w, kind, key, call.data, _fixed(parent, w, crud)))

    def patch(call: Call) -> Answer:
        return call.write(200, lambda w, crud: crud.patch(w, kind, key, call.data, _fixed(parent, w, crud)))

    def delete(call: Call) -> Answer:
        return call.write(204, lambda w, crud: crud.delete(w, kind, key, _fixed(parent, w, crud)))

    return {"GET": get, "PUT": put, "PATCH": patch, "DELETE": delete}


def _referenced(kind: Kind, key: str, reference: str) -> Methods:
    """The other way: the entity that one refers to."""
    target = KINDS[kind.foreign[reference]]

    def target_id(reading: Reading, crud: Crud) -> str:
        row = crud.find(reading, kind, key)
        if row is None or not row.body[reference]:
            raise envelope.not_found()
        return str(row.body[reference]["id"])

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reading:
            row = reading.get(target.name, "id", target_id(reading, call.crud), call.now)
        if row is None:
            raise envelope.not_found()
        return Answer(200, call.crud.shown(target, row))

    def put(call: Call) -> Answer:
        return call.write(200, lambda w, crud: crud.upsert(w, target, target_id(w, crud), call.data, {}))

    def patch(call: Call) -> Answer:
        return call.write(200, lambda w, crud: crud.patch(w, target, target_id(w, crud), call.data, {}))

    return {"GET": get, "PUT": put, "PATCH": patch}


def _list(call: Call, kind: Kind, parent: _Parent | None) -> Answer:
    size, after = envelope.page_size(call.query), envelope.page_offset(call.query)
    tags = envelope.tag_filter(call.query)
    where: dict[str, Any] = {}
    if kind.name == "consumers" and "custom_id" in call.query:
        where["custom_id"] = call.query["custom_id"]
    with call.admin.store.reading() as reading:
        where |= _fixed(parent, reading, call.crud)
        rows = reading.page(kind.name, call.now, size + 1, after, where, tags)
    rows, last = envelope.cut(rows, size)
    keep = {} if parent is not None else {k: call.query[k] for k in ("tags", "size") if k in call.query}
    return Answer(200, envelope.page([call.crud.shown(kind, r) for r in rows], last, call.path, keep))


def _tags(call: Call, tag: str | None = None) -> Answer:
    size = envelope.page_size(call.query)
    offset = envelope.page_offset(call.query).split("\n")
    after = (offset[0], offset[1], offset[2]) if len(offset) == 3 else ("", "", "")
    with call.admin.store.reading() as reading:
        rows = reading.tags(size + 1, after, tag)
    data = [{"entity_name": kind, "entity_id": key, "tag": name} for name, kind, key in rows[:size]]
    last = "\n".join(rows[size - 1]) if len(rows) > size else None
    keep = {"size": call.query["size"]} if "size" in call.query else {}
    return Answer(200, envelope.page(data, last, call.path, keep))


def _limits(call: Call, key: str) -> Answer:
    with call.admin.store.reading() as reading:
        row = call.crud.find(reading, KINDS["consumers"], key)
        if row is None:
            raise envelope.not_found()
        return Answer(200, {"data": limits.limits(call.admin, reading, row, call.now)})


def _schemas(rest: list[str]) -> Methods | None:
    def validate(kind: Kind) -> Handler:
        def handler(call: Call) -> Answer:
            with call.admin.store.reading() as reading:
                call.crud.check(reading, kind, call.data)
            return Answer(200, {"message": "schema validation successful"})

        return handler

    match rest:
        case ["plugins", "validate"]:
            return {"POST": validate(KINDS["plugins"])}
        case ["plugins", name]:
            schema = info.plugin_schema(name)
            wrong = Refusal(404, {"message": f"No plugin named '{name[:128]}'"})
        case [name, "validate"] if name in KINDS:
            return {"POST": validate(KINDS[name])}
        case [name]:
            schema = info.schema(name)
            wrong = Refusal(404, {"message": f"No entity named '{name[:128]}'"})
        case _:
            return None

    def get(_: Call) -> Answer:
        if schema is None:
            raise wrong
        return Answer(200, schema)

    return {"GET": get}


def _refuse_write(name: str) -> Answer:
    raise envelope.unsupported(f"cannot create '{name}' entities: not supported in this version")


def _ready(call: Call) -> Answer:
    checks = info.readiness(call.admin)
    status = 200 if all(checks.values()) else 503
    word = "passed" if status == 200 else "failed"
    if "verbose" not in call.query and status == 200:
        return Answer(status, "ok")
    lines = [f"[{'+' if ok else '-'}]{name} {'ok' if ok else 'failed'}" for name, ok in checks.items()]
    return Answer(status, "\n".join([*lines, f"readyz check {word}"]) + "\n")


def _endpoints(_: Call) -> Answer:
    found = ["/", *(f"/{name}" for name in (*_PLAIN, *EMPTY)), "/plugins/enabled", "/tags/{tags}"]
    found += ["/schemas/{name}", "/schemas/{name}/validate", "/schemas/plugins/{plugin}", "/schemas/plugins/validate"]
    found += ["/consumers/{consumers}/limits"]
    for url, kind in COLLECTIONS.items():
        found += [f"/{url}", f"/{url}/{{{kind.name}}}", *(f"/{url}/{{{kind.name}}}/{name}" for name in kind.foreign)]
    for (url, child_url), (parent, child, _reference) in CHILDREN.items():
        found += [f"/{url}/{{{parent.name}}}/{child_url}", f"/{url}/{{{parent.name}}}/{child_url}/{{{child.name}}}"]
    return Answer(200, {"data": sorted(found), "next": None})


_PLAIN: Final[Mapping[str, Methods]] = {
    "status": {"GET": lambda call: Answer(200, info.status(call.admin))},
    "metrics": {"GET": lambda call: Answer(200, call.admin.metrics())},
    "livez": {"GET": lambda _: Answer(200, "ok")},
    "readyz": {"GET": _ready},
    "endpoints": {"GET": _endpoints},
    "tags": {"GET": _tags},
}
