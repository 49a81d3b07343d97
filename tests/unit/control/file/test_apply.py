"""The configuration file on the store: changed rows only, conflicts with both owners, read-only for the Admin API."""

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigw.config import read_text
from aigw.config.file import CONSUMER_KINDS
from aigw.control.file.apply import Applied, Conflicts, Declared, apply
from aigw.control.file.consumers import ConsumerRows, Hasher
from aigw.control.publish import publication
from aigw.control.store.origin import Origin
from aigw.control.store.write import WriteSession
from aigw.entities import KINDS, check_entity
from aigw.entities.model import ModelSpec
from aigw.entities.sealed import with_sealed_keys
from aigw.schema.violations import check
from conftest import Gateway

NOW = {"created_at": 1_700_000_000, "updated_at": 1_700_000_000}


def uid(kind: str, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{kind}/{name}"))


class FileItem(NamedTuple):
    """One entity of a test. Consumers, credentials and acls become text of a file, the others are `Declared`."""

    kind: str
    body: dict[str, Any]
    origin: Origin
    tier: str | None = None
    digest: bytes = b""
    key: str = ""


def declare(kind: str, name: str, line: int = 1, tier: str | None = None, **fields: Any) -> FileItem:
    stamp: dict[str, Any] = {k: v for k, v in NOW.items() if k == "created_at" or KINDS[kind].has_updated_at}
    field = {"consumers": "username", "acls": "group", "plugins": "name"}.get(kind, "name")
    key = fields.pop("id", uid(kind, name))
    body = check_entity(KINDS[kind], {**stamp, "id": key, field: name, **fields}).model_dump(mode="json")
    return FileItem(kind, body, Origin("tiers.yaml", line), tier)


def key_of(consumer: str, digest: bytes, line: int = 1, name: str = "") -> FileItem:
    body = {"id": uid("keyauth_credentials", name or consumer), "consumer": {"id": uid("consumers", consumer)}}
    return FileItem("keyauth_credentials", body, Origin("tiers.yaml", line), digest=digest)


def text_of(entities: Iterable[FileItem]) -> str:
    """A file with these consumers, credentials and acls, each in its line if their order allows it."""
    parts, line, below = ["consumers: ["], 1, dict[str, list[FileItem]]()
    of = list(entities)
    for item in (e for e in of if e.kind in ("keyauth_credentials", "acls")):
        below.setdefault(item.body["consumer"]["id"], []).append(item)

    def put(item: FileItem, more: str) -> None:
        nonlocal line
        lines = max(0, item.origin.line - line)
        line += lines
        parts.append("\n" * lines + "{" + more)

    for consumer in (e for e in of if e.kind == "consumers"):
        fields = {k: consumer.body[k] for k in ("username", "custom_id", "tags")} | {"tier": consumer.tier}
        put(consumer, json.dumps(fields)[1:-1])
        for kind in ("keyauth_credentials", "acls"):
            parts.append(f", {kind}: [")
            for item in (e for e in below.get(consumer.body["id"], ()) if e.kind == kind):
                own = f"group: {item.body.get('group')}" if kind == "acls" else f"key_hash: '{item.digest.hex()}'"
                put(item, (f"key: {item.key}" if item.key else own) + "},")
            parts.append("]")
        parts.append("},")
    return "".join(parts) + "]"


def rows_of(entities: Iterable[FileItem], hasher: Hasher) -> ConsumerRows:
    of = [*entities]
    tiers = {e.body["name"]: e.body["id"] for e in of if e.kind == "tiers"} | {"pro": uid("tiers", "pro")}
    needed = "".join(f"  {name}: {{}}\n" for name in {*tiers, *(e.tier for e in of if e.tier)})
    parsed = read_text("tiers.yaml", f"{text_of(of)}\ntiers:\n{needed}".encode(), {})
    ids = {name: uid("tiers", name) for name in parsed.consumers.tiers}
    return ConsumerRows(parsed, ids, hasher, NOW["created_at"], lambda ids: {})


def applied(gateway: Gateway, entities: Iterable[FileItem], default_tier: str | None = None) -> Applied:
    assert gateway.control is not None
    of = list(entities)
    tier = default_tier and uid("tiers", default_tier)
    return gateway.control.writer.submit(lambda session: put(session, of, gateway.publisher, tier), alone=True).result(
        60
    )


def put(session: WriteSession, entities: list[FileItem], hasher: Hasher, default_tier: str | None = None) -> Applied:
    others = [Declared(e.kind, e.body, e.origin) for e in entities if e.kind not in CONSUMER_KINDS]
    return apply(session, others, rows_of(entities, hasher), default_tier)


def refused(gateway: Gateway, entities: Iterable[FileItem]) -> list[str]:
    with pytest.raises(Conflicts) as caught:
        applied(gateway, entities)
    return [c.message for c in caught.value.found]


def file() -> list[FileItem]:
    service = declare("services", "s", 3, host="h", tags=["f"])
    route = declare("routes", "r", 4, paths=["/"], service={"id": service.body["id"]})
    return [
        declare("tiers", "pro", 12, spec={"limits": [{"requests": 5, "per": "day"}]}),
        service,
        route,
        declare("plugins", "key-auth", 5, service={"id": service.body["id"]}),
        declare("consumers", "bob", 7, tier="pro"),
        key_of("bob", b"b" * 32, 8),
        declare("acls", "gold", 9, consumer={"id": uid("consumers", "bob")}),
    ]


def test_apply_writes_an_unchanged_file_once(gateway: Gateway) -> None:
    assert applied(gateway, file(), "pro") == Applied(added=7)
    publisher = gateway.publisher
    assert (publisher.consumers[1].tier, publisher.consumers[1].groups) == (1, ["gold"])
    assert (publisher.credentials[1].consumer, publisher.credentials[1].hmac) == (1, b"b" * 32)
    assert publisher.policy["default_tier"] == 1  # type: ignore[index]
    assert gateway.call("GET", "/services?tags=f")["data"][0]["name"] == "s"
    publisher.calls.clear()
    assert applied(gateway, file(), "pro") == Applied()
    assert publisher.calls == []
    later = [d._replace(origin=Origin("tiers.yaml", d.origin.line + 1)) for d in file()]  # fmt: skip
    assert applied(gateway, later, "pro") == Applied(moved=7)
    assert publisher.calls == []
    assert "tiers.yaml:13" in gateway.call("DELETE", "/tiers/pro", 409)["message"]
    assert applied(gateway, file()[:-1]) == Applied(removed=1, moved=6)
    assert (publisher.policy["default_tier"], publisher.consumers[1].groups) == (None, [])  # type: ignore[index]
    assert applied(gateway, []) == Applied(removed=6)
    assert (publisher.consumers, publisher.credentials) == ({}, {})


def test_apply_lists_removals_in_the_order_of_the_store(gateway: Gateway) -> None:
    names = [f"c{n}" for n in range(12)]
    applied(gateway, [declare("consumers", name, line) for line, name in enumerate(names, 1)])

    def removed(session: WriteSession) -> list[str]:
        put(session, [declare("consumers", "c5", 6)], gateway.publisher)
        return [change.before.body["username"] for change in session.changes if change.before and not change.after]

    assert gateway.control is not None
    assert gateway.control.writer.submit(removed, alone=True).result(60) == [name for name in names if name != "c5"]
    assert gateway.call("GET", "/tags")["data"] == []


def test_a_changed_entity_keeps_its_number_and_creation_time(gateway: Gateway) -> None:
    applied(gateway, file())
    before = gateway.call("GET", "/services/s")
    changed = [d if d.kind != "services" else declare("services", "s", 3, host="i", created_at=5) for d in file()]
    assert applied(gateway, changed) == Applied(changed=1)
    after = gateway.call("GET", "/services/s")
    assert (after["host"], after["created_at"], after["tags"]) == ("i", before["created_at"], None)
    assert gateway.publisher.policy["services"][0]["n"] == 1  # type: ignore[index]
    applied(gateway, [])
    applied(gateway, file())
    assert gateway.publisher.policy["services"][0]["n"] == 1  # type: ignore[index]
    assert list(gateway.publisher.consumers) == [1]


def test_the_admin_api_refuses_to_change_entities_of_the_file(gateway: Gateway) -> None:
    applied(gateway, file())
    gateway.post("/consumer_groups", name="own")
    gateway.post("/consumers", username="eve")
    gateway.post("/consumer_groups/pro/consumers", consumer="eve")
    key = gateway.call("GET", "/consumers/bob/key-auth")["data"][0]["id"]
    plugin = gateway.call("GET", "/plugins")["data"][0]["id"]
    for method, path, body, words in (
        ("PUT", "/tiers/pro", {}, "'pro' is declared by tiers.yaml:12"),
        ("DELETE", "/tiers/pro", None, "'pro' is declared by tiers.yaml:12"),
        ("PATCH", "/consumer_groups/pro", {"tags": ["x"]}, "'pro' is declared by tiers.yaml:12"),
        ("DELETE", "/consumer_groups/pro", None, "'pro' is declared by tiers.yaml:12"),
        ("PATCH", "/services/s", {"retries": 1}, "'s' is declared by tiers.yaml:3"),
        ("PUT", "/services/s", {"host": "x"}, "'s' is declared by tiers.yaml:3"),
        ("PATCH", "/routes/r/service", {"retries": 1}, "'s' is declared by tiers.yaml:3"),
        ("DELETE", "/services/s/routes/r", None, "'r' is declared by tiers.yaml:4"),
        ("DELETE", f"/plugins/{plugin}", None, "'key-auth' is declared by tiers.yaml:5"),
        ("PATCH", "/consumers/bob", {"custom_id": "x"}, "'bob' is declared by tiers.yaml:7"),
        ("DELETE", "/consumers/bob", None, "'bob' is declared by tiers.yaml:7"),
        ("POST", "/consumers/bob/consumer_groups", {"group": "own"}, "'bob' is declared by tiers.yaml:7"),
        ("POST", "/consumer_groups/own/consumers", {"consumer": "bob"}, "'bob' is declared by tiers.yaml:7"),
        ("DELETE", "/consumer_groups/pro/consumers", None, "'bob' is declared by tiers.yaml:7"),
        ("DELETE", f"/consumers/bob/key-auth/{key}", None, f"'{key}' is declared by tiers.yaml:8"),
        ("DELETE", "/consumers/bob/acls/gold", None, "'gold' is declared by tiers.yaml:9"),
    ):
        answer = gateway.call(method, path, 409, **({"json": body} if body is not None else {}))
        assert answer["message"] == f"{words} and is read-only here: change the file", (method, path)
        assert (answer["code"], answer["name"]) == (1001, "read only")
        assert answer["fields"]["@declared_by"]["file"] == "tiers.yaml"
    assert applied(gateway, file()) == Applied(), "nothing was changed"
    made = gateway.post("/consumers/bob/key-auth")
    gateway.post("/services/s/routes", name="more", paths=["/more"])
    gateway.post("/routes/r/plugins", name="rate-limiting", config={"minute": 5})
    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 5})
    gateway.call("DELETE", f"/consumers/bob/key-auth/{made['id']}", 204)
    gateway.call("DELETE", "/consumers/eve/consumer_groups", 204)


def test_an_entity_that_leaves_the_file_deletes_its_children(gateway: Gateway) -> None:
    applied(gateway, file())
    gateway.post("/consumers/bob/key-auth")
    gateway.post("/routes/r/plugins", name="rate-limiting", config={"minute": 5})
    gateway.post("/consumers", username="eve")
    gateway.post("/consumer_groups/pro/consumers", consumer="eve")
    gateway.post("/services/s/routes", name="mine", paths=["/mine"])
    _, message = refused(gateway, [])
    assert message.startswith("services 's' (tiers.yaml:3) left the file, but routes 'mine' of the Admin API (id ")
    assert gateway.call("GET", "/consumers/bob")
    gateway.call("DELETE", "/routes/mine")
    gateway.call("DELETE", "/consumers/eve/consumer_groups", 204)
    applied(gateway, [])
    assert [c.username for c in gateway.publisher.consumers.values()] == ["eve"]
    assert gateway.publisher.consumers[2].tier == 0
    for path in ("/key-auths", "/plugins", "/services", "/routes", "/acls", "/consumer_groups"):
        assert gateway.call("GET", path)["data"] == [], path


def test_a_tier_with_consumers_of_the_admin_api_cannot_leave_the_file(gateway: Gateway) -> None:
    applied(gateway, file(), "pro")
    gateway.post("/consumers", username="eve")
    gateway.post("/consumer_groups/pro/consumers", consumer="eve")
    renamed = [d for d in file() if d.kind not in ("tiers", "consumers")]
    renamed += [declare("tiers", "best", 12), declare("consumers", "bob", 7, tier="best")]
    gateway.publisher.calls.clear()
    (message,) = refused(gateway, renamed)
    assert message == (
        "tiers 'pro' (tiers.yaml:12) left the file, but 1 consumer of the Admin API is in it ('eve'): keep the tier, or"
        " move it first (curl -X POST :8001/consumers/NAME/consumer_groups -d group=TIER)"
    )
    assert gateway.publisher.calls == [], "nothing changes"
    assert gateway.call("GET", "/consumers/eve/consumer_groups")["data"][0]["name"] == "pro"
    gateway.post("/consumer_groups", name="own")
    for n in range(4):
        gateway.post("/consumers", username=f"ann{n}")
        gateway.post("/consumer_groups/pro/consumers", consumer=f"ann{n}")
    (message,) = refused(gateway, renamed)
    assert "5 consumers of the Admin API are in it (" in message and message.count("'ann") + message.count("'eve") == 3
    assert ", ...): keep the tier, or move them first" in message
    for name in ("eve", *(f"ann{n}" for n in range(4))):
        gateway.post(f"/consumers/{name}/consumer_groups", group="own")
    assert applied(gateway, renamed) == Applied(added=1, changed=1, removed=1)


def test_apply_reports_all_conflicts_with_both_owners(gateway: Gateway) -> None:
    eve = gateway.post("/consumers", username="bob")
    gateway.post("/consumers", username="ann")
    key = gateway.post("/consumers/ann/key-auth", key="k" * 20)["id"]
    service = gateway.post("/services", name="s", host="h", id=uid("services", "s"))
    messages = refused(
        gateway,
        [
            *file(),
            key_of("bob", gateway.publisher.hash_key(b"k" * 20), 20, "x"),
            declare("routes", "r", 30, paths=["/"]),
        ],
    )
    assert messages == [
        "routes 'r' is declared by tiers.yaml:4, too",
        f"services 's': its id is held by an entity of the Admin API (id {service['id']}): remove one of the two",
        f"consumers 'bob': its username is held by an entity of the Admin API (id {eve['id']}): remove one of the two",
        f"keyauth_credentials of consumer 'bob': its key is held by consumer 'ann' in the Admin API (id {key}): remove one of the"
        " two",
    ]
    assert "kkkk" not in str(messages)
    assert gateway.call("GET", "/consumer_groups")["data"] == []


def test_a_repeated_key_names_both_consumers(gateway: Gateway) -> None:
    people = [declare("consumers", n) for n in ("bob", "eve")]
    key = key_of("bob", b"", 8)._replace(key="key-of-both")
    (message,) = refused(gateway, [*people, key, key_of("eve", gateway.publisher.hash_key(b"key-of-both"), 9)])
    assert message == (
        "keyauth_credentials of consumer 'eve': its key is declared by tiers.yaml:8, too (consumer 'bob')"
    )


def test_entities_may_swap_unique_values(gateway: Gateway) -> None:
    ids = [uid("services", n) for n in "xy"]
    gateway.post("/services", name="other", host="h")
    applied(gateway, [declare("services", n, host="h", id=i) for n, i in zip("ab", ids, strict=True)])
    assert (
        applied(gateway, [declare("services", n, host="h", id=i) for n, i in zip("ba", ids, strict=True)]).changed == 2
    )
    people = [declare("consumers", n) for n in ("bob", "eve")]
    applied(gateway, [*people, key_of("bob", b"b" * 32), key_of("eve", b"e" * 32)])
    applied(gateway, [*people, key_of("bob", b"e" * 32), key_of("eve", b"b" * 32)])
    owners = {digest: owner for _, _, owner, digest, _ in gateway.publisher.credentials.values()}
    assert owners == {b"e" * 32: 1, b"b" * 32: 2}
    applied(gateway, [*people, key_of("bob", b"e" * 32, name="another"), key_of("eve", b"b" * 32)])
    assert len(gateway.publisher.credentials) == 2


def test_the_keys_of_upstreams_are_never_shown(gateway: Gateway) -> None:
    def model(key: str) -> FileItem:
        spec = check(ModelSpec, {"upstreams": [{"url": "http://127.0.0.1:9100/v1", "api_key": key}]})
        parts = with_sealed_keys(
            spec,
            {(0, "api_key", ""): "${UPSTREAM:-" + key + "}"},
            {},
            gateway.publisher.seal,
            gateway.publisher.hash_key,
        )
        return declare("models", "small", 2, **parts)

    tier = declare("tiers", "pro")
    applied(gateway, [model("planted-key-1"), tier])
    sealed = gateway.publisher.policy["models"][0]["upstreams"][0]["api_key"]  # type: ignore[index]
    assert sealed.startswith("sealed-")
    (shown,) = gateway.call("GET", "/models")["data"]
    assert shown == gateway.call("GET", "/models/small")
    assert (shown["name"], shown["upstreams"][0]["api_key"]) == ("small", None)
    assert applied(gateway, [model("planted-key-1"), tier]) == Applied(), "sealing again is no change"
    assert gateway.publisher.policy["models"][0]["upstreams"][0]["api_key"] == sealed  # type: ignore[index]
    assert applied(gateway, [model("planted-key-2"), tier]) == Applied(changed=1)
    assert "# calls [(1, ('small', '127.0.0.1:9100', 'small'))]" in gateway.client.get("/metrics").text
    gateway.close()
    for path in gateway.data.rglob("*"):
        assert not path.is_file() or b"planted-key" not in path.read_bytes()
    gateway.open()


def test_number_of_an_upstream_never_changes_its_meaning(gateway: Gateway) -> None:
    def model(name: str) -> FileItem:
        return declare("models", name, spec={"upstreams": [{"url": "http://h/v1"}]})

    def numbers() -> dict[str, int]:
        assert gateway.control is not None
        return {model: n for n, (model, *_) in gateway.control.publication.labels().calls.items()}

    tiers = [declare("tiers", n) for n in ("a", "b")]
    applied(gateway, [*tiers, model("m")])
    first = numbers()
    applied(gateway, [*tiers, model("l")])
    assert numbers()["l"] not in first.values()
    gateway.close()
    gateway.open()
    applied(gateway, [*tiers, model("l"), model("m")])
    assert first.items() <= numbers().items() and len(numbers()) == 2


def test_limits_by_model_and_of_the_default_tier(gateway: Gateway) -> None:
    models = [declare("models", n, spec={"upstreams": [{"url": "http://h/v1"}]}) for n in ("m", "l")]
    spec = {"limits": [{"requests": 3, "per": "day", "scope": "model"}]}
    applied(gateway, [*models, declare("tiers", "t", spec=spec)], "t")
    gateway.post("/consumers", username="eve")
    rows = gateway.call("GET", "/consumers/eve/limits")["data"]
    assert [(r["scope"], r["model"], r["limit"], r["source"]) for r in rows] == [
        ("model", "m", 3, "tier t"),
        ("model", "l", 3, "tier t"),
    ]
    assert gateway.publisher.consumers[1].tier == 0
    gateway.close()
    gateway.open()
    assert gateway.publisher.policy["default_tier"] == 1, "a start without the file keeps its entities"  # type: ignore[index]
    gateway.close()
    gateway.open(forget=True)
    assert gateway.publisher.policy["default_tier"] is None  # type: ignore[index]
    assert gateway.call("GET", "/consumers/eve/limits")["data"] == []
    applied(gateway, [*models, declare("tiers", "t", spec=spec)], "t")
    assert gateway.publisher.policy["default_tier"] == 1  # type: ignore[index]
    assert len(gateway.call("GET", "/consumers/eve/limits")["data"]) == 2


NAMES = st.sampled_from("abcd")
VERSION = st.lists(st.tuples(NAMES, st.sampled_from([None, "t", "u"]), st.integers(0, 3)), max_size=5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(VERSION, st.booleans()), max_size=5))
def test_a_file_has_the_same_effect_after_any_other(
    gateway: Gateway, steps: list[tuple[list[tuple[str, str | None, int]], bool]]
) -> None:
    gateway.client.put("/consumers/admins", json={})
    for version, small in steps:
        entities = {d.body["id"]: d for d in [declare("tiers", "t"), declare("tiers", "u", spec={"limits": []})]}
        for name, tier, keys in version:
            for made in (declare("consumers", name, keys, tier=tier, custom_id=f"{len(version)}-{name}"),
                         *(key_of(name, sha256(f"{name}{i}{keys}".encode()).digest(), name=f"{name}{i}") for i in range(keys))):  # fmt: skip
                entities[made.body["id"]] = made
        for key in [k for k, d in entities.items() if d.kind == "keyauth_credentials"]:
            if entities[key].body["consumer"]["id"] not in entities:
                del entities[key]
        publication.MERGE_AT_LEAST, kept = (0 if small else 4096), publication.MERGE_AT_LEAST  # type: ignore[misc]
        try:
            applied(gateway, entities.values())
        finally:
            publication.MERGE_AT_LEAST = kept  # type: ignore[misc]
        wanted = {
            (d.body["username"], d.body["custom_id"], d.tier is not None)
            for d in entities.values()
            if d.kind == "consumers"
        }
        found = {
            (c.username, c.custom_id, c.tier != 0)
            for c in gateway.publisher.consumers.values()
            if c.username != "admins"
        }
        assert found == wanted
        digests = {d.digest for d in entities.values() if d.digest}
        assert {c.hmac for c in gateway.publisher.credentials.values()} == digests


def test_a_large_change_publishes_one_base(gateway: Gateway) -> None:
    applied(gateway, [declare("tiers", "t"), declare("tiers", "u")])
    people = [declare("consumers", f"p{i}") for i in range(1200)]

    def large(tier: str, count: int) -> list[FileItem]:
        found = [declare("tiers", "t"), declare("tiers", "u")]
        for i in range(count):
            found.append(declare("consumers", f"c{i}", i, tier=tier))
            found.append(key_of(f"c{i}", i.to_bytes(32, "big"), i))
        return found

    for entities in (large("t", 3_000), large("u", 3_000) + people, large("u", 10)):
        gateway.publisher.calls.clear()
        applied(gateway, entities)
        assert gateway.publisher.calls.count("write_base") == 1
        assert "append" not in gateway.publisher.calls
    assert len(gateway.publisher.consumers) == 10
    gateway.post("/consumers", username="after")
    assert len(gateway.publisher.consumers) == 11


def test_publication_retries_a_base_after_a_failed_write(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "MERGE_AT_LEAST", 2)
    people = [declare("consumers", f"c{i}") for i in range(5)]
    for step in ("write_base", "publish"):
        gateway.publisher.fail = {step: OSError(28, "No space left on device")}
        with pytest.raises(Exception, match="No space left"):
            applied(gateway, people)
        gateway.publisher.fail = {}
        gateway.post("/consumers", username=f"after-{step}")
        assert {f"c{i}" for i in range(5)} | {f"after-{step}"} <= {
            c.username for c in gateway.publisher.consumers.values()
        }
        people = [declare("consumers", f"c{i}", custom_id=f"x{i}") for i in range(5)]


def test_a_failed_bulk_change_is_rolled_back(gateway: Gateway) -> None:
    def fails(session: WriteSession) -> None:
        put(session, file(), gateway.publisher)
        raise RuntimeError("after all")

    assert gateway.control is not None
    for alone in (True, False):
        with pytest.raises(RuntimeError):
            gateway.control.writer.submit(fails, alone=alone).result(30)
        assert gateway.call("GET", "/services")["data"] == []
    assert applied(gateway, file()).added == 7
