"""The command line: exit codes, errors with their repair, help of every verb, and modules that a start must not load."""

import contextlib
import io
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from aigw.cli import main
from aigw.cli.verbs import GROUPS, VERBS
from aigw.cli.verbs import aigw as root
from tests.support.processes import AIGW

Run = Callable[..., "Ended"]
SHOWN = [name for verbs in GROUPS.values() for name in verbs]
BELOW_KEYS = ["keys create", "keys list", "keys rotate", "keys revoke"]
LEAVES = [name for name in VERBS if name != "keys"] + BELOW_KEYS


def command(words: str) -> click.Command:
    """The command that the arguments name."""
    ctx, found = click.Context(root), root
    for word in words.split():
        assert isinstance(found, click.Group)
        below = found.get_command(ctx, word)
        assert below is not None
        found = below
    return found


def aigw(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*AIGW, *arguments], capture_output=True, text=True, timeout=60, check=False)


@dataclass(frozen=True)
class Ended:
    """The result of a command line that runs in this process, which is much faster than starting an interpreter."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: str, **variables: str) -> Ended:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return Ended(int(end.value.code or 0), *capsys.readouterr())

    return call


def test_version_prints_the_version() -> None:
    end = aigw("version")
    assert end.returncode == 0 and end.stdout.startswith("aigw ")
    assert aigw("--version").stdout.split() == end.stdout.split()[1:2]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_verb(words: list[str], run: Run) -> None:
    end = run(*words, COLUMNS="100")
    assert (end.returncode, end.stderr) == (0, "")
    rows = [line.split(None, 1) for line in end.stdout.splitlines() if line.startswith("  ")]
    assert [row for row in rows if row[0] in VERBS] == [list(row) for verbs in GROUPS.values() for row in verbs.items()]
    assert max(map(len, end.stdout.splitlines())) <= 100


def test_keys_has_four_verbs() -> None:
    keys = command("keys")
    assert isinstance(keys, click.Group) and [f"keys {name}" for name in keys.commands] == BELOW_KEYS
    assert keys.help == VERBS["keys"]


@pytest.mark.parametrize("name", [name for name in LEAVES if name in VERBS])
def test_a_verbs_summary_is_the_first_line_of_its_help(name: str) -> None:
    assert (command(name).help or "").splitlines()[0] == VERBS[name]


@pytest.mark.parametrize("name", LEAVES)
def test_every_help_has_needs_an_example_and_exit_codes(name: str, run: Run) -> None:
    words = name.split()
    end = run(*words, "--help", COLUMNS="100")
    assert (end.returncode, end.stderr) == (0, "")
    assert end.stdout.startswith(f"Usage: aigw {name}")
    assert "For example:\n\n    " in end.stdout and f"aigw {words[0]}" in end.stdout.split("For example:")[1]
    assert "\nNeeds: " in end.stdout and "\nExit codes: 0" in end.stdout
    assert "\x1b" not in end.stdout


@pytest.mark.parametrize("name", LEAVES)
def test_every_argument_and_option_has_its_text(name: str) -> None:
    for parameter in command(name).params:
        assert isinstance(parameter, click.Option | click.Argument) and parameter.help, parameter.name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--workers", "many"], "whole number"),
        (["serve", "--nonsense"], "aigw serve --help"),
        (["serve", "--config", ""], "--config is empty: give it a value, or leave it out"),
        (["serve", "--data", ""], "--data is empty"),
        (["mock-llm", "--fail", "explode"], "refuse, hang, reset or garbage"),
        (["mock-llm", "--port", "x"], "aigw mock-llm --help"),
        (["serve", "--confg", "x"], "Did you mean '--config'?"),
        (["nonsense"], "aigw --help"),
        (["statsu"], "Did you mean 'status'?"),
        (["keys", "nonsense"], "aigw keys --help"),
        (["keys", "create"], "See: aigw keys create --help"),
        (["keys", "create", "alice", "--consumer", "bob"], "Give the consumer once"),
        (["keys", "revoke"], "See: aigw keys revoke --help"),
        (["keys", "rotate", "x", "--grace", "0"], "--grace"),
        (["keys", "create", "alice", "--key", "-"], "standard input has no key"),
        (["keys", "create", "alice", "--key", "--output", "json"], "'--key' requires an argument"),
        (["keys", "create", "alice", "--tags"], "'--tags' requires an argument"),
        (["keys", "create", "alice", "--ttl", "soon"], "--ttl"),
        (["keys", "create", "alice", "--ttl", "0"], "--ttl: '0' is not a number of seconds from 1: leave it out"),
        (["keys", "create", "alice", "--ttl", "-1"], "--ttl: '-1' is not a number of seconds from 1"),
        (["tiers", "--output", "xml"], "aigw tiers --help"),
        (["try", "ai/summarize"], "begins with /"),
        (["try", "--proxy", "ftp://x"], "HOST:PORT"),
        (["try", "--proxy", "nowhere"], "HOST:PORT"),
        (["top", "--every", "0"], "--every"),
        (["completion", "tcsh"], "bash"),
        (["diff"], "FILE, or --file FILE"),
        (["diff", "a.yaml", "--file", "b.yaml"], "FILE, or --file FILE"),
        (["status", "--admin", "nowhere"], "HOST:PORT"),
    ],
)
def test_usage_errors_exit_with_2_and_name_the_repair(arguments: list[str], words: str, run: Run) -> None:
    end = run(*arguments)
    assert end.returncode == 2
    assert words in end.stderr and "Traceback" not in end.stderr and end.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (["status"], "AIGW_ADMIN"),
        (["keys", "create", "alice"], "AIGW_ADMIN"),
        (["keys", "list"], "AIGW_ADMIN"),
        (["keys", "revoke", "x"], "AIGW_ADMIN"),
        (["tiers"], "AIGW_ADMIN"),
        (["top", "--once"], "AIGW_ADMIN"),
        (["try", "/x"], "AIGW_PROXY"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_verb_exits_with_1_if_the_gateway_does_not_answer(arguments: list[str], variable: str, run: Run) -> None:
    end = run(*arguments, **{variable: "127.0.0.1:1"})
    assert (end.returncode, end.stdout) == (1, "")
    assert "is the gateway running" in end.stderr and variable in end.stderr and "Traceback" not in end.stderr


def test_an_address_that_is_no_admin_api_exits_with_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        env = {**os.environ, "AIGW_ADMIN": f"127.0.0.1:{server.getsockname()[1]}"}
        with subprocess.Popen([*AIGW, "status"], stderr=subprocess.PIPE, text=True, env=env) as asking:
            taken, _ = server.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(b"SSH-2.0-OpenSSH\r\n")
            assert asking.stderr is not None
            assert "does not speak HTTP" in asking.stderr.read()
        assert asking.returncode == 1


@pytest.mark.parametrize(
    ("verb", "words", "name", "value"),
    [
        ("keys create", ["alice", "--tags", "a", "b", "--ttl", "60"], "tags", ("a", "b")),
        ("keys create", ["--tags=a", "alice", "--tags", "b"], "tags", ("a", "b")),
        ("keys create", ["alice", "--ttl", "-1"], "ttl", -1),
        ("keys create", ["alice", "--key", "-"], "key", "-"),
        ("keys revoke", ["a", "--output", "json", "b", "--", "--c"], "key_id", ("a", "b", "--c")),
        ("try", ["--prompt", "- one"], "prompt", "- one"),
        ("try", ["--stream"], "path", "/v1/chat/completions"),
        ("try", ["--prompt", "a", "--prompt", "b"], "prompt", "b"),
        ("dump", ["-o", "f"], "output_file", Path("f")),
        ("check", ["f", "--no-progress"], "progress", False),
        ("diff", ["--file", "f"], "named", Path("f")),
    ],
)
def test_a_verb_reads_its_arguments(verb: str, words: list[str], name: str, value: object) -> None:
    assert command(verb).make_context("x", words).params[name] == value


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_its_shell(shell: str, tmp_path: Path, run: Run) -> None:
    end = run("completion", shell)
    assert (end.returncode, end.stderr) == (0, "")
    assert f"_AIGW_COMPLETE={shell}_complete" in end.stdout
    script = tmp_path / "script"
    script.write_text(end.stdout)
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True, timeout=30)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("aigw ", SHOWN),
        ("aigw st", ["status"]),
        ("aigw keys ", ["create", "list", "revoke", "rotate"]),
        ("aigw status --", ["--output", "--admin", "--help"]),
        ("aigw status --output ", ["table", "json"]),
        ("aigw completion ", ["bash", "zsh", "fish"]),
        ("aigw dump --output-file ", ["file"]),
    ],
)
def test_completion_offers_verbs_options_and_values(typed: str, offered: list[str]) -> None:
    *words, last = typed.split(" ")
    env = {**os.environ, "_AIGW_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words))}
    end = subprocess.run(AIGW, env=env, capture_output=True, text=True, timeout=60, check=True)
    kinds, values = zip(*(line.split(",") for line in end.stdout.splitlines()), strict=True)
    assert list(kinds if "file" in kinds else values) == offered and all(value.startswith(last) for value in values)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_verb(tmp_path: Path, run: Run) -> None:
    script, program = tmp_path / "script", tmp_path / "aigw"
    script.write_text(run("completion", "bash").stdout)
    program.write_text(f'#!/bin/sh\nexec {shlex.join(AIGW)} "$@"\n')
    program.chmod(0o755)
    typed = (
        f'. "{script}"; COMP_WORDS=(aigw keys re); COMP_CWORD=2; _aigw_completion "{program}"; echo "${{COMPREPLY[@]}}"'
    )
    end = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, timeout=60, check=True)
    assert (end.stdout, end.stderr) == ("revoke\n", "")


HEAVY = {
    "aigw._mock",
    "aigw._native",
    "aigw.serve",
    "alembic",
    "asyncio",
    "granian",
    "http.client",
    "opentelemetry",
    "orjson",
}
HEAVY |= {"pydantic", "rich", "sqlalchemy", "ssl", "starlette", "uvloop"}


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ([], set()),
        (["--version"], set()),
        (["version"], set()),
        (["nonsense"], set()),
        (["tiers", "--nonsense"], set()),
        *(([*name.split(), "--help"], set()) for name in LEAVES),
        (["keys", "--help"], set()),
        (["completion", "bash"], set()),
        (["serve", "--workers", "many"], set()),
        *(
            (verb.split(), {"http.client", "ssl"})
            for verb in ("keys list", "tiers", "status", "dump", "try", "top --once")
        ),
        (["diff", __file__], {"http.client", "ssl"}),
        (["schema"], set()),
        (["check", "nowhere.yaml"], {"aigw._native", "aigw.serve", "orjson", "pydantic"}),
    ],
    ids=lambda value: " ".join(value[-3:]) or "nothing" if isinstance(value, list) else "",
)
def test_a_verb_imports_only_the_heavy_modules_it_needs(words: list[str], allowed: set[str]) -> None:
    """Imports take most of the time before a verb begins, above all SQL and a rich parser of arguments."""
    code = (
        "import atexit, sys; before = set(sys.modules);"
        f"atexit.register(lambda: print('\\n', *sorted({HEAVY - allowed!r} & (set(sys.modules) - before)), sep=''));"
        f"from aigw.cli import main; main({words!r})"
    )
    env = {**os.environ, "AIGW_ADMIN": "127.0.0.1:1", "AIGW_PROXY": "127.0.0.1:1"}
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=env, check=False)
    assert "Traceback" not in end.stderr
    assert end.stdout.splitlines()[-1] == ""


def test_a_closed_pipe_causes_no_traceback() -> None:
    with subprocess.Popen([*AIGW, "completion", "bash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writing:
        assert writing.stdout is not None and writing.stderr is not None
        writing.stdout.close()
        assert b"Traceback" not in writing.stderr.read()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_lead_to_dev_null(closed: str, tmp_path: Path) -> None:
    """A program without a standard output would give the number of it to the next file that it opens."""
    (tmp_path / "good.yaml").write_text("tiers: {a: {}}\n")
    (tmp_path / "wrong.yaml").write_text("tiers: {a: 1}\n")
    cases = {"check good.yaml": 0, "check wrong.yaml": 2, "check good.yaml --output json": 0, "schema": 0, "--help": 0}
    cases |= {"--version": 0, "completion bash": 0, "check --help": 0, "nonsense": 2, "tiers --admin 127.0.0.1:1": 1}
    for words, code in cases.items():
        shell = ["sh", "-c", f'exec "$@" {words} {closed}', "sh", *AIGW]
        end = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (end.returncode, "Traceback" in end.stderr) == (code, False), (words, end.stderr)
        if "2>&-" not in closed and code:
            assert end.stderr, words
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "good.yaml": "tiers: {a: {}}\n",
        "wrong.yaml": "tiers: {a: 1}\n",
    }


@pytest.mark.parametrize("words", ["check good.yaml", "check good.yaml --output json", "schema", "--help", "--version"])
def test_output_that_cannot_be_written_exits_with_1(words: str, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("tiers: {a: {}}\n")
    shell = ["sh", "-c", f'exec "$@" {words} >/dev/full', "sh", *AIGW]
    end = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (end.returncode, end.stderr) == (1, "aigw: [Errno 28] No space left on device\n")


def test_the_demo_names_the_port_in_use() -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # or the port of another program
            taken.bind(("127.0.0.1", 9100))
            taken.listen()
        end = aigw("demo")
    assert end.returncode == 2
    assert "is in use: stop the program that listens there" in end.stderr
