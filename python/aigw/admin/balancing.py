"""`/upstreams/{u}/health`, all targets of an upstream, and the marks of operators on targets.

A marked target gets no requests and is unhealthy, with health checks or without. With them a target is unhealthy, too, while a worker cannot
connect to it; failures by status are each worker's own and do not show here. Marks last as long as the control process, as in Kong.
"""

from typing import Any, Final

from aigw.admin.call import Answer, Call, Methods, found
from aigw.admin.change_log import Told
from aigw.admin.crud import Crud
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import SETTINGS, Change, Row
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, KongUpstream, Target
from aigw.entities.target import address, place_of
from aigw.types import JsonDict

UPSTREAMS, TARGETS = KINDS["upstreams"], KINDS["targets"]
OFF: Final = "HEALTHCHECKS_OFF"
HEALTHY: Final = "HEALTHY"
UNHEALTHY: Final = "UNHEALTHY"


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
        upstream = KongUpstream.model_validate(row.body)
        words = _health(call, rows, is_on=upstream.healthchecks.is_on)
        page: JsonDict = {"next": None, "node_id": call.admin.store.store_id}
        if call.query.get("balancer_health") == "1":
            seen = set(words.values())
            nothing = UNHEALTHY if upstream.healthchecks.is_on else OFF
            whole = next((word for word in (HEALTHY, OFF, UNHEALTHY) if word in seen), nothing)
            facts = {"id": row.id, "name": upstream.name, "created_at": upstream.created_at, "health": whole}
            return Answer(200, {"data": facts, **page})
        return Answer(200, {"data": [_shown(target, words[target.id]) for target in rows], **page})

    return {"GET": get}


def all_targets(key: str) -> Methods:
    """GET /upstreams/{u}/targets/all."""

    def get(call: Call) -> Answer:
        with call.admin.store.reading() as reader:
            rows = _targets(call, reader, found(reader, call.crud, UPSTREAMS, key))
        return Answer(200, {"data": [call.crud.shown(reader, TARGETS, row) for row in rows], "next": None})

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
            place = {place_of(Target.model_validate(row.body))}
            world.marked = world.marked | place if is_unhealthy else world.marked - place
            session.changes.append(Change(SETTINGS, None, None))
            lines[:] = [Told("unhealthy" if is_unhealthy else "healthy", TARGETS.name, row)]

        answer = call.write(204, run)
        call.log_when_done(answer, lines)
        return answer

    return {"PUT": write, "POST": write}


def _targets(call: Call, reader: StoreReader, upstream: Row) -> list[Row]:
    return reader.page(TARGETS.name, call.now, 10_000, where={"upstream": upstream.id})


def _health(call: Call, rows: list[Row], *, is_on: bool) -> dict[str, str]:
    """The word for each target, by its id. `is_on`: whether a failure can take a target out."""
    places = {row.id: place_of(Target.model_validate(row.body)) for row in rows}
    outages = call.admin.publisher.outages(sorted({place.address for place in places.values()})) if is_on else []
    down = {str(outage["upstream"]) for outage in outages}
    marked = call.admin.publication.world.marked
    out = {key for key, place in places.items() if place in marked or place.address in down}
    return {key: UNHEALTHY if key in out else HEALTHY if is_on else OFF for key in places}


def _shown(row: Row, word: str) -> JsonDict:
    target = Target.model_validate(row.body)
    host, port = address(target.target)
    available = 0 if word == UNHEALTHY else target.weight
    place: dict[str, Any] = {"ip": host, "port": port, "weight": target.weight, "health": word}
    return {
        **target.model_dump(mode="json"),
        "health": word,
        "data": {
            "host": host,
            "port": port,
            "nodeWeight": target.weight,
            "weight": {"total": target.weight, "available": available, "unavailable": target.weight - available},
            "addresses": [place],
        },
    }
