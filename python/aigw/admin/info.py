"""The gateway's descriptions of itself: `/`, `/status`, `/readyz`, `/endpoints`, `/plugins/enabled`, `/schemas`.

In: the context. Out: JSON. Comments mark the values on which Kong's clients base decisions.
"""

import os
import socket
from typing import Any, Final

import orjson

from aigw import __version__
from aigw.admin.context import Admin
from aigw.admin.tiers import SPECS
from aigw.control.publish import upstreams
from aigw.entities import KINDS
from aigw.errors import StoreError
from aigw.plugins import KONG_VERSION, PLUGINS
from aigw.schema.describe import describe
from aigw.types import HostPort, JsonDict

REFUSES: Final = frozenset({"full", "displaced"})
"""States of a worker's ledger in which the worker admits no call."""


def root(admin: Admin) -> JsonDict:
    """GET /."""
    enabled = {p.name for p in admin.publication.world.plugins.values()}
    with admin.store.reading() as reader:
        enabled |= {p["name"] for p in reader.consumer_plugins()} if len(enabled) < len(PLUGINS) else set()
    return {
        "tagline": "Welcome to aigw",
        "version": KONG_VERSION,
        "aigw_version": __version__,
        "edition": "community",
        "hostname": socket.gethostname(),
        "node_id": admin.store.store_id,
        "lua_version": "none",
        "timers": {"running": 0, "pending": 0},
        "plugins": {
            "available_on_server": {
                p.name: {"version": KONG_VERSION, "priority": p.priority} for p in PLUGINS.values()
            },
            "enabled_in_cluster": sorted(enabled),
        },
        "configuration": {
            # To Kong's clients any value except "off" means that this API can write entities.
            "database": "postgres",
            "router_flavor": "traditional_compatible",
            "role": "traditional",
            "admin_listeners": [_listener(admin.admin_address)],
            "proxy_listeners": _proxy_listeners(admin),
            "loaded_plugins": dict.fromkeys(PLUGINS, True),
        },
        "pids": {"master": os.getppid(), "workers": [s["pid"] for s in admin.publisher.slots()]},
    }


def status(admin: Admin) -> JsonDict:
    """GET /status."""
    slots = admin.publisher.slots()
    in_flight = sum(int(s["in_flight"]) for s in slots)
    return {
        "database": {"reachable": _reachable(admin) and not admin.store.is_locked()},
        "memory": {"workers_lua_vms": [], "lua_shared_dicts": {}},
        "server": {
            "connections_accepted": 0,
            "connections_active": in_flight,
            "connections_handled": 0,
            "connections_reading": 0,
            "connections_waiting": 0,
            "connections_writing": in_flight,
            "total_requests": admin.publisher.total_requests(list(admin.publication.labels().routes)),
        },
        "workers": slots,
        "upstreams": {"down": upstreams_down(admin)},
        "configuration": configuration(admin),
        "ledger": admin.ledger_status()._asdict(),
    }


def upstreams_down(admin: Admin) -> list[JsonDict]:
    """The upstreams of the configuration that a worker cannot connect to; `since` in unix seconds."""
    world = admin.publication.world
    models, services = upstreams.by_models(world), upstreams.by_services(world)
    return [
        {
            "upstream": row["upstream"],
            "models": sorted(models.get(row["upstream"], [])),
            "services": sorted(services.get(row["upstream"], [])),
            "since": row["since_ms"] / 1000,
            "reason": row["reason"],
            "workers": row["workers"],
        }
        for row in admin.publisher.outages(sorted(models.keys() | services.keys()))
    ]


def configuration(admin: Admin) -> JsonDict:
    """The configuration in force, from the file or the Admin API, and the error of the last load."""
    now, stamp, wrong = admin.publication.in_force, admin.configuration.stamp, admin.configuration.error
    error: JsonDict | None = None
    if now.error:
        error = {"file": None, "line": None, "col": None, "message": now.error, "at": now.failed_at}
    elif wrong is not None:
        error = {"file": wrong.file, "line": wrong.line, "col": wrong.col, "message": wrong.message, "at": wrong.at}
    return {
        "hash": now.hash if stamp is None else stamp.hash,
        "generation": now.generation,
        "source": "admin" if stamp is None else stamp.source,
        "loaded_at": now.loaded_at if stamp is None else stamp.loaded_at,
        "error": error,
        "notice": None if admin.configuration.kept is None else admin.configuration.kept.message,
    }


def readiness(admin: Admin) -> dict[str, bool]:
    """GET /readyz: whether store, snapshot, workers and ledger are ready."""
    slots = admin.publisher.slots()
    return {
        "store": _reachable(admin),
        "snapshot": admin.publication.in_force.generation > 0,
        "workers": _serve(slots),
        "ledger": not any(slot["ledger"] in REFUSES for slot in slots),
    }


def _serve(slots: list[dict[str, Any]]) -> bool:
    """Whether a worker serves, and none stands still: the kernel gives connections to that one, too."""
    states = {slot["state"] for slot in slots}
    return "ready" in states and "silent" not in states


def schema(name: str) -> JsonDict | None:
    """GET /schemas/{entity}: the schema in Kong's form, or None for an unknown entity."""
    if name in SPECS:
        return {"fields": describe(SPECS[name])["fields"], "entity_checks": []}
    if name == "consumer_groups":
        fields = [f for f in describe(KINDS["tiers"].model)["fields"] if "spec" not in f]
        return {"fields": fields, "entity_checks": []}
    if name == "tags":  # no entity of the store: rows of `GET /tags`
        fields = [{field: {"type": "string", "required": True}} for field in ("tag", "entity_name", "entity_id")]
        return {"fields": fields, "entity_checks": []}
    if name in KINDS:
        return {"fields": describe(KINDS[name].model)["fields"], "entity_checks": []}
    return None


def plugin_schema(name: str) -> JsonDict | None:
    """GET /schemas/plugins/{name}."""
    kind = PLUGINS.get(name)
    if kind is None:
        return None
    shorthands: list[dict[str, Any]] = []
    inner = {k: v for field in describe(kind.config)["fields"] for k, v in field.items()}
    for alias, (record, member) in kind.aliases.items():
        found = next(f[member] for f in inner[record]["fields"] if member in f)
        deprecation = {
            "replaced_with": [{"path": [record, member]}],
            "message": f"{name}: config.{alias} is deprecated, please use config.{record}.{member} instead",
            "removal_in_version": "4.0",
        }
        shorthands.append({alias: {"type": found["type"], "deprecation": deprecation}})
    config = {**describe(kind.config), "required": True, **({"shorthand_fields": shorthands} if shorthands else {})}
    scope: list[JsonDict] = (
        [] if kind.consumer_scope else [{"consumer": {"type": "foreign", "reference": "consumers", "eq": None}}]
    )
    protocols = next(f for f in describe(KINDS["plugins"].model)["fields"] if "protocols" in f)
    page: JsonDict = orjson.loads(
        orjson.dumps({"fields": [*scope, protocols, {"config": config}], "entity_checks": []})
    )
    return page


def _proxy_listeners(admin: Admin) -> list[JsonDict]:
    addresses = {admin.proxy_address: False}
    if admin.tls_address is not None:
        addresses[admin.tls_address] = True  # it may be the same one
    return [_listener(address, tls=tls) for address, tls in addresses.items()]


def _listener(address: HostPort, *, tls: bool = False) -> JsonDict:
    text = f"{address} ssl" if tls else f"{address}"
    return {"ip": address.host, "port": address.port, "ssl": tls, "http2": False, "listener": text}


def _reachable(admin: Admin) -> bool:
    try:
        admin.store.must_be_there()
        with admin.store.reading() as reader:
            reader.get("services", "id", "", 0)
    except StoreError:
        return False
    return True
