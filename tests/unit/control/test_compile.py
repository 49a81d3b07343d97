"""The compiler against a golden policy: what a reader of docs/reference/boundary.md would expect, byte for byte."""

from pathlib import Path

import orjson

from aigw.control.compile import Numbered, Numbers, Profiles, World, compile_policy, consumer_record
from aigw.control.entities import KINDS, check_entity

GOLDEN = Path(__file__).parents[2] / "golden"


def load() -> tuple[World, list[dict]]:
    source = orjson.loads((GOLDEN / "lab-entities.json").read_bytes())
    stamp = {"created_at": 1700000000, "updated_at": 1700000000}
    made = {
        kind: [check_entity(KINDS[kind], stamp | e) for e in source[kind]] for kind in ("services", "routes", "plugins")
    }
    shared = [p for p in made["plugins"] if p.consumer is None]
    world = World(
        {e.id: Numbered(n, e) for n, e in enumerate(made["services"], 1)},
        {e.id: Numbered(n, e) for n, e in enumerate(made["routes"], 1)},
        {p.id: p for p in shared},
        {"guest": 7},
    )
    return world, [p.model_dump(mode="json") for p in made["plugins"] if p.consumer is not None]


def test_the_golden_policy() -> None:
    world, own = load()
    profiles, numbers = Profiles(), Numbers({})
    record = consumer_record((7, "c" * 8, "guest", None), own, world, profiles, numbers)
    policy = compile_policy(world, profiles, numbers)
    got = orjson.dumps({"policy": policy, "guest": record}, option=orjson.OPT_INDENT_2) + b"\n"
    assert got == (GOLDEN / "lab-policy.json").read_bytes()


def test_the_same_input_gives_the_same_bytes_in_any_order() -> None:
    world, own = load()
    turned = World(
        *(dict(reversed(list(d.items()))) for d in (world.services, world.routes, world.plugins, world.named))
    )
    numbers = Numbers({})
    first, second = Profiles(), Profiles()
    consumer_record((7, "c", "guest", None), own, world, first, numbers)
    consumer_record((7, "c", "guest", None), own, turned, second, numbers)
    assert orjson.dumps(compile_policy(world, first, numbers)) == orjson.dumps(compile_policy(turned, second, numbers))
