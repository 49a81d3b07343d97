"""No message and no shown source line contains a key, password or token, for any error in the file."""

import pytest

from aigw.config import ConfigErrors, read_text
from aigw.config.secret import masked_line, secret_name, without_users
from aigw.config.shape import Configuration

PLANTED = "hunter2hunter2"


def rendered(text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigErrors) as errors:
        read_text("f.yaml", text.encode(), environment or {})
    everything = str(errors.value) + "".join(str(f.as_dict()) + repr(f) for f in errors.value.findings)
    assert PLANTED not in everything, everything
    return str(errors.value)


@pytest.mark.parametrize(
    "text",
    [
        f"consumers: [{{username: a, teir: x, keyauth_credentials: [{{key: {PLANTED}}}]}}]",
        f"consumers: [{{username: a, keyauth_credentials: [{{kye: {PLANTED}}}]}}]",
        f"consumers: [{{username: a, keyauth_credentials: [{{key_hash: {PLANTED}}}]}}]",
        f"consumers: [{{username: a, keyauth_credentials: [{{whatever: {PLANTED}}}]}}]",
        f"consumers: [{{username: a, keyauth_credentials: [{PLANTED}]}}]",
        f"consumers: [{{username: a, keyauth_credentials: {PLANTED}}}]",
        f"consumers: [{{username: a, keyauth_credentials: [{{key: '{PLANTED} x'}}]}}]",
        f"consumers:\n- username: a\n  keyauth_credentials:\n  - key: |\n      {PLANTED} x\n",
        f"consumers: [{{username: a, keyauth_credentials: [{{key: {PLANTED}, key: {PLANTED}}}]}}]",
        f"consumers: [{{username: a, keyauth_credentials: [{{key: {{{PLANTED}: 1, {PLANTED}: 2}}}}]}}]",
        f"consumers: [{{username: a, keyauth_credentials: [{{key: {{{PLANTED}: !x 1}}}}]}}]",
        f"models: {{m: {{upstreams: [{{url: x, api_key: {{{PLANTED}: 1, {PLANTED}: 2}}}}]}}}}",
        "consumers:\n" + f"- {{username: a, keyauth_credentials: [{{key: {PLANTED}}}]}}\n" * 2,
        f"models: {{m: {{upstreams: [{{url: x, api_key: {PLANTED}}}]}}}}",
        f"models: {{m: {{upstreams: [{{url: x, api_key: {{{PLANTED}: 1}}}}]}}}}",
        f"models: {{m: {{upstreams: [{{url: x, apikey: {PLANTED}}}]}}}}",
        f"models: {{m: {{upstreams: [{{url: x, api-kee: {PLANTED}}}]}}}}",
        f"services: [{{name: s, url: 'http://me:{PLANTED}@h:bad'}}]",
        f"services: [{{name: s, host: h, pasword: {PLANTED}}}]",
        f"plugins: [{{name: rate-limiting, config: {{minute: 1, redis: {{password: {PLANTED}}}}}}}]",
        f"plugins: [{{name: rate-limiting, config: {{minute: 1, redis_password: {PLANTED}}}}}]",
        f"plugins: [{{name: x, config: {{token: {PLANTED}}}}}]",
        f"tiers: 1 # key: {PLANTED}",
        f'certificates: [{{cert: "-----BEGIN PRIVATE KEY-----\\n{PLANTED}\\n-----END PRIVATE KEY-----"}}]',
        f'ca_certificates: [{{cert: "{PLANTED}"}}]',
        f'certificates: [{{cert: x, key: y, snis: [{{name: "-----BEGIN PRIVATE KEY-----\\n{PLANTED}"}}]}}]',
        f"models: {{m: {{upstreams: [{{api_key: {PLANTED}}}, {{]}}}}",
        f"models:\n  m:\n    upstreams:\n    - api_key:\n       {PLANTED}: [\n",
        f"models:\n  m:\n    upstreams:\n    - api_key: {PLANTED}\n     url: x\n",
        f"models:\n  m:\n    upstreams:\n    - api_key: '{PLANTED}\n",
        f"models:\n  m:\n    upstreams:\n    - {{api_key: {PLANTED}: x}}\n",
        f"models:\n  m:\n    upstreams:\n    - api_key: >\n        {PLANTED}\n\t  x\n",
    ],
)
def test_a_finding_does_not_show_a_planted_secret(text: str) -> None:
    assert rendered(text).startswith("f.yaml:")


@pytest.mark.parametrize(
    "text",
    [
        "services: [{name: '${S} x', host: h}]",
        "services: [{name: s, url: 'ftp://${S}'}]",
        "services: [{name: s, url: '${S}'}]",
        "consumers: [{username: '${S}'}, {username: '${S}'}]",
        "consumers: [{username: a, tier: '${S}'}]",
        "consumers: [{username: a, keyauth_credentials: [{key: '${S}', tags: 1}]}]",
        "default_tier: x${S}",
        "services: [{name: s, host: h, port: '${S}'}]",
        "plugins: [{name: '${S}'}]",
        "plugins: [{name: rate-limiting, config: {minute: '${S}'}}]",
    ],
)
def test_a_finding_shows_the_reference_instead_of_its_value(text: str) -> None:
    rendered(text, {"S": PLANTED})


@pytest.mark.parametrize(
    "text", ["default_tier: '${S}'", "default_tier: 'x${S}'", "consumers: [{username: '${S}'}, {username: '${S}'}]"]
)
def test_a_finding_does_not_show_a_part_of_a_secret(text: str) -> None:
    rendered(text, {"S": PLANTED * 100})


def test_a_reference_is_shown_but_not_its_default() -> None:
    text = "consumers: [{{username: a, tier: x, keyauth_credentials: [{{key: '{}'}}]}}]"
    assert "key: '${KEY}'}" in rendered(text.format("${KEY}"), {"KEY": PLANTED})
    assert "key: ***}" in rendered(text.format(f"${{KEY:-{PLANTED}}}"))


def test_no_ordinary_field_counts_as_a_secret() -> None:
    names: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            names.update(node.get("properties", {}))
            for inner in node.values():
                collect(inner)
        elif isinstance(node, list):
            for inner in node:
                collect(inner)

    collect(Configuration.model_json_schema())
    assert {n for n in names if secret_name(n)} == {"key", "key_alt", "key_hash", "api_key", "tls_key"}


def test_a_number_of_a_limit_is_shown_though_its_name_looks_like_a_secret() -> None:
    shown = rendered(f"tiers: {{free: {{limits: [{{token: 5, per: day}}, {{token: {PLANTED}, key: '5', per: day}}]}}}}")
    assert "{token: 5, per: day}, {token: ***, key: ***, per: day}" in shown and "did you mean 'tokens'?" in shown
    shown = rendered("tiers: {free: {token: 5}}\nmodels: {m: {upstreams: [{url: http://h/v1, api_kee: 5}]}}")
    assert "{token: ***}" in shown and "api_kee: ***" in shown


def test_masking_hides_secrets_only() -> None:
    assert masked_line("  key: abc, x: y", []) == "  key: ***"
    assert masked_line("    abc", ["- key: >"]) == "    ***"
    assert masked_line("    abc", ["- name: >"]) == "    abc"
    assert without_users("http://a:b@c/d") == "http://a:***@c/d"
