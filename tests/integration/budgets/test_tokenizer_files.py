"""A model whose tokens are counted by a user's tokenizer.json: reserved, settled, reloaded, and kept when the file is gone."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.processes import AIGW, Gateway, start_gateway, start_upstream, wait_until
from tests.support.surface import Caller, Json, caller, chat

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDED = json.loads((GOLDEN / "tokenizers" / "counts.json").read_text())
PROMPT = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Falsches Üben von Xylophonmusik quält jeden größeren Zwerg."


def counted(name: str) -> int:
    """The tokens of `PROMPT`, as Hugging Face's library counts them."""
    found: int = RECORDED["counts"][name][RECORDED["texts"].index(PROMPT)]
    return found


@dataclass
class Lab:
    """A gateway whose model counts by a file that a test may change."""

    gateway: Gateway
    file: Path
    config: Path

    def use(self, name: str) -> None:
        fresh = self.file.with_name("fresh")
        shutil.copy(GOLDEN / "tokenizers" / f"{name}.json", fresh)
        fresh.replace(self.file)

    def status(self) -> Json:
        found: Json = httpx.get(f"{self.gateway.admin}/status", trust_env=False).json()["configuration"]
        return found

    def copies(self) -> list[str]:
        return sorted(file.name for file in (self.gateway.data / "tokenizers").iterdir())

    def tokens(self, who: Caller) -> int:
        """Of `PROMPT` by the gateway."""
        answer = who.post({"model": "words", "input": PROMPT}, "/v1/tokenize")
        assert answer.status_code == 200, answer.text
        tokens, bound = answer.json()["tokens"], answer.json()["bound"]
        assert tokens <= bound
        return int(tokens)


def workers(lab: Lab) -> list[int]:
    """Process ids of the workers that serve."""
    told = httpx.get(f"{lab.gateway.admin}/status", trust_env=False).json()["workers"]
    return [worker["pid"] for worker in told if worker["state"] == "ready"]


def aigw(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*AIGW, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    mock, url = start_upstream("mock-llm")
    folder = tmp_path / "conf"
    folder.mkdir()
    made = Lab(Gateway(mock, tmp_path), folder / "words.json", folder / "gateway.yaml")
    made.use("byte_level")
    # Without a template the input is the text alone.
    made.config.write_text(json.dumps({
        "models": {"words": {"upstreams": [{"url": f"{url}/v1", "model": "small-chat"}], "tokenizer": {"file": "words.json"},
                             "template": {"per_message": 0, "per_request": 0}}},
        "tiers": {"free": {"limits": [{"tokens": 100_000, "per": "year"}], "output": {"max_tokens": 5}},
                  "little": {"limits": [{"tokens": counted("byte_level") + 5, "per": "year"}]}},
    }, indent=1))  # fmt: skip
    made.gateway = start_gateway(tmp_path / "data", "--config", str(made.config))
    try:
        yield made
    finally:
        made.gateway.process.end()
        mock.end()


def test_tokens_of_a_call_are_reserved_and_settled_by_the_file(lab: Lab) -> None:
    who = caller(lab.gateway, "little")
    assert lab.tokens(who) == counted("byte_level")
    # The budget has room for the exact count and 5 tokens of output, and not for a bound by bytes.
    body = chat("words", messages=[{"content": PROMPT}])
    answer = who.post(body)
    assert answer.status_code == 200, answer.text
    (used,) = who.used()
    assert used == answer.json()["usage"]["total_tokens"]
    assert who.post(body).status_code == 429


def test_changed_file_is_in_force_and_a_broken_one_is_reported(lab: Lab) -> None:
    who = caller(lab.gateway, "free")
    assert lab.tokens(who) == counted("byte_level")
    before = lab.copies()
    lab.use("unigram")
    wait_until(lambda: lab.tokens(who) == counted("unigram"), "the new file is in force")
    between = lab.copies()
    assert len(between) == 2 and set(before) < set(between), "a worker that is behind still finds its copy"
    lab.file.write_text("{")
    wait_until(lambda: lab.status()["error"] is not None, "the broken file is reported")
    error = lab.status()["error"]
    assert "models.words.tokenizer.file: the file 'words.json' is no tokenizer.json: EOF" in error["message"]
    assert (error["file"], error["line"] > 1, error["col"] > 1) == (str(lab.config), True, True)
    assert lab.tokens(who) == counted("unigram")
    lab.use("byte_level")
    wait_until(lambda: lab.status()["error"] is None, "the file is whole again")
    assert lab.tokens(who) == counted("byte_level")
    lab.use("word_piece")
    wait_until(lambda: lab.tokens(who) == counted("word_piece"), "the third file is in force")
    assert len(lab.copies()) == 2 and not set(between) <= set(lab.copies()), "the oldest copy is gone"


def test_copy_serves_new_workers_and_a_new_start_when_the_file_is_gone(lab: Lab) -> None:
    who = caller(lab.gateway, "free")
    lab.file.unlink()
    wait_until(lambda: lab.status()["error"] is not None, "the missing file is reported")
    (before,) = workers(lab)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: workers(lab) not in ([], [before]), "a new worker serves")
    assert lab.tokens(who) == counted("byte_level")
    assert lab.gateway.process.end() == 0
    lab.gateway = start_gateway(lab.gateway.data, "--config", str(lab.config))
    assert lab.tokens(Caller(lab.gateway, who.name, who.key)) == counted("byte_level")
    (warning,) = [line for line in lab.gateway.process.lines if "config_warning" in line and "tokenizer" in line]
    assert "is gone: its copy in the data folder serves" in warning


def test_copy_that_is_gone_bounds_texts_by_their_bytes_and_comes_back_at_a_start(lab: Lab) -> None:
    who = caller(lab.gateway, "free")
    assert lab.gateway.process.end() == 0
    (copy,) = (lab.gateway.data / "tokenizers").iterdir()
    copy.unlink()
    lab.gateway = start_gateway(lab.gateway.data, "--config", str(lab.config))
    who = Caller(lab.gateway, who.name, who.key)
    assert lab.tokens(who) == counted("byte_level") and copy.exists()


def test_commands_count_by_the_file(lab: Lab) -> None:
    (lab.config.parent / "prompt.txt").write_text(PROMPT)
    where = ["--admin", lab.gateway.admin.removeprefix("http://")]
    for arguments in (where, ["--config", str(lab.config)]):
        file = str(lab.config.parent / "prompt.txt")
        end = aigw("tokens", file, "--model", "words", "--output", "json", *arguments)
        assert end.returncode == 0, end.stderr
        found = json.loads(end.stdout)
        assert (found["tokens"], found["tokenizer"]) == (counted("byte_level"), "words.json")
    shown = httpx.get(f"{lab.gateway.admin}/models/words", trust_env=False).json()
    assert shown["tokenizer"] == {"file": "words.json"}
    whole = httpx.get(f"{lab.gateway.admin}/models/words/tokenizer", trust_env=False)
    assert whole.json() == json.loads(lab.file.read_text())
    dumped = aigw("dump", *where)
    assert dumped.returncode == 0 and "words.json" in dumped.stdout, dumped.stderr
    same = aigw("diff", str(lab.config), *where)
    assert "tokenizer" not in same.stdout, same.stdout
    shutil.copy(GOLDEN / "tokenizers" / "unigram.json", lab.file.with_name("other.json"))
    text = lab.config.with_name("other.yaml")
    text.write_text(lab.config.read_text().replace("words.json", "other.json"))
    other = aigw("diff", str(text), *where)
    assert other.returncode == 0 and "tokenizer_file.sha256" in other.stdout, other.stdout
