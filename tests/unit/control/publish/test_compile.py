"""The compiler against golden policies of the form that docs/reference/boundary.md describes, byte for byte."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigw.control.publish.compile import ONLY, REFS, Profiles, compile_policy, consumer_record
from aigw.control.publish.numbers import Numbers, RowNumbers
from aigw.control.publish.world import Numbered, World
from aigw.entities import KINDS, check_entity

GOLDEN = Path(__file__).parents[3] / "golden"


def load(name: str) -> tuple[World, list[dict[str, Any]]]:
    source = orjson.loads((GOLDEN / f"{name}-entities.json").read_bytes())
    stamp = {"created_at": 1700000000, "updated_at": 1700000000}
    made: dict[str, list[Any]] = {
        kind: [check_entity(KINDS[kind], stamp | e) for e in source.get(kind, [])]
        for kind in ("services", "routes", "plugins", "tiers", "models")
    }
    placed = {
        kind: {e.id: Numbered(n, e) for n, e in enumerate(made[kind], 1)}
        for kind in ("services", "routes", "tiers", "models")
    }
    shared = {p.id: p for p in made["plugins"] if p.consumer is None}
    settings = {"default_tier": source.get("default_tier"), "v1": source.get("v1")}
    world = World(**placed, plugins=shared, named={"guest": 7}, **settings)
    return world, [p.model_dump(mode="json") for p in made["plugins"] if p.consumer is not None]


@pytest.mark.parametrize("name", ["lab", "tiers"])
def test_compile_makes_the_golden_policies(name: str) -> None:
    world, own = load(name)
    profiles, numbers = Profiles(), Numbers({})
    tier = next(iter(world.tiers), None)
    record = consumer_record((7, "c" * 8, "guest", None, tier), ["gold", "new"], own, world, profiles, numbers)
    policy, _ = compile_policy(world, profiles, numbers, RowNumbers.empty())
    got = orjson.dumps({"policy": policy, "guest": record}, default=list, option=orjson.OPT_INDENT_2) + b"\n"
    assert got == (GOLDEN / f"{name}-policy.json").read_bytes()


@pytest.mark.parametrize("name", ["lab", "tiers"])
def test_the_same_input_gives_the_same_bytes_in_any_order(name: str) -> None:
    world, own = load(name)
    turned = {
        f: dict(reversed(list(getattr(world, f).items())))
        for f in ("services", "routes", "plugins", "named", "tiers", "models")
    }
    other = World(**turned, default_tier=world.default_tier, v1=world.v1)
    numbers, rows = Numbers({}), RowNumbers.empty()
    first, second = Profiles(), Profiles()
    row = (7, "c", "guest", None, None)
    assert consumer_record(row, [], own, world, first, numbers) == consumer_record(row, [], own, other, second, numbers)
    assert orjson.dumps(compile_policy(world, first, numbers, rows).policy) == orjson.dumps(
        compile_policy(other, second, numbers, rows).policy
    )


SERVICE, ROUTE = (f"00000000-0000-4000-8000-0000000000{n}" for n in ("0a", "0b"))
CONFIGS: dict[str, list[dict[str, Any]]] = {
    "key-auth": [{"key_names": ["a"]}, {"key_names": ["b"]}],
    "acl": [{"allow": ["a"]}, {"deny": ["b"]}],
    "cors": [{"max_age": 1}, {"max_age": 2}],
    "rate-limiting": [{"minute": 1}, {"minute": 2}],
    "request-size-limiting": [{"allowed_payload_size": 1}, {"allowed_payload_size": 2}],
}
INSTANCES = st.lists(
    st.tuples(
        st.sampled_from(sorted(CONFIGS)),
        st.integers(0, 1),
        st.sampled_from([["http"], ["https"], ["http", "https"], ["grpc"]]),
        st.sampled_from(["everything", "service", "route"]),
        st.booleans(),
    ),
    max_size=8,
)


def of_each_protocol(schemes: set[str], drawn: list[Any]) -> dict[str, Any]:
    """Protocol -> the configurations that a request meets: of the route, and of the consumer's own instances."""
    stamp = {"created_at": 1, "updated_at": 1}
    service = check_entity(KINDS["services"], {**stamp, "id": SERVICE, "host": "h"})
    route = check_entity(
        KINDS["routes"],
        {**stamp, "id": ROUTE, "paths": ["/r"], "service": {"id": SERVICE}, "protocols": ["http", "https"]},
    )
    plugins = []
    for n, (name, config, protocols, scope, of_consumer) in enumerate(drawn):
        bound = {} if scope == "everything" else {scope: {"id": SERVICE if scope == "service" else ROUTE}}
        if of_consumer and name in REFS:
            bound["consumer"] = {"id": ROUTE}
        head = {**stamp, "id": f"00000000-0000-4000-8000-{n:012}", "name": name, "config": CONFIGS[name][config]}
        plugins.append(check_entity(KINDS["plugins"], {**head, "protocols": protocols, **bound}))
    world = World(
        services={SERVICE: Numbered(1, service)},
        routes={ROUTE: Numbered(1, route)},
        plugins={p.id: p for p in plugins if p.consumer is None},
        schemes=frozenset(schemes),
    )
    profiles, numbers = Profiles(), Numbers({})
    policy = compile_policy(world, profiles, numbers, RowNumbers.empty()).policy
    own = [p.model_dump(mode="json") for p in plugins if p.consumer is not None]
    record = consumer_record((1, "c", "c", None, None), [], own, world, profiles, numbers)
    (entry,) = policy["routes"]
    for profile in profiles.rate_limiting:
        for limit in profile["limits"]:
            del limit["dense"], limit["open"]  # numbers of columns, in the order of their first use
    lists = {"rate-limiting": profiles.rate_limiting, "request-size-limiting": profiles.size_limiting}
    found = {}
    for scheme in schemes:
        choice = entry.get("over_tls", entry) if scheme == "https" else entry
        shown: dict[str, Any] = {f: policy[f][choice[f]] for f in ("key_auth", "acl", "cors") if choice[f] is not None}
        for field in ("rate_limiting", "size_limiting"):
            if (one := choice[field]) is not None:
                shown[field] = (one["rank"], policy[field][one["profile"]])
        other = ONLY["http" if scheme == "https" else "https"]
        refs = [(r.route, r.service, r.kind & 255, r.profile) for r in record.refs if not r.kind & other]
        names = sorted(REFS, key=lambda name: REFS[name])
        shown["own"] = sorted(str((to, of, lists[names[kind]][at])) for to, of, kind, at in refs)
        found[scheme] = shown
    return found


@given(drawn=INSTANCES)
@settings(max_examples=200, deadline=None)
def test_a_request_meets_the_plugins_of_its_own_protocol(drawn: list[Any]) -> None:
    """A gateway with both protocols treats each like a gateway that has it alone."""
    together = of_each_protocol({"http", "https"}, drawn)
    assert together == of_each_protocol({"http"}, drawn) | of_each_protocol({"https"}, drawn)


def test_profiles_of_a_failed_write_are_removed() -> None:
    profiles, numbers = Profiles(), Numbers({})
    head = {"id": "00000000-0000-4000-8000-000000000001", "created_at": 1, "updated_at": 1, "name": "rate-limiting"}

    def index(minute: int) -> int:
        plugin = check_entity(KINDS["plugins"], {**head, "config": {"minute": minute}})
        return profiles.of(plugin.model_dump(mode="json"), None, numbers)

    assert [index(1), index(2)] == [0, 1]
    profiles.cut(1, 0)
    assert [index(1), index(3)] == [0, 1]
    assert [p["limits"][0]["fields"]["requests"] for p in profiles.rate_limiting] == [1, 3]
