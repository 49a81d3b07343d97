"""The lab, command for command with curl: only key values, ports and the upstream's host differ.

Against the real httpbin behind an empty gateway, and on the demo of `make run` with its echo service, as the guide has it.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.processes import Demo, Gateway

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the lab's commands are curl's, which is missing")


README: Final = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


class Shell:
    """Runs the lab's command lines with the gateway's addresses in place of the article's."""

    def __init__(self, gateway: Gateway | Demo) -> None:
        self._places = {"http://localhost:8001": gateway.admin, "http://localhost:8000": gateway.proxy}

    def curl(self, arguments: str) -> str:
        for place, ours in self._places.items():
            arguments = arguments.replace(place, ours)
        line = f"curl -sS --noproxy '*' {arguments}"
        return subprocess.run(line, shell=True, check=True, capture_output=True, text=True, timeout=30).stdout

    def entity(self, arguments: str) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(self.curl(arguments))
        return made


def begin_a_minute_with(seconds_left: int) -> None:
    """Limits are by the minute: begin where the calls of one step fit into one."""
    left = 60 - time.time() % 60
    if left < seconds_left:
        time.sleep(left)


def statuses(shell: Shell, calls: int, key: str) -> list[str]:
    return [shell.curl(f'-i http://localhost:8000/ai/get -H "apikey: {key}"').split()[1] for _ in range(calls)]


def test_the_lab(new_gateway: Callable[..., Gateway], httpbin: str) -> None:
    do_the_lab(Shell(new_gateway(workers=2)), httpbin)


def test_the_lab_after_the_readmes_on_one_demo(demo: Demo) -> None:
    """The README's short lab, then the guide's: no name of one is the other's."""
    (short,) = re.findall(r"^```sh run\n((?:(?!```).)*name=key-auth.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    begin_a_minute_with(15)
    env = {**os.environ, **demo.environment, **demo.keys, "no_proxy": "*"}
    done = subprocess.run(
        ["sh", "-c", demo.here(short)], cwd=demo.folder.parent, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.endswith("200 200 200 200 200 429 "), done
    assert "violation" not in done.stdout
    do_the_lab(Shell(demo), demo.here("http://localhost:5000"))
    still = [tier["name"] for tier in json.loads(Shell(demo).curl("http://localhost:8001/tiers"))["data"]]
    assert sorted(still) == ["enterprise", "free", "pro"]


def do_the_lab(shell: Shell, backend: str) -> None:
    assert "version" in shell.entity("http://localhost:8001")

    service = shell.entity(f'-X POST http://localhost:8001/services -d "name=ai-service" -d "url={backend}"')
    assert service["name"] == "ai-service" and service["protocol"] == "http"
    route = shell.entity('-X POST http://localhost:8001/services/ai-service/routes -d "paths[]=/ai"')
    assert route["paths"] == ["/ai"] and route["strip_path"] is True
    assert shell.entity("http://localhost:8000/ai/get")["url"].endswith("/get")

    plugin = shell.entity('-X POST http://localhost:8001/services/ai-service/plugins \\\n  -d "name=key-auth"')
    assert plugin["enabled"] is True
    refused = shell.curl("-i http://localhost:8000/ai/get")
    assert refused.startswith("HTTP/1.1 401 ")
    assert "No API key found in request" in refused

    assert (
        shell.entity('-X POST http://localhost:8001/consumers \\\n  -d "username=deepanshu"')["username"] == "deepanshu"
    )
    key = shell.entity("-X POST http://localhost:8001/consumers/deepanshu/key-auth")["key"]
    assert len(key) == 32 and key.isalnum()
    assert "headers" in shell.entity(f'http://localhost:8000/ai/get \\\n  -H "apikey: {key}"')

    shell.entity(
        "-X POST http://localhost:8001/services/ai-service/plugins"
        ' -d "name=rate-limiting" -d "config.minute=5" -d "config.policy=local"'
    )
    begin_a_minute_with(15)
    assert statuses(shell, 6, key) == ["200"] * 5 + ["429"]
    assert "API rate limit exceeded" in shell.curl(f'http://localhost:8000/ai/get -H "apikey: {key}"')

    keys = {}
    for user, minute in (("free-user", 5), ("pro-user", 100)):
        shell.entity(f'-X POST http://localhost:8001/consumers -d "username={user}"')
        keys[user] = shell.entity(f"-X POST http://localhost:8001/consumers/{user}/key-auth")["key"]
        shell.entity(
            f"-X POST http://localhost:8001/consumers/{user}/plugins"
            f' -d "name=rate-limiting" -d "config.minute={minute}" -d "config.policy=local"'
        )
    begin_a_minute_with(15)
    assert statuses(shell, 6, keys["free-user"]) == ["200"] * 5 + ["429"]
    pro = shell.curl(f'-i http://localhost:8000/ai/get -H "apikey: {keys["pro-user"]}"')
    assert pro.startswith("HTTP/1.1 200 ")
    assert "x-ratelimit-limit-minute: 100" in pro.lower()
    assert "x-ratelimit-remaining-minute: 99" in pro.lower()
    assert statuses(shell, 1, keys["free-user"]) == ["429"]
