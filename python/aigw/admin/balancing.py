"""`/upstreams/{u}/health`, all targets of an upstream, and the marks of operators on targets.

Health comes from the workers' connections: a target is unhealthy while a worker cannot connect to it, or while it is marked. Failures by status
are each worker's own and do not show here. Marks last as long as the control process, as in Kong.
"""

from typing import Any

from aigw.admin.call import Answer, Call, Methods, found
from aigw.admin.change_log import Told
from aigw.admin.crud import Crud
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import SETTINGS, Change, Row
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, KongUpstream, Target
from aigw.entities.target import address
from aigw.types import JsonDict

UPSTREAMS, TARGETS = KINDS["upstreams"], KINDS["targets"]


def below(key: str, rest: list[str]) -> Methods | None:
    """The methods of the paths below an upstream that no other entity has."""
    match rest:
        case ["health"]:
            return health(key)
        case ["targets", "all"]:
            return all_targets(key)
        case ["targets", target, "healthy" | "unhealthy" as word]:
            return mark(key, target, word == "unhealthy")
        case ["targets", target, _address, "healthy" | "unhealthy" as word]:
            return mark(key, target, word == "unhealthy")
    return None


def health(key: str) -> Methods:
    """GET /upstreams/{u}/health; with `balancer_health=1` of the upstream as a whole."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            row = found(reader, call.crud, UPSTREAMS, key)
            rows = _targets(call, reader, row)
        upstream, words = KongUpstream.model_validate(row.body), _health(call, rows)
        is_on = upstream.healthchecks.is_on
        page: JsonDict = {"next": None, "node_id": call.admin.store.store_id}
        if call.query.get("balancer_health") == "1":
            whole = "HEALTHCHECKS_OFF" if not is_on else "HEALTHY" if any(words.values()) else "UNHEALTHY"
            facts = {"id": row.id, "name": upstream.name, "created_at": upstream.created_at, "health": whole}
            return Answer(200, {"data": facts, **page})
        return Answer(200, {"data": [_shown(target, words[target.id], is_on) for target in rows], **page})

    return {"GET": get}


def all_targets(key: str) -> Methods:
    """GET /upstreams/{u}/targets/all."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            rows = _targets(call, reader, found(reader, call.crud, UPSTREAMS, key))
        return Answer(200, {"data": [row.body for row in rows], "next": None})

    return {"GET": get}


def mark(key: str, target: str, is_unhealthy: bool) -> Methods:
    """PUT (and POST, as older clients do) /upstreams/{u}/targets/{t}/healthy and /unhealthy."""

    def write(call: Call) -> Answer:
        lines: list[Told] = []

        def run(session: WriteSession, crud: Crud) -> None:
            upstream = found(session, crud, UPSTREAMS, key)
            row = found(session, crud, TARGETS, target, {"upstream": upstream.id})
            crud.must_be_under(row, {"upstream": upstream.id})
            world = call.admin.publication.world
            world.marked = world.marked | {row.id} if is_unhealthy else world.marked - {row.id}
            session.changes.append(Change(SETTINGS, None, None))
            lines[:] = [Told("unhealthy" if is_unhealthy else "healthy", TARGETS.name, row)]

        answer = call.write(204, run)
        call.log_when_done(answer, lines)
        return answer

    return {"PUT": write, "POST": write}


def _targets(call: Call, reader: StoreReader, upstream: Row) -> list[Row]:
    return reader.page(TARGETS.name, call.now, 10_000, where={"upstream": upstream.id})


def _health(call: Call, rows: list[Row]) -> dict[str, bool]:
    """Whether each target, by its id, gets requests."""
    places = {row.body["target"] for row in rows}
    down = {str(outage["upstream"]) for outage in call.admin.publisher.outages(sorted(places))}
    marked = call.admin.publication.world.marked
    return {row.id: row.id not in marked and row.body["target"] not in down for row in rows}


def _shown(row: Row, is_well: bool, is_on: bool) -> JsonDict:
    target = Target.model_validate(row.body)
    host, port = address(target.target)
    word = "HEALTHCHECKS_OFF" if not is_on else "HEALTHY" if is_well else "UNHEALTHY"
    available = target.weight if is_well or not is_on else 0
    place: dict[str, Any] = {"ip": host, "port": port, "weight": target.weight, "health": word}
    return {
        **row.body,
        "health": word,
        "data": {
            "host": host,
            "port": port,
            "nodeWeight": target.weight,
            "weight": {"total": target.weight, "available": available, "unavailable": target.weight - available},
            "addresses": [place],
        },
    }
