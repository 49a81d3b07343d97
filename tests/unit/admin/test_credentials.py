"""Keys: shown once, stored as HMACs, unique, expiring; no file and no error contains a part of a key."""

from uuid import uuid4

from conftest import Gateway

KEY = "PlantedKey0123456789abcdefghijkl"


def test_a_key_is_shown_once_and_never_stored(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    made = gateway.post("/consumers/bob/key-auth", key=KEY)
    assert (made["key"], made["key_hint"]) == (KEY, "...ijkl")
    assert "ttl" not in made
    path = f"/consumers/bob/key-auth/{made['id']}"
    for read in (gateway.call("GET", path), gateway.call("GET", "/key-auths")["data"][0],
                 gateway.call("GET", f"/consumers/bob/key-auth/{KEY}"), gateway.call("PATCH", path, json={"tags": ["a"]})):  # fmt: skip
        assert (read["id"], read["key"], read["key_hint"]) == (made["id"], None, "...ijkl")
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
    assert made["ttl"] == 10
    gateway.now += 4
    assert gateway.call("GET", path)["ttl"] == 6
    assert gateway.call("PATCH", path, json={"tags": ["kept"]})["ttl"] == 6
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


def test_a_row_number_belongs_to_one_entity_for_ever(gateway: Gateway) -> None:
    for name in ("a", "b"):
        gateway.post("/consumers", username=name)
        gateway.post(f"/consumers/{name}/key-auth")
    gateway.call("DELETE", "/consumers/b")
    gateway.post("/consumers", username="c")
    gateway.post("/consumers/c/key-auth")
    assert sorted(gateway.publisher.consumers) == [1, 3]
    assert sorted(gateway.publisher.credentials) == [1, 3]
    kept = gateway.call("PUT", "/consumers/c", json={"custom_id": "z", "username": "d"})
    assert gateway.publisher.consumers[3] == (3, kept["id"], "d", "z", [], 0, [])


def test_a_ttl_lasts_whole_seconds(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    gateway.now = 1_700_000_000.93
    made = gateway.post("/consumers/bob/key-auth", key=KEY, ttl=1)
    assert (made["ttl"], made["created_at"]) == (1, 1_700_000_000)
    ((_, _, _, _, expires_at),) = gateway.publisher.credentials.values()
    assert expires_at == 1_700_000_002
