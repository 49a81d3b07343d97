"""The settings table: one parser for variables and options, errors that name where the text came from."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from aigw.errors import ConfigError
from aigw.settings import Settings, load, variable


def test_every_setting_has_a_doc_and_a_default_that_its_own_parser_takes() -> None:
    settings = load({}, {})
    for setting in fields(Settings):
        assert setting.metadata["doc"]
        assert getattr(settings, setting.name) == setting.metadata["parse"](setting.metadata["default"])


def test_an_option_wins_over_a_variable_and_a_variable_over_the_default() -> None:
    environ = {"AIGW_WORKERS": "3", "AIGW_DRAIN_TIMEOUT": "7"}
    settings = load({"workers": "2", "drain_timeout": None}, environ)
    assert (settings.workers, settings.drain_timeout) == (2, 7.0)


def test_an_empty_variable_counts_as_unset() -> None:
    assert load({}, {"AIGW_DATA": "", "AIGW_WORKERS": "", "AIGW_ADMIN": "", "AIGW_CONFIG": ""}) == load({}, {})


@pytest.mark.parametrize(
    ("text", "config"),
    [("none", "none"), ("", None), ("./none", Path("none").absolute()), ("/x/none", Path("/x/none"))],
)
def test_a_word_for_no_file_differs_from_a_file_of_that_name(text: str, config: object) -> None:
    settings = load({}, {"AIGW_CONFIG": text})
    assert settings.config == config and load(settings.as_text(), {}) == settings


@pytest.mark.parametrize(("text", "seconds"), [("75", 75), ("75s", 75), ("2m", 120), ("1500ms", 1.5), ("1.5", 1.5)])
def test_durations_have_a_unit_or_are_seconds(text: str, seconds: float) -> None:
    settings = load({}, {"AIGW_KEEP_ALIVE": text})
    assert settings.keep_alive == seconds and load(settings.as_text(), {}) == settings


@pytest.mark.parametrize("text", ["0", "0.5", "2h", "75 s", "-1", "nan", "inf", "s", "1e3"])
def test_odd_durations_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="AIGW_KEEP_ALIVE: .* is not a duration"):
        load({}, {"AIGW_KEEP_ALIVE": text})


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", None),
        ("none", ()),
        ("/livez", ("/livez",)),
        ("/up,/x/readyz", ("/up", "/x/readyz")),
        ("/a, /b", ("/a", "/b")),
    ],
)
def test_probe_paths_reach_a_child_unchanged(text: str, paths: tuple[str, ...] | None) -> None:
    settings = load({}, {"AIGW_PROBE_PATH": text})
    assert settings.probe_path == paths and load(settings.as_text(), {}) == settings


@pytest.mark.parametrize("text", ["/", "livez", "/a,,/b", "/a b", "/a//b", "/../x", "/x?y", "off"])
def test_odd_probe_paths_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="AIGW_PROBE_PATH: .* is not a list of paths"):
        load({}, {"AIGW_PROBE_PATH": text})


def test_settings_reach_a_child_unchanged() -> None:
    given = {"data": "/tmp/x", "proxy": "[::1]:0", "workers": "2", "tls_cert": "/c", "tls_key": "/k", "loop": "stock"}
    settings = load(given, {})
    assert load(json.loads(json.dumps(settings.as_text())), {}) == settings


def test_the_text_of_settings_hides_secrets() -> None:
    settings = load({}, {"AIGW_ADMIN_TOKEN": "hush"})
    assert settings.admin_token == "hush"
    assert "hush" not in repr(settings) and "hush" not in json.dumps(settings.as_text())


@pytest.mark.parametrize(
    ("given", "environ", "words"),
    [
        ({"data": ""}, {}, "--data is empty: give it a value, or leave it out"),
        ({"config": ""}, {"AIGW_CONFIG": "f.yaml"}, "--config is empty"),
        (
            {},
            {"AIGW_BODY_MEMORY": "1gib"},
            "AIGW_BODY_MEMORY: '1gib' is not a size from 1048576 to 1099511627776 bytes: write it as in",
        ),
        ({}, {"AIGW_MAX_CONFIG_BYTES": "2049MiB"}, "'2049MiB' is not a size from 1048576 to 2147483648 bytes"),
        ({"workers": "0"}, {}, "--workers: '0' is not a whole number from 1 to 64"),
        ({}, {"AIGW_WORKERS": "x"}, "AIGW_WORKERS: 'x'"),
        ({"drain_timeout": "nan"}, {}, "--drain-timeout: 'nan' is not a number of seconds"),
        ({"proxy": "8000"}, {}, "--proxy: '8000' is not an address"),
        ({}, {"AIGW_OTLP_ENDPOINT": "nope"}, "AIGW_OTLP_ENDPOINT: 'nope' is not the address of a collector"),
        (
            {},
            {"AIGW_OTLP_ENDPOINT": "http://c:4318/v1/metrics/"},
            "the gateway appends /v1/metrics itself: write the address without",
        ),
        ({}, {"AIGW_OTLP_ENDPOINT": "ftp://x"}, "write it as http://127.0.0.1:4318"),
        ({}, {"AIGW_OTLP_ENDPOINT": "http://"}, "write it as http://127.0.0.1:4318"),
        ({}, {"AIGW_OTLP_ENDPOINT": "http://x:port"}, "write it as http://127.0.0.1:4318"),
        ({"log_format": "xml"}, {}, "json, console"),
        ({"tls_cert": "/c"}, {}, "belong together"),
        ({"admin": "0.0.0.0:8001"}, {}, "AIGW_ADMIN_TOKEN"),
        ({"admin": "[::]:8001"}, {}, "AIGW_ADMIN_TOKEN"),
        ({"admin": "example.com:8001"}, {"AIGW_ADMIN_TOKEN": ""}, "AIGW_ADMIN_TOKEN"),
    ],
)
def test_an_unusable_setting_is_named_with_its_source(
    given: dict[str, str], environ: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(given, environ)
    assert words in str(caught.value)


def test_off_loopback_with_a_token_is_allowed() -> None:
    assert load({"admin": "0.0.0.0:8001"}, {variable("admin_token"): "t"}).admin.host == "0.0.0.0"


@pytest.mark.parametrize("text", ["169.254.7.1/24", "host", "10.0.0.0/33", "fe80::/200"])
def test_odd_networks_are_refused(text: str) -> None:
    assert load({}, {"AIGW_UPSTREAM_ALLOW": "169.254.7.0/24, fe80::1"}).upstream_allow == "169.254.7.0/24,fe80::1/128"
    with pytest.raises(ConfigError, match=r"AIGW_UPSTREAM_ALLOW: .* is not a network or an address: write it as"):
        load({}, {"AIGW_UPSTREAM_ALLOW": text})
