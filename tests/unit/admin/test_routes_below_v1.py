"""Routes below `/v1`: with models they could never be reached, so the Admin API refuses them, and a file refuses to cut them off."""

import pytest

from conftest import Gateway

MODELS = b"models: {small: {upstreams: [{url: http://h/v1}]}}\n"
WORDS = "would never be reached: all below /v1 is the models'"
BELOW = [
    "/v1",
    "/v1/",
    "/v1/chat",
    "~/v1/.*",
    "~/v1$",
    "~/v1/?$",
    r"~/v1\/chat",
    "~/v1(/|$)",
    "~/v1(?:/.*)?$",
    "~/v1/a|/v1/b$",
]
OUTSIDE = ["/", "/v10", "/api/v1", "~/v1beta", "/openai/deployments", "~/v1/?x", "~/v1(/.*)?", "~/v1/a|/b", "~/v1(/|x)"]


@pytest.fixture
def with_models(gateway: Gateway) -> Gateway:
    gateway.call("POST", "/config", content=MODELS, headers={"content-type": "text/yaml"})
    gateway.post("/services", name="s", url="http://h")
    return gateway


@pytest.mark.parametrize("path", BELOW)
def test_route_below_v1_is_refused_when_it_is_made(with_models: Gateway, path: str) -> None:
    for method, url in (("POST", "/routes"), ("PUT", "/routes/r"), ("POST", "/services/s/routes")):
        refused = with_models.call(method, url, 400, json={"name": "r", "paths": ["/ok", path]})
        assert refused["name"] == "schema violation" and WORDS in refused["message"]
        assert refused["fields"]["paths"][0] is None and WORDS in refused["fields"]["paths"][1]
    made = with_models.post("/routes", name="other", paths=["/ok"])
    with_models.call("PATCH", f"/routes/{made['id']}", 400, json={"paths": [path]})


@pytest.mark.parametrize("path", OUTSIDE)
def test_route_outside_v1_is_made(with_models: Gateway, path: str) -> None:
    with_models.post("/routes", name="r", paths=[path])


def test_route_below_v1_is_made_without_models(gateway: Gateway) -> None:
    gateway.post("/routes", name="r", paths=["/v1/chat"])


def test_first_models_do_not_cut_off_a_route(gateway: Gateway) -> None:
    made = gateway.post("/routes", name="mine", paths=["/v1/mine"])
    refused = gateway.call("POST", "/config", 400, content=MODELS, headers={"content-type": "text/yaml"})
    assert "models 'small'" in str(refused) and "routes 'mine'" in str(refused)
    gateway.call("PATCH", "/routes/mine", json={"paths": ["/api/mine"]})
    gateway.call("POST", "/config", content=MODELS, headers={"content-type": "text/yaml"})
    assert gateway.call("GET", f"/routes/{made['id']}")["paths"] == ["/api/mine"]
