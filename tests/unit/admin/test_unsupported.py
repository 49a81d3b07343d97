"""Parts of Kong that aigw lacks are refused by name, in one form, whatever the method."""

import pytest

from conftest import Gateway

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.mark.parametrize(
    "path",
    ["/jwts", "/jwts/x", "/consumers/bob/jwt", "/consumers/bob/jwt/x", "/consumers/bob/basic-auth",
     "/consumers/bob/hmac-auth", "/consumers/bob/oauth2", "/consumers/bob/mtls-auth", "/basic-auths", "/hmac-auths",
     "/oauth2", "/oauth2_tokens", "/mtls-auths", "/partials", "/workspaces", "/workspaces/default/meta", "/licenses",
     "/filter-chains", "/services/s/filter-chains", "/routes/r/filter-chains/x", "/degraphql_routes",
     "/services/s/degraphql_routes", "/vaults/x", "/keys/x", "/key-sets/x", "/key-sets/x/keys", "/rbac/roles",
     "/event-hooks", "/clustering/data-planes"],
)  # fmt: skip
def test_paths_of_kong_are_refused_by_name(gateway: Gateway, path: str) -> None:
    gateway.post("/consumers", username="bob")
    for method in METHODS:
        message = gateway.call(method, path, 404, json={"name": "x"})["message"]
        assert message.endswith(" is not supported by aigw") and path.split("/")[1] in message, message


@pytest.mark.parametrize("name", ["vaults", "keys", "key-sets"])
def test_lists_that_clients_always_read_stay_empty_and_refuse_writes(gateway: Gateway, name: str) -> None:
    assert gateway.call("GET", f"/{name}") == {"data": [], "next": None}
    for method in METHODS[1:]:
        assert gateway.call(method, f"/{name}", 400, json={}) == {"message": f"'/{name}' is not supported by aigw"}


def test_schemas_are_refused_by_name(gateway: Gateway) -> None:
    for name in ("vaults", "keys", "key_sets", "jwt_secrets", "licenses", "partials", "workspaces"):
        for method, path in (("GET", f"/schemas/{name}"), ("POST", f"/schemas/{name}/validate")):
            assert gateway.call(method, path, 404, json={}) == {"message": f"entity '{name}' is not supported by aigw"}
    for name in ("jwt", "rate-limiting-advanced"):
        found = gateway.call("GET", f"/schemas/plugins/{name}", 404)
        assert found == {"message": f"plugin '{name}' is not supported by aigw"}
    assert gateway.call("GET", "/schemas/plugins/nope", 404) == {"message": "No plugin named 'nope'"}
    assert gateway.call("POST", "/schemas/nope/validate", 404, json={}) == {"message": "No entity named 'nope'"}


def test_names_that_kong_lacks_too_are_plainly_not_found(gateway: Gateway) -> None:
    for path in ("/nope", "/consumers/bob/nope", "/jwt", "/services/jwts"):
        assert gateway.call("GET", path, 404) == {"message": "Not found"}
