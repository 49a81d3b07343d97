"""Upstreams of models in the file: any address, secrets that stay secret, certificates that are read."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from aigw.config import ConfigErrors, read_text
from aigw.config.fingerprint import fingerprint
from aigw.control.file.changes import difference
from aigw.control.file.declare import rows_of_file
from aigw.control.file.diff import compare
from aigw.control.file.dump import document
from aigw.control.publish.compile_tiers import model_entry
from aigw.control.store.rows import Change, Row
from aigw.entities import KINDS, LlmModel
from tests.support.certificates import certificate

ENVIRONMENT = {"KEY": "sk-planted-1", "TEAM": "planted-team", "TOKEN": "planted-token", "MODEL": "a/b"}


class Sealer:
    """Seals by turning the bytes around."""

    def hash_key(self, key: bytes) -> bytes:
        return hashlib.sha256(key).digest()

    def seal(self, secret: bytes) -> str:
        return "sealed:" + secret[::-1].hex()


def rows(text: str, environment: dict[str, str] = ENVIRONMENT, folder: Path = Path()) -> dict[str, list[Row]]:
    file = read_text("f.yaml", text.encode(), environment, folder)
    return {kind: [] for kind in KINDS} | rows_of_file(file, Sealer(), 1, {}.get)  # type: ignore[arg-type]


def one(upstream: str, more: str = "") -> str:
    return f"models: {{m: {{upstreams: [{{{upstream}}}]{more}}}}}\n"


def wrong(upstream: str, more: str = "", folder: Path = Path()) -> str:
    with pytest.raises(ConfigErrors) as errors:
        read_text("f.yaml", one(upstream, more).encode(), ENVIRONMENT, folder)
    return str(errors.value)


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("https://host", "", ""),
        ("HTTPS://host/", "", ""),
        ("http://host:8080/v1/", "/v1", ""),
        ("https://[::1]/openai/v1", "/openai/v1", ""),
        ("https://x.example/openai/deployments/gpt-4o?api-version=2026-05-01", "/openai/deployments/gpt-4o", "api-version=2026-05-01"),
        ("https://h/v1beta/openai/", "/v1beta/openai", ""),
        ("https://h/a%20b/%2F/c:d@e/?x=%20&y", "/a%20b/%2F/c:d@e", "x=%20&y"),
        ("https://h?only=query", "", "only=query"),
    ],
)  # fmt: skip
def test_url_takes_any_base(url: str, path: str, query: str) -> None:
    (row,) = rows(one(f"url: '{url}'"))["models"]
    entry: Any = model_entry(1, LlmModel.model_validate(row.body), [1])["upstreams"][0]
    assert (entry["path"], entry["base_query"]) == (path, query)


@pytest.mark.parametrize(
    ("upstream", "words"),
    [
        ("url: 'https://h/v1/chat/completions'", "leave '/chat/completions' out"),
        ("url: 'https://h/v1/embeddings/'", "leave '/embeddings' out"),
        ("url: 'https://h/a//b'", "empty segments"),
        ("url: 'https://h/a/../b'", "must"),
        ("url: 'https://h/a b'", "expected http(s)://"),
        ("url: 'https://h/%zz'", "'%' stands before"),
        ("url: 'https://u:p@h/v1'", "expected http(s)://"),
        ("url: 'https://h/v1#x'", "expected http(s)://"),
        ("url: 'ftp://h/v1'", "expected http(s)://"),
        ("url: 'https://h/a`b'", "percent-encoded"),
        ("url: 'https://h/{deployment}/v1'", "percent-encoded"),
        ("url: 'https://h/v1?a=<b>'", "percent-encoded"),
        ("url: 'https://h/v1?a=\"b\"'", "percent-encoded"),
        ("url: 'https://h/v1?key=x'", "write secrets of the query under 'query'"),
        ("url: 'https://h/v1?v=${TEAM}'", "write secrets of the query under 'query'"),
        ("url: http://h, model: \"a\\tb\"", "control characters"),
        ("url: http://h, headers: {Host: x}", "upstreams[0].headers.Host: the gateway makes this header itself"),
        ("url: http://h, headers: {Content-Length: '1'}", "the gateway makes this header itself"),
        ("url: http://h, headers: {transfer-encoding: chunked}", "the gateway makes this header itself"),
        ("url: http://h, headers: {Connection: close}", "the gateway makes this header itself"),
        ("url: http://h, headers: {'a b': x}", "expected a header's name"),
        ("url: http://h, headers: {a: \"x\\r\\ny: z\"}", "printable ascii"),
        ("url: http://h, headers: {a: 'é'}", "printable ascii"),
        ("url: http://h, headers: {a: ' x'}", "printable ascii"),
        ("url: http://h, headers: {A: x, a: y}", "stands twice"),
        ("url: http://h, api_key: k, headers: {authorization: x}", "carries api_key: keep one of the two"),
        ("url: http://h, api_key: k, auth: {header: x-k}, headers: {X-K: x}", "carries api_key: keep one of the two"),
        ("url: http://h, auth: {header: api-key}", "says how api_key is sent: set api_key"),
        ("url: http://h, api_key: k, auth: {header: te}", "the gateway makes this header itself"),
        ("url: http://h, api_key: k, auth: {scheme: 'a b'}", "expected one word"),
        ("url: 'http://h?a=1', query: {a: '2'}", "the query of url says it"),
        ("url: http://h, tls_server_name: x", "needs an https url"),
        ("url: 'https://h', tls_server_name: 'a b'", "invalid value"),
        ("url: 'https://h', tls_ca: no.pem", "the file 'no.pem' cannot be read: No such file or directory"),
        ("url: 'https://h', tls_ca: ca.pem, tls_verify: false", "keep one of the two"),
        ("url: 'https://h', tls_cert: ca.pem", "tls_cert and tls_key go together"),
        ("url: 'https://h', tls_cert: no.pem, tls_key: no.pem", "f.yaml:1:55: models.m.upstreams[0].tls_cert"),
        ("url: 'https://h', tls_key: '-----BEGIN PRIVATE KEY-----'", "not its content"),
    ],
)  # fmt: skip
def test_wrong_upstream_is_refused(upstream: str, words: str) -> None:
    assert words in wrong(upstream)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (", stream_usage: sometimes", "expected one of: auto, always, never"),
        (", cap_parameter: max", "cap_parameter"),
        (", failover_on: [200]", "expected connect, or a status from 300 to 599"),
        (", failover_on: [600]", "expected connect, or a status from 300 to 599"),
        (", failover_on: [conect]", "expected connect, or a status from 300 to 599"),
        (", stream_ping: 500ms", "expected at least 1s"),
        (", timeouts: {between: 0s}", "expected a duration"),
    ],
)
def test_wrong_model_is_refused(more: str, words: str) -> None:
    assert words in wrong("url: http://h", more)


def test_failover_takes_references_and_client_errors() -> None:
    text = one("url: http://h", ", failover_on: [connect, 404, '${S}', 404]")
    (row,) = rows(text, {"S": "429"})["models"]
    assert row.body["spec"]["failover_on"] == ["connect", 404, 429]


SECRETS = one(
    'url: "http://h/${MODEL}", model: "${MODEL}", api_key: "${KEY}", auth: {header: api-key, scheme: ""},'
    ' headers: {x-team: "${TEAM}", x-plain: ai, Authorization: "Basic ${TOKEN:-planted-default}", x-api-key: planted-plain},'
    ' query: {sig: "${TOKEN}", api-version: "1"}'
)


def test_values_of_references_are_sealed_and_never_shown() -> None:
    found = rows(SECRETS)
    (row,) = found["models"]
    spec = row.body["spec"]["upstreams"][0]
    assert spec["headers"] == {"x-team": None, "x-plain": "ai", "Authorization": None, "x-api-key": None}
    assert (spec["query"], spec["api_key"], spec["model"]) == ({"sig": None, "api-version": "1"}, None, "a/b")
    assert "planted" not in str(row.body["spec"])
    entry: Any = model_entry(1, LlmModel.model_validate(row.body), [1])["upstreams"][0]
    opened = {
        name: bytes.fromhex(value.removeprefix("sealed:"))[::-1].decode() if sealed else value
        for name, value, sealed in entry["headers"]
    }
    assert opened == {
        "x-team": "planted-team",
        "x-plain": "ai",
        "Authorization": "Basic planted-token",
        "x-api-key": "planted-plain",
    }
    dumped = document(found, 0, None)
    upstream = dumped["models"]["m"]["upstreams"][0]
    assert upstream["headers"] == {
        "x-team": "${TEAM}", "x-plain": "ai", "Authorization": "Basic ${TOKEN}", "x-api-key": "${AIGW_UPSTREAM_KEY_M_0_HEADERS_X_API_KEY}",
    }  # fmt: skip
    assert (upstream["query"], upstream["api_key"]) == ({"sig": "${TOKEN}", "api-version": "1"}, "${KEY}")
    again = rows_of_file(
        read_text(
            "g.yaml",
            str(dumped).replace("None", "null").encode(),
            ENVIRONMENT | {"AIGW_UPSTREAM_KEY_M_0_HEADERS_X_API_KEY": "planted-plain"},
        ),
        Sealer(),
        1,
        {}.get,
    )  # type: ignore[arg-type]
    assert not compare({kind: [] for kind in KINDS} | again, None, found, None).differs


def test_changed_secret_is_told_without_its_value() -> None:
    before, after = rows(SECRETS), rows(SECRETS, ENVIRONMENT | {"TEAM": "other-planted", "TOKEN": "third-planted"})
    old, new = before["models"][0], after["models"][0]
    assert old.origin is not None and new.origin is not None and old.origin.hash != new.origin.hash
    places = ["headers.Authorization", "headers.x-team", "query.sig"]
    (differs,) = compare(after, None, before, None).differs
    assert sorted(path for path, *_ in differs.fields) == [f"upstreams[0].{place}" for place in places]
    assert "planted" not in str(differs)
    lines = difference([Change("models", old, new)], lambda _: None, (None, None)).lines
    assert all(f"upstreams[0].{place} changed" in lines[0] for place in places) and "planted" not in lines[0]


def test_certificates_are_read_sealed_and_watched(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    (tmp_path / "ca.pem").write_bytes(made.chain.read_bytes())
    text = one(f"url: 'https://h', tls_ca: ca.pem, tls_cert: {made.chain}, tls_key: '{made.key}'")
    before = fingerprint("f.yaml", text.encode(), {}, tmp_path)
    assert {tmp_path / "ca.pem", made.chain, made.key} <= set(before.files)
    old = rows(text, {}, tmp_path)
    (row,) = old["models"]
    entry: Any = model_entry(1, LlmModel.model_validate(row.body), [1])["upstreams"][0]
    assert bytes.fromhex(entry["tls_key"].removeprefix("sealed:"))[::-1] == made.key.read_bytes()
    assert document(old, 0, None)["models"]["m"]["upstreams"][0]["tls_ca"] == "ca.pem"
    (tmp_path / "ca.pem").write_bytes(made.chain.read_bytes() * 2)
    assert fingerprint("f.yaml", text.encode(), {}, tmp_path).whole != before.whole
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    assert "not the key of tls_cert" in wrong(f"url: 'https://h', tls_cert: {made.chain}, tls_key: {other.key}")
    assert "there is no private key in PEM form" in wrong(
        f"url: 'https://h', tls_cert: {made.chain}, tls_key: {made.chain}"
    )
    (tmp_path / "empty.pem").write_text("nothing")
    assert "f.yaml:1:53" in (found := wrong("url: 'https://h', tls_ca: empty.pem", folder=tmp_path)), found
    assert "there is no certificate in PEM form" in found
