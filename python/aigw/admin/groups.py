"""`/consumer_groups`, and `consumer_groups` of a consumer: tiers in the form that Kong's clients expect.

A group is a tier without its spec; a new group has no limits. A consumer has one tier: joining a group leaves the previous one.
Lists carry two names for their items, because versions of Kong's clients read different ones.
"""

from typing import Any, Final

from aigw.admin import envelope
from aigw.admin.call import Answer, Call, Methods, found, page_of
from aigw.admin.crud import Crud
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS
from aigw.schema.violations import SchemaViolation
from aigw.types import JsonDict

TIERS, CONSUMERS, PLUGINS = KINDS["tiers"], KINDS["consumers"], KINDS["plugins"]
MOST_PLUGINS: Final = 100
"""Plugins in the answer about one group, which has at most one of each kind."""


def collection() -> Methods:
    """GET and POST /consumer_groups."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            return Answer(200, page_of(call, reader, TIERS, {}, call.crud.shown_of(reader, TIERS), nested=False))

    return {"GET": get, "POST": lambda call: call.write(201, lambda w, c: c.create(w, TIERS, _group(call.data), {}))}


def group(key: str) -> Methods:
    """One group. GET includes its consumers."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            row = found(reader, call.crud, TIERS, key)
            listed = call.query.get("list_consumers") != "false"
            members = [m.body for m in reader.members(row.id)] if listed else []
            rows = reader.page(PLUGINS.name, call.now, MOST_PLUGINS, where={"consumer_group": row.id})
            own = [call.crud.shown(reader, PLUGINS, one) for one in rows]
            shown = call.crud.shown(reader, TIERS, row)
        return Answer(200, {"consumer_group": shown, "consumers": members, "plugins": own})

    def put(session: WriteSession, crud: Crud, data: JsonDict) -> JsonDict:
        row = crud.find(session, TIERS, key)
        given = _group(data)
        if row is not None:
            given = type(data)({**given, "spec": row.body["spec"]})
        return crud.upsert(session, TIERS, key, given, {})

    return {
        "GET": get,
        "PUT": lambda call: call.write(200, lambda w, c: put(w, c, call.data)),
        "PATCH": lambda call: call.write(200, lambda w, c: c.patch(w, TIERS, key, _group(call.data), {})),
        "DELETE": lambda call: call.write(204, lambda w, c: c.delete(w, TIERS, key, {})),
    }


def members(key: str) -> Methods:
    """/consumer_groups/{key}/consumers."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            row = found(reader, call.crud, TIERS, key)
            page = page_of(call, reader, CONSUMERS, {"tier": row.id}, lambda r: r.body, nested=True)
        return Answer(200, {**page, "consumers": page["data"]})

    def post(session: WriteSession, crud: Crud, data: JsonDict) -> JsonDict:
        row = found(session, crud, TIERS, key)
        joined = [found(session, crud, CONSUMERS, name) for name in _names(data, "consumer")]
        for consumer in joined:
            session.join(consumer, row.id)
        return {"consumer_group": crud.shown(session, TIERS, row), "consumers": [c.body for c in joined]}

    def delete(session: WriteSession, crud: Crud) -> None:
        session.leave(found(session, crud, TIERS, key).id)

    return {
        "GET": get,
        "POST": lambda call: call.write(201, lambda w, c: post(w, c, call.data)),
        "DELETE": lambda call: call.write(204, delete),
    }


def of_consumer(key: str) -> Methods:
    """/consumers/{key}/consumer_groups."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            row = found(reader, call.crud, CONSUMERS, key)
            tier = reader.get(TIERS.name, "id", row.tier, call.now) if row.tier else None
            groups = [call.crud.shown(reader, TIERS, tier)] if tier else []
        return Answer(200, {"data": groups, "consumer_groups": groups, "next": None})

    def post(session: WriteSession, crud: Crud, data: JsonDict) -> JsonDict:
        consumer = found(session, crud, CONSUMERS, key)
        names = _names(data, "group")
        if len(names) != 1:
            raise envelope.schema_violation(SchemaViolation({"group": "expected one group: a consumer has one tier"}))
        row = found(session, crud, TIERS, names[0])
        session.join(consumer, row.id)
        return {"consumer": consumer.body, "consumer_groups": [crud.shown(session, TIERS, row)]}

    def delete(session: WriteSession, crud: Crud) -> None:
        session.join(found(session, crud, CONSUMERS, key), None)

    return {
        "GET": get,
        "POST": lambda call: call.write(201, lambda w, c: post(w, c, call.data)),
        "DELETE": lambda call: call.write(204, delete),
    }


def membership(group_key: str, consumer_key: str, shown: str) -> Methods:
    """One consumer in one group, from either side. `shown` selects the entity that GET returns: "consumer" or "consumer_group"."""

    def pair(reader: StoreReader, crud: Crud) -> tuple[Row, Row]:
        return found(reader, crud, TIERS, group_key), found(reader, crud, CONSUMERS, consumer_key)

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            tier, consumer = pair(reader, call.crud)
            if consumer.tier != tier.id:
                raise envelope.not_found()
            body = consumer.body if shown == "consumer" else call.crud.shown(reader, TIERS, tier)
        return Answer(200, {shown: body})

    def leave(session: WriteSession, crud: Crud) -> None:
        """A client that moves a consumer joins the new group first, which ends this membership: to delete it is done already."""
        tier, consumer = pair(session, crud)
        if consumer.tier == tier.id:
            session.join(consumer, None)

    return {"GET": get, "DELETE": lambda call: call.write(204, leave)}


def _group(data: JsonDict) -> JsonDict:
    """The fields of a group. Raises a Refusal for `spec`, which only /tiers can set."""
    if "spec" in data:
        raise envelope.schema_violation(SchemaViolation({"spec": "unknown field"}))
    return data


def _names(data: JsonDict, field: str) -> list[str]:
    """The names or ids in a body like `{"consumer": "bob"}`, or a list of them."""
    fields: JsonDict = {k: "unknown field" for k in data if k != field}
    value = data.get(field)
    names: list[Any] = value if isinstance(value, list) else [value]
    if value is None or not names:
        fields[field] = "required field missing"
    elif not all(isinstance(n, str) and n for n in names):
        fields[field] = "expected a string"
    if fields:
        raise envelope.schema_violation(SchemaViolation(fields))
    return names
