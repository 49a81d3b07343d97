"""Names that lead to addresses which no upstream may have: no connection is made, the answer has a word of its own, and the operator hears
of it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.ends import Upstream, Wire
from tests.support.network import Hosts, in_own_network, ip
from tests.support.processes import Gateway, wait_until
from tests.support.surface import caller, chat, is_error, metric, start_configured

LINKED = "169.254.10.9"
BODY = b'{"choices":[],"usage":{"prompt_tokens":1}}'


def answer(wire: Wire) -> None:
    while wire.request() is not None:
        wire.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
        )


@dataclass
class World:
    gateway: Gateway
    linked: Upstream
    local: Upstream


@pytest.fixture
def names(tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    hosts = Hosts(tmp_path_factory.mktemp("names"))
    hosts.write({
        "linked.test": (LINKED,),
        "mapped.test": (f"::ffff:{LINKED}",),
        "translated.test": ("64:ff9b::a9fe:a09",),
        "mixed.test": (LINKED, "127.0.0.1"),
    })  # fmt: skip
    return hosts


def configuration(port: int) -> dict[str, object]:
    model = {"upstreams": [{"url": f"http://linked.test:{port}/v1"}]}
    services = [
        {"name": name, "url": f"http://{name}.test:{port}", "routes": [{"name": name, "paths": [f"/{name}"]}]}
        for name in ("linked", "mapped", "translated", "mixed")
    ]
    return {"_format_version": "3.0", "models": {"m": model}, "tiers": {"t": {}}, "services": services}


@contextlib.contextmanager
def serving(tmp_path: Path, names: Hosts, **env: str) -> Iterator[World]:
    ip("addr", "add", f"{LINKED}/32", "dev", "lo")
    with Upstream(answer, LINKED) as linked, Upstream(answer, "127.0.0.1", linked.port) as local:
        running = start_configured(
            tmp_path / "data", configuration(linked.port), workers=2, env=env, prefix=names.prefix
        )
        try:
            yield World(running, linked, local)
        finally:
            running.process.end()


def get(world: World, path: str) -> httpx.Response:
    return httpx.get(world.gateway.proxy + path, trust_env=False)


def test_name_that_leads_to_a_forbidden_address_is_not_called(tmp_path: Path, names: Hosts) -> None:
    def test() -> None:
        with serving(tmp_path, names) as world:
            for name in ("linked", "mapped", "translated"):
                for _ in range(4):  # more often than an address may fail before it is out
                    refused = get(world, f"/{name}")
                    assert refused.status_code == 502, refused.text
            told = is_error(caller(world.gateway, "t").post(chat("m")), 502)
            assert told["aigw"]["reason"] == "upstream_forbidden" and "AIGW_UPSTREAM_ALLOW" in told["message"]
            assert [get(world, "/mixed").status_code for _ in range(6)] == [200] * 6
            assert world.linked.requests == [] and len(world.local.requests) == 6
            line = world.gateway.wait_event("upstream_address_forbidden", upstream=f"linked.test:{world.linked.port}")
            assert line["addresses"] == f"{LINKED} (link-local)" and "AIGW_UPSTREAM_ALLOW" in str(line["repair"])
            wait_until(
                lambda: metric(world.gateway, "aigw_denials_total", reason="upstream_forbidden") == 13, "13 refusals"
            )
            wait_until(lambda: metric(world.gateway, "aigw_upstream_forbidden_total") >= 4, "the answers are counted")
            rows = httpx.get(world.gateway.admin + "/status", trust_env=False).json()["upstreams"]["down"]
            assert {"forbidden"} == {row["reason"] for row in rows}

    in_own_network(test)


def test_allowed_network_is_called(tmp_path: Path, names: Hosts) -> None:
    def test() -> None:
        with serving(tmp_path, names, AIGW_UPSTREAM_ALLOW="169.254.10.0/28") as world:
            assert get(world, "/linked").status_code == 200 and len(world.linked.requests) == 1
            literal = {"name": "literal", "url": f"http://{LINKED}:{world.linked.port}"}
            assert httpx.post(world.gateway.admin + "/services", json=literal, trust_env=False).status_code == 201
            other = {"name": "other", "url": "http://169.254.169.254"}
            refused = httpx.post(world.gateway.admin + "/services", json=other, trust_env=False)
            assert refused.status_code == 400 and "AIGW_UPSTREAM_ALLOW" in refused.text

    in_own_network(test)
