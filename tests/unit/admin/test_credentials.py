"""Keys: shown once, stored as HMACs, unique, expiring; no file and no error contains a part of a key."""

from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigw.entities.keyauth_credential import reference
from conftest import Gateway

KEY = "PlantedKey0123456789abcdefghijkl"
Steps = list[tuple[int, int, int]]


def test_a_key_is_shown_once_and_never_stored(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    made = gateway.post("/consumers/bob/key-auth", key=KEY)
    assert (made["key"], made["key_hint"]) == (KEY, "...ijkl")
    assert "ttl" not in made
    path = f"/consumers/bob/key-auth/{made['id']}"
    for read in (gateway.call("GET", path), gateway.call("GET", "/key-auths")["data"][0],
                 gateway.call("GET", f"/consumers/bob/key-auth/{KEY}"), gateway.call("PATCH", path, json={"tags": ["a"]})):  # fmt: skip
        assert (read["id"], read["key"], read["key_hint"]) == (made["id"], reference(made["id"]), "...ijkl")
    gateway.control.close()  # type: ignore[union-attr]
    gateway.control = None
    for file in gateway.data.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


def test_errors_do_not_repeat_a_key(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    gateway.post("/consumers/bob/key-auth", key=KEY)
    twice = gateway.post("/consumers/bob/key-auth", 409, key=KEY)
    assert twice["code"] == 5
    assert twice["message"] == "UNIQUE violation detected on '{key=\"<hidden>\"}'"
    for wrong in (KEY + " \n", [KEY], {"k": KEY}, KEY + "é"):
        assert KEY not in str(gateway.post("/consumers/bob/key-auth", 400, key=wrong))
    assert KEY[-4:] not in str(gateway.post("/consumers/bob/key-auth", key="abcdef-" + KEY[-4:])["key_hint"])


def test_put_and_patch_without_a_key_keep_it(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    made = gateway.post("/consumers/bob/key-auth")
    path = f"/consumers/bob/key-auth/{made['id']}"
    read = gateway.call("GET", path)
    gateway.call("PUT", path, 200, json=read | {"tags": ["a"]})
    (record,) = gateway.publisher.credentials.values()
    assert record.hmac == gateway.publisher.hash_key(made["key"].encode())
    changed = gateway.call("PATCH", path, json={"key": KEY})
    assert changed["key"] == KEY
    (record,) = gateway.publisher.credentials.values()
    assert record.hmac == gateway.publisher.hash_key(KEY.encode())
    upserted = gateway.call("PUT", "/consumers/bob/key-auth/another-key-of-bob", 200, json={})
    assert upserted["key"] == "another-key-of-bob"
    by_id = gateway.call("PUT", f"/consumers/bob/key-auth/{uuid4()}", 200, json={})
    assert len(by_id["key"]) == 32
    assert gateway.call("GET", f"/key-auths/{by_id['id']}/consumer")["username"] == "bob"


def test_a_credential_counts_down_and_expires(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    made = gateway.post("/consumers/bob/key-auth", key=KEY, ttl=10)
    path = f"/consumers/bob/key-auth/{made['id']}"
    assert made["ttl"] == 9  # whole seconds, rounded down: ten have begun
    gateway.now += 4
    assert gateway.call("GET", path)["ttl"] == 5
    assert gateway.call("PATCH", path, json={"tags": ["kept"]})["ttl"] == 5
    assert next(iter(gateway.publisher.credentials.values())).expires_at == int(gateway.now) + 6
    gateway.now += 6
    assert gateway.call("GET", path, 404)
    assert gateway.call("GET", "/key-auths")["data"] == []
    again = gateway.post("/consumers/bob/key-auth", key=KEY)
    assert "ttl" not in again
    assert [c.id for c in gateway.publisher.credentials.values()] == [again["id"]]
    assert gateway.post("/consumers/bob/key-auth", 400, ttl=100_000_001)["fields"] == {
        "ttl": "value should be between 0 and 100000000"
    }


def test_put_at_a_reference_that_names_no_key_makes_none(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    for path in ("/consumers/bob/key-auth", "/key-auths"):
        gateway.call("PUT", f"{path}/{quote(reference(str(uuid4())))}", 404, json={})
    assert gateway.call("GET", "/key-auths")["data"] == []


def test_a_row_number_belongs_to_one_entity_for_ever(gateway: Gateway) -> None:
    for name in ("a", "b"):
        gateway.post("/consumers", username=name)
        gateway.post(f"/consumers/{name}/key-auth")
    gateway.call("DELETE", "/consumers/b")
    gateway.post("/consumers", username="c")
    gateway.post("/consumers/c/key-auth")
    assert sorted(gateway.publisher.consumers) == [1, 3]
    assert sorted(gateway.publisher.credentials) == [1, 3]
    kept = gateway.call("PATCH", "/consumers/c", json={"custom_id": "z", "username": "d"})
    assert gateway.publisher.consumers[3] == (3, kept["id"], "d", "z", [], 0, [])


@settings(max_examples=30, deadline=None)
@example(steps=[(0, 0, 0), (0, 1, 1), (2, 1, 0), (1, 1, 0), (2, 1, 0), (0, 2, 2)])
@example(steps=[(0, 0, 0), (2, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1)])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 2)), max_size=25))
def test_no_number_gets_the_calls_of_another_credential(tmp_path_factory: pytest.TempPathFactory, steps: Steps) -> None:
    gateway = Gateway(tmp_path_factory.mktemp("numbers")).open()
    try:
        for name in "ab":
            gateway.post("/consumers", username=name)
        last: dict[int, str] = {}  # number -> the id that it had last
        for what, one, key in steps:
            before, path = dict(gateway.publisher.credentials), f"key-auth/{UUID(int=one + 1)}"
            if what == 2:
                for name in "ab":
                    gateway.client.delete(f"/consumers/{name}/{path}")
            else:
                answer = gateway.client.put(f"/consumers/{'ab'[what]}/{path}", json={"key": KEY + str(key)})
                assert answer.status_code in (200, 404, 409), answer.text
            for n, record in gateway.publisher.credentials.items():
                assert n in before or last.get(n, record.id) == record.id, "a number of another credential"
                last[n] = record.id
            ids = [record.id for record in gateway.publisher.credentials.values()]
            assert len(set(ids)) == len(ids)
    finally:
        gateway.close()


def test_a_ttl_lasts_whole_seconds(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    gateway.now = 1_700_000_000.93
    made = gateway.post("/consumers/bob/key-auth", key=KEY, ttl=1)
    assert (made["ttl"], made["created_at"]) == (1, 1_700_000_000)
    ((_, _, _, _, expires_at),) = gateway.publisher.credentials.values()
    assert expires_at == 1_700_000_002


def test_a_reference_sent_back_keeps_the_key_and_publishes_nothing(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    made = gateway.post("/consumers/bob/key-auth", key=KEY, tags=["a"])
    path = f"/consumers/bob/key-auth/{made['id']}"
    shown = gateway.call("GET", path)
    before = list(gateway.publisher.calls)
    for method in ("PUT", "PATCH"):
        assert gateway.call(method, path, 200, json=shown) == shown
    assert gateway.call("PUT", path, 200, json={**shown, "key": KEY})["key"] == KEY
    assert gateway.publisher.calls == before
    assert gateway.call("PUT", path, 200, json={**shown, "tags": ["b"]})["tags"] == ["b"]
    (record,) = gateway.publisher.credentials.values()
    assert record.hmac == gateway.publisher.hash_key(KEY.encode())
    by_reference = quote(reference(made["id"]), safe="")
    assert gateway.call("GET", f"/key-auths/{by_reference}")["id"] == made["id"]
    assert gateway.call("GET", f"/consumers/bob/key-auth/{by_reference}")["id"] == made["id"]


def test_a_file_with_references_is_valid(gateway: Gateway) -> None:
    wrong = {"key": 5, "consumer": {"id": str(uuid4())}}
    for path, body, status in (
        ("/schemas/keyauth_credentials/validate", {**wrong, "key": reference(str(uuid4()))}, 200),
        ("/schemas/keyauth_credentials/validate", {**wrong, "key": "{vault://env/KEY}"}, 400),
        ("/schemas/keyauth_credentials/validate", wrong, 400),
    ):
        gateway.call("POST", path, status, json=body)


def test_a_patch_leaves_the_end_of_a_credential(gateway: Gateway) -> None:
    gateway.now = 1_700_000_000.5
    gateway.post("/consumers", username="bob")
    made = gateway.post("/consumers/bob/key-auth", key=KEY, ttl=10)
    (record,) = gateway.publisher.credentials.values()
    for tags in (["a"], ["b"], ["b"]):
        gateway.now += 2.2
        gateway.call("PATCH", f"/key-auths/{made['id']}", json={"tags": tags})
        ((*_, end),) = gateway.publisher.credentials.values()
        assert end == record.expires_at


def test_a_reference_of_another_credential_is_refused(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    first, second = (gateway.post("/consumers/bob/key-auth") for _ in range(2))
    for method in ("PUT", "PATCH"):
        answer = gateway.call(method, f"/key-auths/{first['id']}", 400, json={
            "key": reference(second["id"]), "consumer": first["consumer"]})  # fmt: skip
        assert answer["fields"] == {"key": (
            "is the reference to another key: send the key itself, or this one's reference, "
            + reference(first["id"]))}  # fmt: skip
    new = "a reference stands for a key that is stored, and this entity is new: send the key itself"
    for key_id in (first["id"], str(uuid4())):
        for method, path in (("POST", "/consumers/bob/key-auth"), ("PUT", f"/consumers/bob/key-auth/{uuid4()}")):
            answer = gateway.call(method, path, 400, json={"key": reference(key_id)})
            assert (answer["code"], answer["fields"]) == (2, {"key": new})
    answer = gateway.post("/consumers/bob/key-auth", 400, key="{vault://env/KEY}")
    assert answer["fields"] == {
        "key": "references to vaults are not supported in this version: send the key itself, or in a file its key_hash"
    }


def test_a_key_under_a_new_id_moves_its_credential(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    gateway.post("/consumers", username="eve")
    made = gateway.post("/consumers/bob/key-auth", key=KEY, tags=["a"])
    new = str(uuid4())
    moved = gateway.call("PUT", f"/consumers/bob/key-auth/{new}", 200, json={"id": new, "key": KEY, "tags": ["a"]})
    assert (moved["id"], moved["key"]) == (new, KEY)
    ((n, key_id, *_),) = gateway.publisher.credentials.values()
    assert (n, key_id) == (1, new)
    braced, newer = gateway.post("/consumers/eve/key-auth", key="{a-key-like-a-reference"), str(uuid4())
    gateway.call("PUT", f"/consumers/eve/key-auth/{newer}", 200, json={"key": "{a-key-like-a-reference"})
    gateway.call("GET", f"/key-auths/{braced['id']}", 404)
    gateway.call("DELETE", f"/consumers/eve/key-auth/{newer}", 204)
    assert [tag["entity_id"] for tag in gateway.call("GET", "/tags/a")["data"]] == [new]
    old = f"/consumers/bob/key-auth/{made['id']}"
    gateway.call("GET", old, 404)
    gateway.call("DELETE", old, 204)
    assert [c["id"] for c in gateway.call("GET", "/key-auths")["data"]] == [new]
    gateway.call("DELETE", f"/consumers/eve/key-auth/{made['id']}", 404)
    gateway.call("DELETE", f"/consumers/bob/key-auth/{uuid4()}", 404)
    gateway.now += 601
    gateway.call("DELETE", old, 404)


def test_a_put_below_another_consumer_moves_a_key(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    eve = gateway.post("/consumers", username="eve")
    made = gateway.post("/consumers/bob/key-auth", key=KEY)
    by_id, by_key = f"/consumers/eve/key-auth/{made['id']}", f"/consumers/bob/key-auth/{KEY}"
    for method in ("GET", "PATCH", "DELETE"):
        assert gateway.call(method, by_id, 404, json={})
    moved = gateway.call("PUT", by_id, 200, json={"key": reference(made["id"])})
    assert (moved["id"], moved["consumer"]) == (made["id"], {"id": eve["id"]})
    (record,) = gateway.publisher.credentials.values()
    assert (record.n, record.consumer, record.hmac) == (1, 2, gateway.publisher.hash_key(KEY.encode()))
    gateway.call("PUT", by_key, 200, json={})
    assert gateway.call("GET", f"/key-auths/{made['id']}/consumer")["username"] == "bob"


def test_a_key_under_a_new_id_moves_to_another_consumer_where_keys_are_not_shown(tmp_path: Path) -> None:
    for shows_keys in (False, True):
        gateway = Gateway(tmp_path / str(shows_keys), shows_keys=shows_keys).open()
        for name in ("bob", "eve"):
            gateway.post("/consumers", username=name)
        made = gateway.post("/consumers/bob/key-auth", key=KEY)
        new = f"/consumers/eve/key-auth/{uuid4()}"
        if shows_keys:  # a client that sees keys sends the old id
            clash = gateway.call("PUT", new, 409, json={"key": KEY})
            assert clash["message"] == "UNIQUE violation detected on '{key=\"<hidden>\"}'"
        else:
            assert gateway.call("PUT", new, 200, json={"key": KEY})["key"] == KEY
            gateway.call("DELETE", f"/consumers/eve/key-auth/{made['id']}", 404)
            gateway.call("DELETE", f"/consumers/bob/key-auth/{made['id']}", 204)
            gateway.call("DELETE", "/consumers/bob", 204)
            assert gateway.call("GET", f"/key-auths/{KEY}/consumer")["username"] == "eve"
        gateway.post("/consumers/eve/key-auth", 409, key=KEY)
        assert len(gateway.publisher.credentials) == 1
        gateway.close()


def test_answers_show_keys_only_while_the_setting_says_so(tmp_path: Path) -> None:
    events: list[tuple[str, dict[str, object]]] = []
    gateway = Gateway(tmp_path, log=lambda event, /, **facts: events.append((event, facts)))
    gateway.open()
    gateway.post("/consumers", username="bob")
    hidden = gateway.post("/consumers/bob/key-auth", key="sent-before-the-setting")
    gateway.close()
    gateway.shows_keys = True
    gateway.open()
    assert ("keys_are_shown", {"setting": "AIGW_ADMIN_SHOWS_KEYS=1"}) in events
    made = gateway.post("/consumers/bob/key-auth", key=KEY)
    path = f"/consumers/bob/key-auth/{made['id']}"
    assert gateway.call("GET", path)["key"] == KEY
    assert {c["key"] for c in gateway.call("GET", "/key-auths")["data"]} == {KEY, reference(hidden["id"])}
    assert events[-1][0] == "keys_shown" and events[-1][1].items() >= {"path": "/key-auths", "keys": 1}.items()
    for named, told in (
        ("/key-auths/{}", "/key-auths/***"),
        ("/consumers/bob/key%2Dauth/{}", "/consumers/bob/key%2Dauth/***"),
    ):
        assert gateway.call("GET", named.format(KEY))["key"] == KEY
        assert events[-1][0] == "keys_shown" and events[-1][1].items() >= {"path": told, "keys": 1}.items()
    assert gateway.call("GET", path)["key"] == KEY and events[-1][1]["path"] == path
    assert gateway.call("PATCH", path, json={"tags": ["a"]})["key"] == KEY
    braced = gateway.post("/consumers/bob/key-auth", key="{a-key-like-a-reference")
    assert gateway.call("GET", f"/consumers/bob/key-auth/{braced['id']}")["key"] == "{a-key-like-a-reference"
    assert events[-1][1]["keys"] == 1
    again = f"/consumers/bob/key-auth/{hidden['id']}"
    gateway.call("PUT", again, 200, json={"key": "sent-before-the-setting"})
    assert gateway.call("GET", again)["key"] == "sent-before-the-setting"
    gateway.close()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    gateway.shows_keys = False
    gateway.open()
    assert events[-1] == ("sealed_keys_deleted", {"keys": 3})
    assert gateway.call("GET", path)["key"] == reference(made["id"])
    gateway.close()
    gateway.shows_keys = True
    gateway.open()
    assert gateway.call("GET", path)["key"] == reference(made["id"])
    gateway.close()
