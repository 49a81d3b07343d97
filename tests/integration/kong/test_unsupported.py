"""Parts of Kong that aigw lacks: a running gateway refuses each by name, in one form, whatever the method.

The tables name the paths, entities, plugins and fields of Kong 3.x, and some of its enterprise edition, on their own: the gateway's
lists are not read here.
"""

import ast
import re
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.processes import start_gateway

TEXT = "not supported in this version"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PATHS = """
    /acme /acme/certificates /admins /applications /auth /basic-auths /basic-auths/x /basic-auths/x/consumer /cache
    /cache/x /cluster /clustering/data-planes /clustering/status /custom-plugins /debug/node/log-level
    /debug/node/log-level/debug /debug/cluster/log-level/debug /degraphql_routes /developers /document_objects
    /event-hooks /files /filter-chains /filter-chains/x /filter-chains/x/route /filter-chains/x/service
    /graphql-rate-limiting-advanced/costs /groups /header-cert-auths /hmac-auths /hmac-auths/x /hmac-auths/x/consumer
    /jwt-signer/jwks /jwts /jwts/x /jwts/x/consumer /key-auths-enc /key-sets/x /key-sets/x/keys /keyring /keys/x
    /keys/x/set /license/report /licenses /licenses/x /mtls-auths /oas-config /oauth2 /oauth2/x /oauth2/x/consumer
    /oauth2_tokens /oauth2_tokens/x /partials /partials/x/links /portal /proxy-cache /proxy-cache/x
    /proxy-cache/x/caches/y /rbac/roles /rbac/users/x/permissions /sessions /timers /userinfo /vaults/x /vitals/cluster
    /workspaces /workspaces/default /workspaces/default/meta
    """
BELOW = {
    "/audit/objects": "/audit/objects",
    "/audit/requests": "/audit/requests",
    "/plugins/schema/key-auth": "/plugins/schema",
    "/status/dns": "/status/dns",
    "/certificates/x/upstreams": "/certificates/.../upstreams",
    "/upstreams/u/client_certificate": "/upstreams/.../client_certificate",
    "/consumer_groups/g/overrides/plugins/rate-limiting-advanced": "/consumer_groups/.../overrides",
    **{
        f"/consumers/bob/{one}{rest}": f"/consumers/.../{one}"
        for one in ("basic-auth", "hmac-auth", "jwt", "mtls-auth", "oauth2", "header-cert-auth", "key-auth-enc")
        for rest in ("", "/x")
    },
    **{
        f"/{parent}/{one}": f"/{parent.split('/', maxsplit=1)[0]}/.../{one.split('/', maxsplit=1)[0]}"
        for parent in ("services/s", "routes/r")
        for one in ("filter-chains", "filter-chains/x")
    },
    **{f"/routes/r/filters/{which}": "/routes/.../filters" for which in ("all", "enabled", "disabled")},
    **{f"/services/s/{one}": f"/services/.../{one}" for one in ("degraphql_routes", "document_objects")},
}
"""Path -> the name in its refusal."""
SCHEMAS = """
    acme_storage basicauth_credentials clustering_data_planes filter_chains hmacauth_credentials jwt_secrets key_sets keys
    licenses mtls_auth_credentials oauth2_authorization_codes oauth2_credentials oauth2_tokens parameters partials
    ratelimiting_metrics rbac_roles sessions sm_vaults vaults workspaces
    """
PLUGINS = """
    acme ai-prompt-decorator ai-prompt-guard ai-prompt-template ai-proxy ai-request-transformer ai-response-transformer
    aws-lambda azure-functions basic-auth bot-detection correlation-id datadog file-log grpc-gateway grpc-web hmac-auth
    http-log ip-restriction jwt ldap-auth loggly oauth2 opentelemetry post-function pre-function proxy-cache redirect
    request-termination request-transformer response-ratelimiting response-transformer session standard-webhooks statsd
    syslog tcp-log udp-log zipkin ai-proxy-advanced ai-rate-limiting-advanced canary mtls-auth openid-connect
    rate-limiting-advanced request-validator
    """
FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("/services", {"host": "h", "protocol": "tcp"}, "protocol: 'tcp' is"),
    ("/services", {"url": "grpc://h"}, "protocol: 'grpc' is"),
    ("/services", {"host": "h", "tls_verify_depth": 1}, "tls_verify_depth:"),
    ("/services", {"host": "h", "tls_sans": {"dnsnames": ["h"]}}, "tls_sans:"),
    ("/routes", {"paths": ["/a"], "protocols": ["tls"]}, "protocols.1: 'tls' is"),
    ("/routes", {"paths": ["/a"], "snis": ["h"]}, "snis:"),
    ("/routes", {"paths": ["/a"], "sources": [{"port": 1}]}, "sources:"),
    ("/routes", {"paths": ["/a"], "destinations": [{"port": 1}]}, "destinations:"),
    ("/routes", {"paths": ["/a"], "expression": "http.path"}, "expression:"),
    ("/routes", {"paths": ["/a"], "priority": 1}, "priority:"),
    ("/routes", {"paths": ["/a"], "path_handling": "v1"}, "path_handling: 'v1' is"),
    ("/routes", {"paths": ["/a"], "request_buffering": False}, "request_buffering: false is"),
    ("/upstreams", {"name": "v", "algorithm": "latency"}, "algorithm: 'latency' is"),
    ("/upstreams", {"name": "v", "hash_on": "cookie", "hash_on_cookie": "c"}, "hash_on: 'cookie' is"),
    ("/upstreams", {"name": "v", "hash_on_cookie": "c"}, "hash_on_cookie:"),
    ("/upstreams", {"name": "v", "use_srv_name": True}, "use_srv_name: true is"),
    ("/upstreams", {"name": "v", "client_certificate": {"id": "x"}}, "client_certificate:"),
    ("/upstreams", {"name": "v", "sticky_sessions_cookie": "c"}, "sticky_sessions_cookie:"),
    ("/upstreams", {"name": "v", "healthchecks": {"active": {"healthy": {"interval": 5}}}}, "active checks are"),
    ("/upstreams/u/targets", {"target": "h:1", "failover": True}, "failover:"),
    ("/consumers/bob/key-auth", {"key": "{vault://env/key}"}, "key: references to vaults are"),
    (
        "/plugins",
        {"name": "acl", "config": {"allow": ["a"], "include_consumer_groups": True}},
        "config.include_consumer_groups: true is",
    ),
    ("/plugins", {"name": "key-auth", "config": {"key_in_body": True}}, "config.key_in_body: true is"),
    ("/plugins", {"name": "key-auth", "config": {"identity_realms": []}}, "config.identity_realms:"),
    ("/plugins", {"name": "key-auth", "ordering": {}}, "ordering:"),
    ("/plugins", {"name": "key-auth", "partials": []}, "partials:"),
    ("/plugins", {"name": "key-auth", "protocols": ["ws"]}, "protocols.1: 'ws' is"),
    ("/plugins", {"name": "rate-limiting", "config": {"minute": 1, "policy": "redis"}}, "config.policy: 'redis' is"),
    (
        "/plugins",
        {"name": "rate-limiting", "config": {"minute": 1, "redis": {"password": "p"}}},
        "config.redis.password:",
    ),
    (
        "/plugins",
        {"name": "rate-limiting", "config": {"minute": 1, "redis": {"sentinel_role": "any"}}},
        "config.redis.sentinel_role:",
    ),
]


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> httpx.Client:
    """A client of a gateway with an entity of each kind that paths name."""
    gateway = start_gateway(tmp_path_factory.mktemp("gateway") / "data")
    try:
        gateway.route("http://127.0.0.1:1", "/", name="s")
        for path, body in (("/consumers", {"username": "bob"}), ("/upstreams", {"name": "u"})):
            gateway.make(path, **body)
        gateway.make("/consumer_groups", name="g")
        with httpx.Client(base_url=gateway.admin, trust_env=False) as client:
            yield client
    finally:
        gateway.process.end()


def message(admin: httpx.Client, method: str, path: str, status: int, body: dict[str, Any] | None = None) -> str:
    sent = {} if method in ("GET", "DELETE") else {"json": body or {"name": "x"}}
    answer = admin.request(method, path, **sent)  # type: ignore[arg-type]
    assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
    found: str = answer.json()["message"]
    return found


@pytest.mark.parametrize("path", [*PATHS.split(), *BELOW])
def test_paths_are_refused_by_name(admin: httpx.Client, path: str) -> None:
    name = BELOW.get(path) or "/" + path.split("/")[1]
    for method in METHODS:
        assert message(admin, method, path, 404) == f"'{name}' is {TEXT}"


@pytest.mark.parametrize("name", ["vaults", "keys", "key-sets"])
def test_lists_that_clients_always_read_stay_empty_and_refuse_writes(admin: httpx.Client, name: str) -> None:
    assert admin.get(f"/{name}").json() == {"data": [], "next": None}
    for method in METHODS[1:]:
        assert message(admin, method, f"/{name}", 400) == f"'/{name}' is {TEXT}"


@pytest.mark.parametrize("name", SCHEMAS.split())
def test_schemas_are_refused_by_name(admin: httpx.Client, name: str) -> None:
    for path in (f"/schemas/{name}", f"/schemas/{name}/validate"):
        for method in METHODS:
            assert message(admin, method, path, 404) == f"entity '{name}' is {TEXT}"


@pytest.mark.parametrize("name", PLUGINS.split())
def test_plugins_are_refused_by_name(admin: httpx.Client, name: str) -> None:
    wanted = f"schema violation (name: plugin '{name}' is {TEXT})"
    body: dict[str, Any] = {"name": name, "config": {"a": 1}}
    for path in ("/plugins", "/services/s/plugins", "/routes/s-route/plugins", "/consumers/bob/plugins"):
        assert message(admin, "POST", path, 400, body) == wanted
        assert message(admin, "PUT", f"{path}/2b1a7d3e-0d5c-4b0e-8f43-111111111111", 400, body) == wanted
    assert message(admin, "POST", "/schemas/plugins/validate", 400, body) == wanted
    for method in METHODS:
        assert message(admin, method, f"/schemas/plugins/{name}", 404) == f"plugin '{name}' is {TEXT}"


@pytest.mark.parametrize(("path", "body", "named"), FIELDS)
def test_fields_and_values_are_refused_by_name(
    admin: httpx.Client, path: str, body: dict[str, Any], named: str
) -> None:
    found = message(admin, "POST", path, 400, body)
    assert re.search(rf"[( .]{re.escape(named)} {TEXT}", found), found


def test_names_that_kong_lacks_too_are_unknown(admin: httpx.Client) -> None:
    for path in ("/nope", "/consumers/bob/nope", "/jwt", "/services/jwts", "/certificates/x/upstream"):
        assert message(admin, "GET", path, 404) == "Not found"
    assert message(admin, "GET", "/schemas/plugins/nope", 404) == "No plugin named 'nope'"
    assert message(admin, "POST", "/schemas/nope/validate", 404) == "No entity named 'nope'"
    for body in ({"nope": 1}, {"config": {"nope": 1}}):
        assert "nope: unknown field" in message(admin, "POST", "/plugins", 400, {"name": "key-auth", **body})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        *((f"{name}: []", f"{name}:") for name in SCHEMAS.split()),
        ("services: [{name: s, url: 'http://h', filter_chains: []}]", "services[0].filter_chains:"),
        ("consumers: [{username: a, jwt_secrets: []}]", "consumers[0].jwt_secrets:"),
        ("_workspace: team", "_workspace: 'team' is"),
        ("plugins: [{name: jwt}]", "plugins[0].name: plugin 'jwt' is"),
        ("plugins: [{name: key-auth, ordering: {}}]", "plugins[0].ordering:"),
        ("plugins: [{name: rate-limiting, config: {minute: 1, policy: redis}}]", "config.policy: 'redis' is"),
    ],
)
def test_files_are_refused_by_name(admin: httpx.Client, text: str, named: str) -> None:
    answer = admin.post("/config/diff", content=text.encode(), headers={"content-type": "application/yaml"})
    assert answer.status_code == 400, answer.text
    assert re.search(rf"(: |\.){re.escape(named)} {TEXT}", answer.json()["rendered"]), answer.text


def test_one_text_refuses_everywhere() -> None:
    """No string of the package says it in other words. Descriptions of fields are sentences, and end with a stop."""
    package = Path(__file__).parents[3] / "python/aigw"
    found = [
        (str(path.relative_to(package)), node.value)
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
        if "not supported" in node.value and not node.value.endswith(f"{TEXT}.")
    ]
    assert found == [("schema/unsupported.py", TEXT)]
