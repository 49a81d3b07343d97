"""`aigw tokens` with a configuration file: texts, requests, and everything that it cannot count."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.test_cli import aigw

CONFIG = """
models:
  words: {upstreams: [{url: "http://h/v1"}], template: {per_message: 10, per_request: 100}, input_bounds: {image: 7}}
  bytes: {upstreams: [{url: "http://h/v1"}], tokenizer: bytes}
"""
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


def counted(tmp_path: Path, text: str, model: str = "words") -> tuple[str, int, int]:
    (tmp_path / "f.yaml").write_text(CONFIG)
    (tmp_path / "text").write_text(text)
    arguments = ("--model", model, "--config", str(tmp_path / "f.yaml"), "--output", "json")
    end = aigw("tokens", str(tmp_path / "text"), *arguments)
    assert end.returncode == 0, end.stderr
    found = json.loads(end.stdout)
    return found["kind"], found["tokens"], found["bound"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ("text", 0, 0)),
        ("Hello there, world", ("text", 4, 18)),
        ("[1, 2]", ("text", 6, 6)),
        ('{"a": 1}', ("text", 6, 8)),
        (json.dumps({"messages": [{"role": "user", "content": "hi"}]}), ("chat", 112, 116)),
        (json.dumps({"messages": [{"role": "user", "content": [IMAGE]}]}), ("chat", 118, 121)),
        (json.dumps({"prompt": ["hi", [1, 2, 3]]}), ("completion", 4, 5)),
        (json.dumps({"input": "hi"}), ("embedding", 1, 2)),
    ],
)
def test_text_and_requests_are_counted_for_the_model(tmp_path: Path, text: str, found: tuple[str, int, int]) -> None:
    assert counted(tmp_path, text) == found


def test_bytes_count_as_tokens_where_the_model_says_so(tmp_path: Path) -> None:
    assert counted(tmp_path, "Hello", "bytes") == ("text", 5, 5)


def test_wrong_files_are_told_with_exit_code_2(tmp_path: Path) -> None:
    config, text = tmp_path / "f.yaml", tmp_path / "text"
    config.write_text(CONFIG)
    text.write_bytes(b"a\xff")
    for model, file, words in [
        ("gone", text, "has no model 'gone': it has bytes, words"),
        ("words", text, f"{text}: byte 1 is not UTF-8"),
        ("words", tmp_path / "none", "No such file"),
    ]:
        end = aigw("tokens", str(file), "--model", model, "--config", str(config))
        assert (end.returncode, end.stdout) == (2, "") and words in end.stderr, end.stderr
    assert aigw("tokens", str(text)).returncode == 2
