"""The configuration in force as a file: a dump shows variables in place of plain-text keys of upstreams."""

from conftest import Gateway

MODELS = """\
models:
  a.b: {upstreams: [{url: "http://h/v1", api_key: plain-key-one}, {url: "http://i/v1"}]}
  a-b: {upstreams: [{url: "http://h/v1", api_key: plain-key-two}]}
  c: {upstreams: [{url: "http://h/v1", api_key: "${NO_KEY:-none}"}]}
"""


def test_dump_gives_each_unreferenced_key_its_own_variable(gateway: Gateway) -> None:
    gateway.call("POST", "/config", content=MODELS, headers={"content-type": "application/yaml"})
    answer = gateway.client.get("/config")
    assert "plain-key" not in answer.text
    keys = {name: [u.get("api_key") for u in spec["upstreams"]] for name, spec in answer.json()["models"].items()}
    assert keys["c"] == ["${NO_KEY:-none}"] and keys["a.b"][1] is None
    assert {keys["a.b"][0], keys["a-b"][0]} == {"${AIGW_UPSTREAM_KEY_A_B_0}", "${AIGW_UPSTREAM_KEY_A_B_0_}"}
