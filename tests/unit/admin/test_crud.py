"""Create, read, upsert, patch and delete of every entity; nested paths; lists and tags."""

from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Gateway


def test_objects_have_every_field_of_kong(gateway: Gateway) -> None:
    service = gateway.post("/services", host="h")
    assert {k: v for k, v in service.items() if k not in ("id", "created_at", "updated_at")} == {
        "name": None, "retries": 5, "protocol": "http", "host": "h", "port": 80, "path": None, "connect_timeout": 60000,
        "write_timeout": 60000, "read_timeout": 60000, "tags": None, "client_certificate": None, "tls_verify": None,
        "tls_verify_depth": None, "ca_certificates": None, "enabled": True,
    }  # fmt: skip
    route = gateway.post("/routes", paths=["/"])
    assert {k: v for k, v in route.items() if k not in ("id", "created_at", "updated_at")} == {
        "name": None, "protocols": ["http", "https"], "https_redirect_status_code": 426, "strip_path": True,
        "preserve_host": False, "request_buffering": True, "response_buffering": True, "tags": None, "service": None,
        "snis": None, "sources": None, "destinations": None, "methods": None, "hosts": None, "paths": ["/"],
        "headers": None, "regex_priority": 0, "path_handling": "v0",
    }  # fmt: skip
    plugin = gateway.post("/plugins", name="rate-limiting", config={"minute": 5})
    assert set(plugin) == {"id", "name", "instance_name", "created_at", "updated_at", "route", "service", "consumer", "consumer_group",
                           "config", "protocols", "enabled", "tags"}  # fmt: skip
    assert plugin["config"] == {
        "second": None, "minute": 5, "hour": None, "day": None, "month": None, "year": None, "limit_by": "consumer",
        "header_name": None, "path": None, "policy": "local", "fault_tolerant": True, "hide_client_headers": False,
        "error_code": 429, "error_message": "API rate limit exceeded", "sync_rate": -1,
        "redis": {"host": None, "port": 6379, "timeout": 2000, "username": None, "password": None, "database": 0,
                  "ssl": False, "ssl_verify": False, "server_name": None},
        "redis_host": None, "redis_port": 6379, "redis_timeout": 2000, "redis_username": None, "redis_password": None,
        "redis_database": 0, "redis_ssl": False, "redis_ssl_verify": False, "redis_server_name": None,
    }  # fmt: skip
    auth = gateway.post("/plugins", name="key-auth")["config"]
    assert auth == {"key_names": ["apikey"], "hide_credentials": False, "anonymous": None, "key_in_header": True,
                    "key_in_query": True, "key_in_body": False, "run_on_preflight": True, "realm": None}  # fmt: skip


def test_url_sets_protocol_host_port_and_path(gateway: Gateway) -> None:
    service = gateway.post("/services", name="s", url="https://Example.com/v1")
    assert (service["host"], service["port"], service["path"]) == ("Example.com", 443, "/v1")
    assert "url" not in service
    patched = gateway.call("PATCH", "/services/s", json={"url": "http://[::1]:9000"})
    assert (patched["host"], patched["port"], patched["path"], patched["protocol"]) == ("[::1]", 9000, None, "http")


def test_put_creates_replaces_and_returns_to_defaults(gateway: Gateway) -> None:
    made = gateway.call("PUT", "/services/mine", 200, json={"host": "h", "retries": 1})
    assert (made["name"], made["retries"]) == ("mine", 1)
    again = gateway.call("PUT", "/services/mine", 200, json={"host": "i"})
    assert (again["id"], again["retries"], again["host"]) == (made["id"], 5, "i")
    key = str(uuid4())
    by_id = gateway.call("PUT", f"/consumers/{key}", 200, json={"username": "u"})
    assert by_id["id"] == key
    assert gateway.call("PUT", f"/consumers/{key}", 200, json={"username": "v"})["username"] == "v"
    assert gateway.call("GET", "/consumers/u", 404)


@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        ("/services/mine", "name", {"host": "h"}),
        ("/routes/mine", "name", {"paths": ["/"]}),
        ("/consumers/mine", "username", {}),
        ("/consumer_groups/mine", "name", {}),
        ("/plugins/mine", "instance_name", {"name": "cors"}),
        ("/upstreams/mine", "name", {}),
        ("/consumers/owner/key-auth/mine", "key", {}),
        ("/consumers/owner/acls/mine", "group", {}),
        ("/upstreams/owner/targets/mine:80", "target", {}),
    ],
)
def test_put_by_a_name_makes_the_entity_of_that_name(
    gateway: Gateway, path: str, field: str, body: dict[str, object]
) -> None:
    gateway.post("/consumers", username="owner")
    gateway.post("/upstreams", name="owner")
    made = gateway.call("PUT", path, 200, json={**body, field: "other:80" if field == "target" else "other"})
    assert made[field] == path.rpartition("/")[2], "as in Kong: the name of the path counts"
    assert gateway.call("PUT", path, 200, json=body)["id"] == made["id"]


def test_put_at_the_reference_of_a_key_keeps_the_key(gateway: Gateway) -> None:
    gateway.post("/consumers", username="owner")
    made = gateway.post("/consumers/owner/key-auth", key="a-key-of-the-owner")
    shown = gateway.call("GET", f"/key-auths/{made['id']}")["key"]
    changed = gateway.call("PUT", f"/consumers/owner/key-auth/{quote(shown, safe='')}", 200, json={"tags": ["t"]})
    assert (changed["id"], changed["tags"]) == (made["id"], ["t"])
    assert gateway.call("GET", "/key-auths/a-key-of-the-owner")["id"] == made["id"]


def test_patch_merges_inside_the_config_and_null_clears(gateway: Gateway) -> None:
    plugin = gateway.post("/plugins", name="rate-limiting", config={"minute": 5, "hour": 50, "error_code": 403})
    path = f"/plugins/{plugin['id']}"
    patched = gateway.call("PATCH", path, json={"config": {"minute": 6, "error_code": None}})
    assert (patched["config"]["minute"], patched["config"]["hour"], patched["config"]["error_code"]) == (6, 50, 429)
    cleared = gateway.call("PATCH", path, json={"config": {"hour": None}, "tags": ["x"]})
    assert (cleared["config"]["hour"], cleared["tags"]) == (None, ["x"])
    assert gateway.call("PATCH", path, json={"tags": None})["tags"] is None
    by_form = gateway.call("PATCH", path, data={"config.hour": "70", "enabled": "false"})
    assert (by_form["config"]["hour"], by_form["config"]["minute"], by_form["enabled"]) == (70, 6, False)
    assert gateway.call("PATCH", "/plugins/none", 404, json={}) == {"message": "Not found"}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_id_cannot_be_changed(gateway: Gateway, method: str) -> None:
    made = gateway.post("/services", name="mine", host="h")
    other = str(uuid4())
    for key in ("mine", made["id"]):
        for wanted in (other, "", 5, [made["id"]]):
            refused = gateway.call(method, f"/services/{key}", 400, json={"host": "i", "id": wanted})
            assert (refused["code"], list(refused["fields"])) == (2, ["id"])
        again = gateway.call(
            method, f"/services/{key}", 200, json={"name": "mine", "host": "h", "id": made["id"].upper()}
        )
        assert again["id"] == made["id"]
    assert gateway.call("GET", "/services/mine")["host"] == "h"
    assert gateway.call("GET", f"/services/{other}", 404)


def test_a_new_entity_has_the_id_of_its_path(gateway: Gateway) -> None:
    one, other = str(uuid4()), str(uuid4())
    gateway.call("PUT", f"/consumers/{one}", 400, json={"username": "u", "id": other})
    assert gateway.call("PUT", "/consumers/u", 200, json={"id": other})["id"] == other


def test_delete_of_an_absent_entity_changes_nothing(gateway: Gateway) -> None:
    gateway.post("/consumers", username="bob")
    assert gateway.call("DELETE", "/consumers/absent", 204) is None
    assert gateway.call("DELETE", f"/consumers/bob/key-auth/{uuid4()}", 404)
    assert gateway.call("DELETE", "/consumers/bob", 204) is None
    assert gateway.call("GET", "/consumers/bob", 404)


def test_delete_cascades_or_refuses(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    route = gateway.post("/services/s/routes", paths=["/"])
    gateway.post("/consumers", username="bob")
    gateway.post("/consumers/bob/key-auth")
    gateway.post("/consumers/bob/plugins", name="rate-limiting", config={"minute": 1}, route={"id": route["id"]})
    gateway.post(f"/routes/{route['id']}/plugins", name="key-auth")
    gateway.call("DELETE", f"/routes/{route['id']}", 204)
    assert gateway.call("GET", "/plugins")["data"] == []
    assert gateway.publisher.consumers[1].refs == []
    gateway.call("DELETE", "/consumers/bob", 204)
    assert gateway.call("GET", "/key-auths")["data"] == []
    assert (gateway.publisher.consumers, gateway.publisher.credentials) == ({}, {})
    gateway.call("DELETE", "/services/s", 204)


def test_nested_paths_read_and_write(gateway: Gateway) -> None:
    service = gateway.post("/services", name="s", host="h")
    other = gateway.post("/services", name="t", host="h")
    route = gateway.post("/services/s/routes", name="r", paths=["/"], service={"id": other["id"]})
    assert route["service"] == {"id": service["id"]}
    assert gateway.call("GET", "/routes/r/service")["id"] == service["id"]
    assert gateway.call("PATCH", "/routes/r/service", json={"retries": 9})["retries"] == 9
    assert gateway.call("DELETE", "/routes/r/service", 405)
    assert gateway.call("GET", "/services/s/routes/r")["id"] == route["id"]
    assert gateway.call("GET", "/services/t/routes/r", 404)
    assert gateway.call("PATCH", "/services/t/routes/r", 404, json={"paths": ["/"]})
    gateway.call("DELETE", "/services/t/routes/r", 404)
    assert [r["id"] for r in gateway.call("GET", "/services/s/routes")["data"]] == [route["id"]]
    moved = gateway.call("PUT", "/services/t/routes/r", 200, json={"paths": ["/"]})
    assert (moved["id"], moved["service"]) == (route["id"], {"id": other["id"]}), "Kong moves it, too"
    gateway.call("PUT", f"/services/s/routes/{route['id']}", 200, json={"name": "r", "paths": ["/"]})
    back = gateway.call("PATCH", "/services/s/routes/r", 200, json={"service": {"name": "t"}})
    assert back["service"] == {"id": other["id"]}, "the body's parent counts"
    assert gateway.call("PATCH", "/services/t/routes/r", 200, json={"strip_path": False})["service"] == back["service"]
    gateway.call("PUT", f"/services/s/routes/{route['id']}", 200, json={"name": "r", "paths": ["/"]})
    assert gateway.call("GET", "/services/absent/routes", 404)
    assert gateway.call("POST", "/services/absent/routes", 404, json={"paths": ["/"]})
    for parent, field in (("services/s", "service"), ("routes/r", "route")):
        plugin = gateway.post(f"/{parent}/plugins", name="key-auth")
        assert plugin[field]
        assert gateway.call("GET", f"/plugins/{plugin['id']}/{field}")["name"] in ("s", "r")
    named = gateway.post("/plugins", name="rate-limiting", instance_name="mine", config={"minute": 1})
    assert gateway.call("GET", "/plugins/mine")["id"] == named["id"]


def test_put_at_a_reference_that_is_null_makes_the_entity(gateway: Gateway) -> None:
    route = gateway.post("/routes", name="r", paths=["/"])
    gateway.call("PUT", "/routes/r/service", 400, json={"port": 1})
    assert gateway.call("GET", "/routes/r/service", 404) and gateway.call("GET", "/services")["data"] == []
    made = gateway.call("PUT", "/routes/r/service", 200, json={"host": "h", "name": "s"})
    assert gateway.call("GET", f"/routes/{route['id']}")["service"] == {"id": made["id"]}
    again = gateway.call("PUT", "/routes/r/service", 200, json={"host": "i", "name": "s"})
    assert (again["id"], again["host"]) == (made["id"], "i")
    gateway.call("PUT", "/routes/absent/service", 404, json={"host": "h"})
    gateway.post("/routes", name="other", paths=["/other"])
    own = str(uuid4())
    assert gateway.call("PUT", "/routes/other/service", 200, json={"host": "h", "id": own})["id"] == own


def test_references_accept_names(gateway: Gateway) -> None:
    service = gateway.post("/services", name="s", host="h")
    assert gateway.post("/routes", paths=["/"], service={"name": "s"})["service"] == {"id": service["id"]}
    by_form = gateway.call("POST", "/routes", 201, data={"hosts[]": "a.example", "service.name": "s"})
    assert by_form["service"] == {"id": service["id"]}
    absent = gateway.post("/routes", 400, paths=["/"], service={"name": "absent"})
    assert (absent["code"], absent["name"]) == (13, "foreign keys unresolved")
    text = "the foreign key cannot be resolved with '{name=\"absent\"}' for an existing 'services' entity"
    assert (absent["message"], absent["fields"]) == (
        f"foreign key unresolved (service.name: {text})",
        {"service": {"name": text}},
    )


def test_a_reference_may_be_a_whole_entity(gateway: Gateway) -> None:
    service = gateway.post("/services", name="s", host="h")
    route = gateway.post("/routes", name="r", paths=["/"], service=service)
    assert route["service"] == {"id": service["id"]}
    plugin = gateway.post("/plugins", name="key-auth", route=route, service={**service, "unknown": 1})
    assert (plugin["route"], plugin["service"]) == ({"id": route["id"]}, {"id": service["id"]})
    by_name = {k: v for k, v in service.items() if k != "id"}
    assert gateway.post("/routes", paths=["/b"], service=by_name)["service"] == {"id": service["id"]}


def test_every_path_answers_head_options_and_a_trailing_slash(gateway: Gateway) -> None:
    gateway.post("/services", name="s", host="h")
    full = gateway.client.get("/services/s/")
    head = gateway.client.head("/services/s")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(full.content))
    options = gateway.client.options("/services/s")
    assert (options.status_code, options.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")
    assert "access-control-allow-origin" not in options.headers
    for answer in (full, head, options, gateway.client.get("/nope")):
        assert answer.headers["server"].startswith("aigw/")
        assert answer.headers["x-kong-admin-latency"].isdigit()
    assert full.headers["content-type"] == "application/json; charset=utf-8"


def test_pages_reach_everything_once(gateway: Gateway) -> None:
    names = {gateway.post("/consumers", username=f"c{i}", tags=["odd" if i % 2 else "even"])["id"] for i in range(7)}
    seen, path = [], "/consumers?size=3"
    while path:
        page = gateway.call("GET", path)
        seen += [c["id"] for c in page["data"]]
        assert ("offset" in page) == (page["next"] is not None)
        path = page["next"]
    assert len(seen) == 7
    assert set(seen) == names
    odd = gateway.call("GET", "/consumers?tags=odd&size=1")
    assert odd["next"].startswith("/consumers?offset=")
    assert "tags=odd" in odd["next"]
    assert "size=1" in odd["next"]
    assert gateway.call("GET", "/services") == {"data": [], "next": None}
    assert gateway.call("GET", "/consumers?custom_id=none")["data"] == []


def test_tags_filter_lists(gateway: Gateway) -> None:
    gateway.post("/consumers", username="a", tags=["x", "y", "x"])
    gateway.post("/services", name="s", host="h", tags=["y"])
    assert [c["username"] for c in gateway.call("GET", "/consumers?tags=x,y")["data"]] == ["a"]
    assert gateway.call("GET", "/services?tags=x,y")["data"] == []
    assert len(gateway.call("GET", "/services?tags=x/y")["data"]) == 1
    assert [(t["entity_name"], t["tag"]) for t in gateway.call("GET", "/tags")["data"]] == [
        ("consumers", "x"), ("consumers", "y"), ("services", "y")]  # fmt: skip
    assert [t["entity_name"] for t in gateway.call("GET", "/tags/y")["data"]] == ["consumers", "services"]
    gateway.call("PATCH", "/services/s", json={"tags": []})
    gateway.call("DELETE", "/consumers/a")
    assert gateway.call("GET", "/tags") == {"data": [], "next": None}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=20), junk=st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
       | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)))  # fmt: skip
def test_any_input_gets_an_answer_below_500(gateway: Gateway, name: str, junk: object) -> None:
    for path, body in (
        ("/services", {"host": junk, "name": name, "url": junk}),
        ("/routes", {"paths": junk, "headers": junk, "hosts": [name]}),
        ("/consumers", {"username": name, "tags": junk}),
        ("/plugins", {"name": "rate-limiting", "config": junk, "service": junk}),
        ("/plugins", {"name": "key-auth", "config": {"key_names": junk, "realm": name}}),
    ):
        assert gateway.client.post(path, json=body).status_code in (201, 400, 409)
