"""The compiler against golden policies of the form that docs/reference/boundary.md describes, byte for byte."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from aigw.control.publish.compile import Numbered, Numbers, Profiles, RowNumbers, World, compile_policy, consumer_record
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
