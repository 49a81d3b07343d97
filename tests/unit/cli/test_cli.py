"""The command line: exit codes, errors with their repair, and what is not loaded at start-up."""

import contextlib
import socket
import subprocess
import sys

import pytest

from tests.support.processes import AIGW


def aigw(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*AIGW, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_version_is_0() -> None:
    end = aigw("version")
    assert end.returncode == 0 and end.stdout.startswith("aigw ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--workers", "many"], "whole number"),
        (["serve", "--nonsense"], "aigw --help"),
        (["mock-llm", "--fail", "explode"], "refuse, hang, reset or garbage"),
        (["mock-llm", "--port", "x"], "aigw --help"),
        (["nonsense"], "aigw --help"),
    ],
)
def test_usage_errors_are_2_and_say_what_to_do(arguments: list[str], words: str) -> None:
    end = aigw(*arguments)
    assert end.returncode == 2
    assert words in end.stderr and "Traceback" not in end.stderr and end.stdout == ""


def test_a_gateway_that_does_not_answer_is_1() -> None:
    end = aigw("status", "--admin", "127.0.0.1:1")
    assert end.returncode == 1 and "is the gateway running" in end.stderr


def test_start_up_loads_no_verb_and_nothing_heavy() -> None:
    code = (
        "import sys, aigw.cli; print([n for n in ('aigw._native', 'granian', 'uvloop', 'pydantic', 'sqlalchemy',"
        " 'starlette', 'opentelemetry', 'aigw.serve', 'aigw.cli.serve') if n in sys.modules])"
    )
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert end.stdout.strip() == "[]"


def test_the_demo_names_the_port_that_is_taken() -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # somebody else's will do as well
            taken.bind(("127.0.0.1", 9100))
            taken.listen()
        end = aigw("demo")
    assert end.returncode == 2
    assert "is in use: stop what listens there" in end.stderr
