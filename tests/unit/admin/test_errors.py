"""Kong's error messages, each with its code, status and fields."""

from typing import Any
from uuid import uuid4

import pytest

from conftest import Gateway

PERIODS = ", ".join(f"'config.{p}'" for p in ("second", "minute", "hour", "day", "month", "year"))
NAME = "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
SCHEME = "should start with: / (fixed path) or ~/ (regex path)"
MUST_SET = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("services", {}, "schema violation (host: required field missing)"),
        ("services", {"host": "h", "a": 1}, "schema violation (a: unknown field)"),
        ("services", {"host": "h", "retries": "5"}, "schema violation (retries: expected an integer)"),
        ("services", {"host": "h", "retries": 1.5}, "schema violation (retries: expected an integer)"),
        ("services", {"host": "h", "retries": True}, "schema violation (retries: expected an integer)"),
        ("services", {"host": "h", "enabled": "true"}, "schema violation (enabled: expected a boolean)"),
        ("services", {"host": "h", "tags": "a"}, "schema violation (tags: expected an array)"),
        ("services", {"host": 5}, "schema violation (host: expected a string)"),
        ("services", {"host": "h", "port": 65536}, "schema violation (port: value should be between 1 and 65535)"),
        ("services", {"host": "h", "port": 0}, "schema violation (port: value should be between 1 and 65535)"),
        ("services", {"url": "http://h:0"}, "schema violation (port: value should be between 1 and 65535)"),
        ("services", {"host": "h", "name": "a b"}, f"schema violation (name: {NAME})"),
        ("services", {"host": "h", "protocol": "tcp"},
         "schema violation (protocol: 'tcp' is not supported in this version)"),
        ("services", {"host": "h", "protocol": "x"}, "schema violation (protocol: expected one of: http, https)"),
        ("services", {"url": "ftp://h/"}, "schema violation (protocol: expected one of: http, https)"),
        ("services", {"url": "file:///etc/passwd"}, "2 schema violations (host: required field missing; "
         "protocol: expected one of: http, https)"),
        ("services", {"host": "h", "path": "x"}, "schema violation (path: should start with: /)"),
        ("services", {"host": "h", "path": "/a//b"}, "schema violation (path: must not have empty segments)"),
        ("services", {"host": "h", "tls_verify_depth": 1},
         "schema violation (tls_verify_depth: not supported in this version)"),
        ("services", {"retries": "x"},
         "2 schema violations (host: required field missing; retries: expected an integer)"),
        ("services", {"host": "169.254.169.254"},
         "schema violation (host: link-local addresses are not allowed: AIGW_UPSTREAM_ALLOW lists networks that are)"),
        ("routes", {}, f"schema violation ({MUST_SET})"),
        ("routes", {"paths": ["/a", "x"]}, f"schema violation (paths.2: {SCHEME})"),
        ("routes", {"paths": ["/a"], "methods": ["get"]}, "schema violation (methods.1: invalid value: get)"),
        ("routes", {"paths": ["/a"], "snis": ["x"]}, "schema violation (snis: not supported in this version)"),
        ("routes", {"paths": ["/a"], "protocols": ["grpc"]},
         "schema violation (protocols.1: 'grpc' is not supported in this version)"),
        ("routes", {"paths": ["/a"], "expression": "http.path == \"/\"", "priority": 1},
         "2 schema violations (expression: not supported in this version; priority: not supported in this version)"),
        ("plugins", {"name": "key-auth", "protocols": ["http", "tls_passthrough"]},
         "schema violation (protocols.2: 'tls_passthrough' is not supported in this version)"),
        ("plugins", {"name": "key-auth", "ordering": {"before": {"access": ["acl"]}}},
         "schema violation (ordering: not supported in this version)"),
        ("routes", {"paths": ["/a"], "path_handling": "v1"},
         "schema violation (path_handling: 'v1' is not supported in this version)"),
        ("consumers", {},
         "schema violation (at least one of these fields must be non-empty: 'custom_id', 'username')"),
        ("consumers", {"username": "a\r\nX: y"},
         "schema violation (username: must not contain control characters)"),
        ("plugins", {}, "schema violation (name: required field missing)"),
        ("plugins", {"name": "jwt"}, "schema violation (name: plugin 'jwt' is not supported in this version)"),
        ("routes", {"paths": ["/x"], "request_buffering": False},
         "schema violation (request_buffering: false is not supported in this version)"),
        ("plugins", {"name": "foo"}, "schema violation (name: plugin 'foo' not enabled; "
         "add it to the 'plugins' configuration property)"),
        ("plugins", {"name": "rate-limiting"},
         f"schema violation (at least one of these fields must be non-empty: {PERIODS})"),
        ("plugins", {"name": "rate-limiting", "config": {"garbage": 1, "minute": 1}},
         "schema violation (config.garbage: unknown field)"),
        ("plugins", {"name": "rate-limiting", "config": {"second": 20, "hour": 10}},
         "schema violation (config: The limit for hour(10.0) cannot be lower than the limit for second(20.0))"),
        ("plugins", {"name": "rate-limiting", "config": {"minute": 0}},
         "schema violation (config.minute: value must be greater than 0)"),
        ("plugins", {"name": "rate-limiting", "config": {"minute": 2**32}},
         "schema violation (config.minute: value should be between 1 and 4294967295)"),
        ("plugins", {"name": "rate-limiting", "config": {"minute": 1, "policy": "redis"}},
         "schema violation (config.policy: 'redis' is not supported in this version)"),
        ("plugins", {"name": "rate-limiting", "config": {"minute": 1, "policy": "cluster"}},
         "schema violation (config.policy: 'cluster' is not supported in this version)"),
        ("plugins", {"name": "rate-limiting", "config": {"minute": 1, "policy": "x"}},
         "schema violation (config.policy: expected one of: local, cluster, redis)"),
        ("plugins", {"name": "rate-limiting", "config": {"minute": 1, "limit_by": "header"}},
         "2 schema violations (failed conditional validation given value of field 'config.limit_by'; "
         "config.header_name: required field missing)"),
        ("plugins", {"name": "key-auth", "config": {"key_in_body": True}},
         "schema violation (config.key_in_body: true is not supported in this version)"),
        ("plugins", {"name": "key-auth", "config": {"key_names": ["a b"]}}, "schema violation (config.key_names.1: "
         "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-')"),
        ("plugins", {"name": "key-auth", "consumer": {"id": str(uuid4())}},
         "schema violation (consumer: value must be null)"),
        ("plugins", {"name": "key-auth", "protocols": []},
         "schema violation (protocols: length must be at least 1)"),
        ("key-auths", {}, "schema violation (consumer: required field missing)"),
        ("services", {"host": "h", "id": "x"}, "schema violation (id: expected a valid UUID)"),
    ],
)  # fmt: skip
def test_schema_violations_have_kongs_form(gateway: Gateway, path: str, body: dict[str, Any], message: str) -> None:
    answer = gateway.call("POST", f"/{path}", 400, json=body)
    assert answer["message"] == message
    assert (answer["code"], answer["name"]) == (2, "schema violation")
    assert answer["fields"]
    assert gateway.call("GET", f"/{path}") == {"data": [], "next": None}


def test_a_route_refuses_an_expression_that_no_worker_can_run(gateway: Gateway) -> None:
    for path in ("~/(x", r"~/(?=a)b", r"~/(a)\1", "~/(?>a)"):
        answer = gateway.post("/routes", 400, paths=[path])
        assert answer["fields"]["paths"][0].startswith("invalid regex: ")
    gateway.post("/routes", paths=[r"~/users/(?<user>\d+)$"])


def test_findings_on_the_whole_entity_have_the_field_at_entity(gateway: Gateway) -> None:
    assert list(gateway.post("/consumers", 400)["fields"]) == ["@entity"]


def test_unique_primary_and_foreign_violations(gateway: Gateway) -> None:
    service = gateway.post("/services", name="ai-service", host="h")
    twice = gateway.post("/services", 409, name="ai-service", host="h")
    assert twice["message"] == "UNIQUE violation detected on '{name=\"ai-service\"}'"
    assert (twice["code"], twice["name"], twice["fields"]) == (5, "unique constraint violation", {"name": "ai-service"})
    same = gateway.post("/services", 400, id=service["id"], host="h")
    assert (same["code"], same["name"]) == (3, "primary key violation")
    absent = str(uuid4())
    foreign = gateway.post("/routes", 400, paths=["/"], service={"id": absent})
    assert (
        foreign["message"] == f"the foreign key '{{id=\"{absent}\"}}' does not reference an existing 'services' entity."
    )
    assert (foreign["code"], foreign["fields"]) == (4, {"service": {"id": absent}})
    gateway.post("/services/ai-service/routes", paths=["/"])
    held = gateway.call("DELETE", "/services/ai-service", 400)
    assert held["message"] == "an existing 'routes' entity references this 'services' entity"
    assert (held["code"], held["fields"]) == (4, {"@referenced_by": "routes"})


def test_a_scope_has_one_plugin_of_a_kind(gateway: Gateway) -> None:
    gateway.post("/plugins", name="key-auth")
    twice = gateway.post("/plugins", 409, name="key-auth")
    assert twice["fields"] == {"consumer": None, "name": "key-auth", "route": None, "service": None}
    assert twice["message"] == (
        "UNIQUE violation detected on '{consumer=null,name=\"key-auth\",route=null,service=null}'"
    )


@pytest.mark.parametrize(
    ("query", "code", "status"),
    [("size=0", 9, 400), ("size=1001", 9, 400), ("size=x", 9, 400), ("offset=%25", 7, 400), ("tags=a,b/c", 11, 400),
     ("tags=", 11, 400), ("tags=a,,b", 11, 400)],
)  # fmt: skip
def test_lists_refuse_bad_options(gateway: Gateway, query: str, code: int, status: int) -> None:
    answer = gateway.call("GET", f"/services?{query}", status)
    assert answer["code"] == code
    if code == 9:
        assert answer["message"] == "size must be an integer between 1 and 1000"


def test_unreadable_bodies_are_refused(gateway: Gateway) -> None:
    def send(content: bytes, kind: str | None) -> Any:
        return gateway.client.post("/services", content=content, headers={"Content-Type": kind} if kind else {})

    for content in (b"{", b"[]", b"null", b'{"a": NaN}', b"[" * 5000):
        answer = send(content, "application/json")
        assert (answer.status_code, answer.json()) == (400, {"message": "Cannot parse JSON body"})
    assert send(b"x", "text/plain").status_code == 415
    assert send(b"x", "text/plain").content == b""
    assert send(b"x", None).status_code == 415
    many = send("&".join(f"a{i}=1" for i in range(1001)).encode(), "application/x-www-form-urlencoded")
    assert (many.status_code, many.json()) == (400, {"message": "Too many arguments"})
    large = send(b" " * (8 * 1024 * 1024 + 1), "application/json")
    assert large.status_code == 413
    assert send(b"\xff=1", "application/x-www-form-urlencoded").status_code == 400


def test_unknown_paths_and_methods_are_refused(gateway: Gateway) -> None:
    for path in ("/nope", "/services/x", "/consumers/x/acls", "/acls/x", "/a/b/c/d/e",
                 "/consumers/x/key-auth", "/upstreams/x", "/routes/x/service"):  # fmt: skip
        assert gateway.call("GET", path, 404) == {"message": "Not found"}
    answer = gateway.client.request("PUT", "/services")
    assert (answer.status_code, answer.json()) == (405, {"message": "Method not allowed"})
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert gateway.call("POST", "/", 405) == {"message": "Method not allowed"}
