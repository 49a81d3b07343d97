"""The work of an operator with decK, against a running gateway. In: the program, the Admin API's URL, a folder for files. Out: seconds by step;
a step that does not do its work raises AssertionError."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx
import orjson

from tests.compat.kong.pairs import AUTHORITY, OTHER, RENEWED, SHOP

MANY: Final = 1000
TIMEOUT_S: Final = 120
LISTS: Final = (
    "services", "routes", "plugins", "consumers", "key-auths", "acls", "upstreams", "consumer_groups", "certificates", "snis",
    "ca_certificates",
)  # fmt: skip
PAIR, OLD, TRUSTED, UNUSED = (f"0b6d5c1e-51b1-4a53-9b5c-4c1e5f0a770{n}" for n in range(4))
"""Ids of certificates and authorities: decK demands them. A service names the first of each."""
Json = dict[str, Any]


def state(consumers: int, *, changed: bool = False) -> Json:
    """A file of decK. `changed`: with some values that differ."""
    return {
        "_format_version": "3.0",
        "services": [
            {"name": "orders", "host": "Orders.Internal", "port": 8080, "protocol": "http", "read_timeout": 7000 if changed else 9000,
             "tags": ["shop"], "routes": [
                 {"name": "orders", "paths": ["/orders", "~/o/\\d+$"], "hosts": ["Shop.Example.com"], "headers": {"X-Kind": ["A"]},
                  "plugins": [{"name": "rate-limiting", "protocols": ["http"], "config": {"minute": 2.5, "policy": "local"}}]},
                 {"name": "old", "paths": ["/old"], "plugins": [
                     {"name": "rate-limiting", "config": {"hour": 9, "policy": "local", "redis_host": "redis.internal"}},
                     {"name": "acl", "config": {"allow": ["gold", "silver"]}}]},
             ]},
            {"name": "media", "url": "https://media.internal/v2", "client_certificate": PAIR, "ca_certificates": [TRUSTED],
             "routes": [{"name": "media", "paths": ["/media"]}]},
        ],
        "certificates": [
            {"id": PAIR, **(RENEWED if changed else SHOP)._asdict(), "tags": ["shop"],
             "snis": [{"name": "shop.example.com"}, {"name": "*.new.example.com" if changed else "*.shop.example.com", "tags": ["shop"]}]},
            {"id": OLD, **(SHOP if changed else RENEWED)._asdict(), "snis": [{"name": "old.example.com"}]},
        ],
        "ca_certificates": [{"id": TRUSTED, "cert": AUTHORITY}, *([] if changed else [{"id": UNUSED, "cert": OTHER}])],
        "upstreams": [
            {"name": "Orders.Internal", "hash_on": "none", "targets": [
                {"target": "127.0.0.1:8081", "weight": 30 if changed else 70}, {"target": "127.0.0.1:8082"}]},
        ],
        "consumer_groups": [
            {"name": "large", "plugins": [{"name": "rate-limiting", "config": {"hour": 100 if changed else 50, "policy": "local"}}]},
        ],
        "plugins": [{"name": "key-auth", "config": {"key_names": ["apikey"]}},
                    {"name": "request-size-limiting", "config": {"allowed_payload_size": 4}}],
        "consumers": [
            {"username": f"user{n}", "custom_id": f"c{n}", "keyauth_credentials": [{"key": key(n)}],
             "acls": [{"group": ("silver", "gold")[(n + changed) % 2]}], **({"groups": [{"name": "large"}]} if n == 0 else {})}
            for n in range(consumers)
        ],
    }  # fmt: skip


def people(owner: str, group: str, *, key: str, host: str = "Api.Internal") -> Json:
    """A file in which `owner` has a key and is in a group, with targets in every spelling."""
    return {
        "_format_version": "3.0",
        "consumer_groups": [{"name": name, "plugins": [{"name": "rate-limiting", "config": {"hour": 50, "policy": "local"}}]}
                            for name in sorted({"silver", group})],
        "consumers": [
            {"username": "erin", **({} if owner == "erin" else {"groups": [{"name": "silver"}]})},
            {"username": owner, "keyauth_credentials": [{"key": key}], "acls": [{"group": "writers"}], "groups": [{"name": group}]},
        ][owner == "erin":],
        "upstreams": [{"name": "all.internal", "targets": [
            {"target": text} for text in ("::1", "[fd00::A]:19203", f"{host}:81", "10.0.0.1:80")]}],
    }  # fmt: skip


def key(n: int) -> str:
    """The key of a consumer."""
    return f"key-of-user-{n}-0123456789"


@dataclass
class Cycle:
    """decK against one gateway. `took`: seconds by step."""

    deck: Path
    admin: str
    folder: Path
    took: dict[str, float] = field(default_factory=dict)

    def run(self, step: str, *arguments: str, expect: int = 0) -> str:
        """One command; returns its output."""
        started = time.monotonic()
        done = subprocess.run(
            [str(self.deck), "--analytics=false", "--kong-addr", self.admin, "gateway", *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        self.took[step] = time.monotonic() - started
        assert done.returncode == expect, f"{step}: exit code {done.returncode}: {done.stdout[-400:]}"
        return done.stdout

    def write(self, name: str, state: Json) -> str:
        """A file for decK. Returns its name."""
        (self.folder / name).write_bytes(orjson.dumps(state))
        return name

    def same(self, step: str, file: str) -> None:
        """`diff` finds nothing."""
        self.run(step, "diff", file, "--non-zero-exit-code")

    def dump(self, step: str, file: str, *arguments: str) -> Json:
        """The file of `dump`."""
        self.run(step, "dump", "--yes", "--format", "json", "-o", file, *arguments)
        dumped: Json = orjson.loads((self.folder / file).read_bytes())
        return dumped

    def get(self, path: str) -> Any:
        """The answer of the Admin API."""
        answer = httpx.get(self.admin + path, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def left(self) -> dict[str, int]:
        """Entities by collection, where there are some."""
        counted = {name: len(self.get(f"/{name}?size=1000")["data"]) for name in LISTS}
        return {name: count for name, count in counted.items() if count}

    def generation(self) -> int:
        """The configuration in force, which a change replaces."""
        found: int = self.get("/status")["configuration"]["generation"]
        return found


def shown(cycle: Cycle, consumers: int) -> Iterator[str]:
    """The steps with `AIGW_ADMIN_SHOWS_KEYS=1`: a file with keys in plain text has no diff."""
    plain = cycle.write("plain.json", state(consumers))
    yield cycle.run("ping", "ping")
    yield cycle.run("validate", "validate", plain)
    yield cycle.run("sync", "sync", plain)
    cycle.same("diff", plain)
    dumped = cycle.dump("dump", "dump.json")
    assert {c["keyauth_credentials"][0]["key"] for c in dumped["consumers"]} == {key(n) for n in range(consumers)}
    assert {c["key"] for c in dumped["certificates"]} == {SHOP.key, RENEWED.key}
    cycle.same("diff of the dump", "dump.json")
    before = cycle.generation()
    yield cycle.run("apply", "apply", plain)
    yield cycle.run("sync again", "sync", plain)
    assert cycle.generation() == before, "a sync without changes put another configuration in force"
    changed = cycle.write("changed.json", state(consumers, changed=True))
    cycle.run("diff of changes", "diff", changed, "--non-zero-exit-code", expect=2)
    yield cycle.run("sync of changes", "sync", changed)
    cycle.same("diff after changes", changed)
    yield cycle.run("reset", "reset", "--force")
    assert not cycle.left(), cycle.left()
    yield from moves(cycle, shown=True)


def hidden(cycle: Cycle, consumers: int) -> Iterator[str]:
    """The steps without it: a dumped file has references, and no diff; a file with plain text keeps the keys and makes no others."""
    plain = cycle.write("plain.json", state(consumers))
    yield cycle.run("sync, keys hidden", "sync", plain)
    dumped = cycle.dump("dump of references", "dump.json")
    assert all(c["keyauth_credentials"][0]["key"].startswith("{vault://aigw/") for c in dumped["consumers"])
    assert all(c["key"].startswith("{vault://aigw/") for c in dumped["certificates"])
    yield cycle.run("validate references", "validate", "dump.json")
    cycle.same("diff of references", "dump.json")
    before = cycle.generation()
    yield cycle.run("sync of references", "sync", "dump.json")
    assert cycle.generation() == before
    yield cycle.run("sync of keys again", "sync", plain)
    assert cycle.left()["key-auths"] == consumers
    with_ids = cycle.dump("dump with ids", "ids.json", "--with-id")
    for consumer in with_ids["consumers"]:
        consumer["keyauth_credentials"][0]["key"] = key(int(consumer["username"].removeprefix("user")))
    for certificate in with_ids["certificates"]:
        certificate["key"] = {pair.cert: pair.key for pair in (SHOP, RENEWED)}[certificate["cert"]]
    before = cycle.generation()
    yield cycle.run("sync of keys with ids", "sync", cycle.write("ids.json", with_ids))
    assert cycle.generation() == before
    for n in range(consumers):
        assert cycle.get(f"/key-auths/{key(n)}/consumer")["username"] == f"user{n}"
    yield cycle.run("reset, keys hidden", "reset", "--force")
    assert not cycle.left(), cycle.left()
    yield from moves(cycle, shown=False)


def moves(cycle: Cycle, *, shown: bool) -> Iterator[str]:
    """Steps in which a key and a consumer get another owner and group, owner and group other names, and a target another spelling. With
    keys that are not shown, a file with keys in plain text always has a diff."""

    def synced(step: str, state: Json) -> str:
        file = cycle.write("people.json", state)
        output = cycle.run(step, "sync", file)
        cycle.run(f"{step}, again", "sync", file)
        if shown or state["consumers"][-1]["keyauth_credentials"][0]["key"].startswith("{"):
            cycle.same(f"{step}: diff", file)
        owner, group = state["consumers"][-1]["username"], state["consumers"][-1]["groups"][0]["name"]
        (only,) = cycle.get("/key-auths")["data"]
        assert cycle.get(f"/key-auths/{only['id']}/consumer")["username"] == owner, step
        assert cycle.get(f"/key-auths/{key(0)}")["id"] == only["id"], step
        assert [g["name"] for g in cycle.get(f"/consumers/{owner}/consumer_groups")["data"]] == [group], step
        return output

    yield synced("sync of people", people("erin", "gold", key=key(0)))
    yield synced("sync of another owner", people("frank", "gold", key=key(0)))
    yield synced("sync of another group", people("frank", "iron", key=key(0)))
    yield synced("sync of a renamed owner and group", people("franka", "aurum", key=key(0)))
    yield synced("sync of other letter case", people("franka", "aurum", key=key(0), host="API.internal"))
    (known,) = cycle.get("/key-auths")["data"]
    yield synced("sync of a reference with another owner", people("gail", "aurum", key=known["key"]))
    yield synced("sync of a reference back at the first", people("erin", "gold", key=known["key"]))
    targets = sorted(target["target"] for target in cycle.get("/upstreams/all.internal/targets")["data"])
    assert targets == sorted(["10.0.0.1:80", "Api.Internal:81",
                              "[0000:0000:0000:0000:0000:0000:0000:0001]:8000",
                              "[fd00:0000:0000:0000:0000:0000:0000:000a]:19203"]), targets  # fmt: skip
    yield cycle.run("reset of people", "reset", "--force")
    assert not cycle.left(), cycle.left()
