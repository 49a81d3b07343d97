"""A recorded cycle of decK (sync, diff, dump, apply, reset; keys shown and hidden) gets the recorded answers.

`python -m tests.compat kong record` records it again, with decK."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import orjson
import pytest

from tests.compat.kong.record import Exchange, ask, exchanges, shape
from tests.support.processes import start_gateway


def parts() -> Iterator[tuple[dict[str, str], list[Exchange]]]:
    """Environment and exchanges of each gateway."""
    found: list[tuple[dict[str, str], list[Exchange]]] = []
    for exchange in exchanges():
        if exchange[0] == "START":
            found.append((exchange[1], []))
        else:
            found[-1][1].append(exchange)
    yield from found


@contextlib.contextmanager
def admin(data: Path, env: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of the Admin API of a new gateway."""
    gateway = start_gateway(data, env=env)
    try:
        with httpx.Client(base_url=gateway.admin, trust_env=False, timeout=30) as client:
            yield client
    finally:
        gateway.process.end()


@pytest.mark.parametrize(("env", "recorded"), list(parts()), ids=lambda value: "shown" if value else "hidden")
def test_a_recorded_cycle_of_deck_gets_its_answers(
    tmp_path: Path, env: dict[str, str], recorded: list[Exchange]
) -> None:
    with admin(tmp_path / "data", env) as client:
        for n, (method, path, body, status, answer) in enumerate(recorded):
            got, content = ask(client, method, path, body)
            assert got == status, (n, method, path, body, content)
            assert shape(path, orjson.loads(content) if content else None) == answer, (n, method, path, body)


def test_the_recorded_cycle_is_small_and_whole() -> None:
    methods = {(env.get("AIGW_ADMIN_SHOWS_KEYS"), one[0]) for env, recorded in parts() for one in recorded}
    assert methods >= {(switch, method) for switch in (None, "1") for method in ("GET", "PUT", "DELETE")}
