"""A configuration that moves to another folder names the same files."""

from pathlib import Path

import pytest

from aigw._native import load_yaml
from aigw.config.moved import moved

TEXT = """\
# ${file:comment} stays
models:
  a:
    upstreams:
      - {url: x, tls_ca: &ca ca.pem, tls_cert: "c é.pem", tls_key: 'k.pem', api_key: "é${file:up/key}"} # tls_ca: b.pem
      - {url: x, tls_ca: *ca, tls_key: /etc/k.pem, tls_cert: "${CERT}", api_key: "${file:/run/key}"}
      - url: x
        tls_ca: ${FOLDER}/ca.pem
        tls_cert: ${UNSET}
        headers: {x: "$${file:not} ${file:a}-${file:../b}", tls_ca: mine}
    tokenizer: {file: "words/t.json"}
    input_bounds: {file: 7}
  b: {tokenizer: {file: /abs/t.json}}
  c: {tokenizer: bytes}
services:
  - {name: s, tls_verify: true}
"""


def test_the_moved_text_names_the_same_files(tmp_path: Path) -> None:
    folder = tmp_path / "it's # a: [folder]"
    folder.mkdir()
    out = moved(TEXT, folder, {"CERT": "/abs/c.pem", "FOLDER": "certs"})
    read = load_yaml(out.encode()).value()
    assert isinstance(read, dict)
    first, second, third = read["models"]["a"]["upstreams"]
    assert first == {
        "url": "x",
        "tls_ca": f"{folder}/ca.pem",
        "tls_cert": f"{folder}/c é.pem",
        "tls_key": f"{folder}/k.pem",
        "api_key": f"é${{file:{folder}/up/key}}",
    }
    assert second == {
        "url": "x",
        "tls_ca": f"{folder}/ca.pem",
        "tls_key": "/etc/k.pem",
        "tls_cert": "${CERT}",
        "api_key": "${file:/run/key}",
    }
    assert third["tls_ca"] == f"{folder}/${{FOLDER}}/ca.pem" and third["tls_cert"] == "${UNSET}"
    assert third["headers"] == {"x": f"$${{file:not}} ${{file:{folder}/a}}-${{file:{folder}/../b}}", "tls_ca": "mine"}
    assert [model.get("tokenizer") for model in read["models"].values()] == [
        {"file": f"{folder}/words/t.json"},
        {"file": "/abs/t.json"},
        "bytes",
    ]
    assert read["models"]["a"]["input_bounds"] == {"file": 7}
    assert out.startswith("# ${file:comment} stays\n") and "# tls_ca: b.pem\n" in out
    assert moved(out, Path("/elsewhere"), {"CERT": "/abs/c.pem", "FOLDER": "certs"}) == out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [",
        "[]",
        "models: [a]",
        "models: {a: {upstreams: [1, {tls_ca: [x]}], tokenizer: {file: [x]}}}",
        "a: b\r\n",
    ],
)
def test_a_text_without_paths_stays(text: str, tmp_path: Path) -> None:
    assert moved(text, tmp_path) == text
