"""The calls of the demo's welcome are calls of the file that it serves."""

import pytest

from aigw.cli.first_calls import KeyedRoute, first_calls, first_consumer, first_route
from aigw.config import File, read_text

MODELS = 'models: {first.one: {upstreams: [{url: "http://h/v1"}]}, second: {upstreams: [{url: "http://h/v1"}]}}\n'
TIERS = "tiers: {t: }\n"


def load(text: str) -> File:
    return read_text("f.yaml", ('_format_version: "3.0"\n' + text).encode(), {})


def test_the_first_model_and_the_first_route_with_a_key_are_called() -> None:
    file = load(
        MODELS
        + TIERS
        + """\
services:
  - name: open
    url: http://h/
    routes: [{name: open, paths: [/open]}]
  - name: keyed
    url: http://h/
    routes: [{name: hosted, hosts: [a.example], paths: [/hosted]}, {name: pattern, paths: ["~/p$", "/a(b)"], methods: [PUT, GET]}]
    plugins: [{name: key-auth, config: {key_names: [x-key, apikey]}}]
"""
    )
    model, route = first_calls(file, "http://127.0.0.1:1", "$FREE_KEY")
    assert '"model": "first.one"' in model and 'Bearer $FREE_KEY"' in model
    assert route == "curl -s 'http://127.0.0.1:1/a(b)' -H \"x-key: $FREE_KEY\" -X PUT"


@pytest.mark.parametrize(
    ("plugins", "found"),
    [
        ("[{name: key-auth}]", True),
        ("[{name: key-auth, service: s}]", True),
        ("[{name: key-auth, route: r}]", True),
        ("[{name: key-auth, service: s, route: r}]", True),
        ("[{name: key-auth, service: other}]", False),
        ("[{name: key-auth, enabled: false}]", False),
        ("[{name: key-auth, config: {key_in_header: false}}]", False),
        ("[{name: rate-limiting, config: {minute: 5}}]", False),
        ("[]", False),
    ],
)
def test_a_route_counts_where_a_plugin_takes_the_key_in_a_header(plugins: str, found: bool) -> None:
    services = (
        "services: [{name: s, url: http://h/, routes: [{name: r, paths: [/x]}]}, {name: other, url: http://h/}]\n"
    )
    file = load(f"{services}plugins: {plugins}\n")
    assert first_route(file) == (KeyedRoute("/x", "apikey", "POST") if found else None)
    assert len(first_calls(file, "http://p", "k")) == found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tiers: {t: }\nconsumers: [{username: a}, {custom_id: c, tier: t}, {username: b, tier: t}]\n", "b"),
        ("tiers: {t: }\ndefault_tier: t\nconsumers: [{username: a}]\n", "a"),
        ("tiers: {t: }\nconsumers: [{username: a}]\n", None),
        ("tiers: {t: }\n", None),
    ],
)
def test_the_first_consumer_with_a_tier_gets_a_key(text: str, name: str | None) -> None:
    assert first_consumer(load(text)) == name
