"""The settings `v1` of a file: checked with positions, shown by the dump and the difference, and gone with the file."""

import pytest

from aigw.config import ConfigErrors, read_text
from conftest import Gateway

MODELS = "models: {small: {upstreams: [{url: http://h/v1}]}}\n"
ORIGINS = 'v1: {cors: {origins: ["https://App.example"], headers: [authorization], max_age: 2m}}\n'
YAML = {"content-type": "text/yaml"}


def test_dump_and_difference_show_v1(gateway: Gateway) -> None:
    found = gateway.call("POST", "/config/diff", content=MODELS + ORIGINS, headers=YAML)
    assert {"updated", "v1"} <= {value for change in found["changes"] for value in (change["action"], change["kind"])}
    gateway.call("POST", "/config", content=MODELS + ORIGINS, headers=YAML)
    shown = {"cors": {"origins": ["https://app.example"], "headers": ["authorization"], "max_age": "2m"}}
    assert gateway.call("GET", "/config")["v1"] == shown
    assert gateway.call("POST", "/config/diff", content=MODELS + ORIGINS, headers=YAML)["changes"] == []
    assert gateway.publisher.policy["v1_cors"]["max_age"] == 120
    gateway.call("POST", "/config", content=MODELS, headers=YAML)
    assert "v1" not in gateway.call("GET", "/config") and gateway.publisher.policy["v1_cors"] is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v1: {cors: {}}", "1:6: v1.cors"),
        ("v1: {cors: {origins: []}}", "v1.cors.origins"),
        ("v1: {cors: {origins: ['https://a/x']}}", "1:23: v1.cors.origins[0]: expected an origin as browsers send it"),
        ("v1: {cors: {origins: [null]}}", "v1.cors.origins[0]"),
        ("v1: {cors: {origins: ['null']}}", "v1.cors.origins[0]"),
        ("v1: {cors: {origins: ['*', 'https://a']}}", "'*' means every page: leave the other origins out"),
        ("v1: {cors: {origins: ['*'], max_age: 1}}", "v1.cors.max_age"),
        ("v1: {cors: {origins: ['*'], credentials: true}}", "v1.cors.credentials: unknown field"),
        ("v1: {cros: {}}", "did you mean 'cors'"),
        ("v1: 5", "v1: expected a record"),
    ],
)
def test_findings_of_v1_name_their_place(text: str, words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        read_text("tiers.yaml", text.encode(), {})
    assert words in str(caught.value)
