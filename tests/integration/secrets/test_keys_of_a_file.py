"""The keys of a configuration file, of upstreams and of consumers, planted and searched for wherever the gateway writes or answers."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx

from tests.support.ends import Upstream, ask, header
from tests.support.failing import after_reading
from tests.support.processes import AIGW, Gateway, start_gateway, wait_until

CHAT = b'{"model":"%s","messages":[{"role":"user","content":"hi"}]}'
ADMIN = [
    "/",
    "/status",
    "/services",
    "/routes",
    "/plugins",
    "/consumers",
    "/key-auths",
    "/models",
    "/models/env",
    "/tiers",
]
ADMIN += ["/models/literal", "/models/file", "/tiers/all", "/consumer_groups", "/metrics", "/config", "/config/history"]
ADMIN += ["/consumers/env", "/consumers/env/key-auth", "/consumers/literal/key-auth", "/consumers/env/limits"]


def planted(name: str) -> str:
    return f"planted-{name}-{os.urandom(12).hex()}"


def mock(seen: list[str | None]) -> Upstream:
    """Answers, and remembers the key it was called with."""

    def script(wire):  # type: ignore[no-untyped-def]
        while (request := wire.request()) is not None:
            seen.append(header(request[0], "authorization"))
            wire.send(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"choices":[]}')

    return Upstream(script)


NAMES = (
    "upstream-env",
    "upstream-file",
    "upstream-literal",
    "consumer-env",
    "consumer-file",
    "consumer-literal",
    "unknown",
)


def configuration(folder: Path, keys: dict[str, str], good: str, failing: str) -> str:
    """The text of a file with a key of each form; the keys that stand in files are written to `folder`."""
    (folder / "upstream.key").write_text(keys["upstream-file"] + "\n")
    (folder / "consumer.key").write_text(keys["consumer-file"] + "\n")
    return f"""
models:
  env: {{upstreams: [{{url: "{good}/v1", api_key: "${{UPSTREAM_KEY}}"}}]}}
  file: {{upstreams: [{{url: "{good}/v1", api_key: "${{file:{folder}/upstream.key}}"}}]}}
  literal: {{upstreams: [{{url: "{good}/v1", api_key: "{keys["upstream-literal"]}"}}]}}
  failing: {{upstreams: [{{url: "{failing}/v1", api_key: "{keys["upstream-literal"]}"}}]}}
tiers:
  all: {{limits: [{{requests: 1000, per: year}}]}}
  none: {{limits: [{{requests: 0, per: day}}]}}
consumers:
  - {{username: env, tier: all, keyauth_credentials: [{{key: "${{CONSUMER_KEY}}"}}]}}
  - {{username: file, tier: all, keyauth_credentials: [{{key: "${{file:{folder}/consumer.key}}"}}]}}
  - {{username: literal, tier: none, keyauth_credentials: [{{key: "{keys["consumer-literal"]}"}}]}}
"""


class Calls:
    """Calls with the planted keys; every answer is kept."""

    def __init__(self, gateway: Gateway, keys: dict[str, str], pages: dict[str, bytes]) -> None:
        self.gateway, self.keys, self.pages = gateway, keys, pages

    def __call__(self, model: str, key: str, *lines: str, path: str = "/v1/chat/completions") -> int:
        """The status of a call of a model."""
        bearer = f"Authorization: Bearer {self.keys[key]}"
        answer = ask(self.gateway.proxy, "POST", path, bearer, *lines, body=CHAT % model.encode())
        self.pages[f"answer {len(self.pages)}"] = answer.head + answer.body
        return answer.status

    def refused(self) -> None:
        """Calls that fail, each in its own way, and the pages of a caller."""
        assert self("failing", "consumer-env") == 502
        assert self("env", "consumer-literal") == 429
        assert self("env", "unknown") == 401
        assert self("env", "consumer-env", f"apikey: {self.keys['consumer-file']}") == 401
        assert self("none", "consumer-env") == 404
        assert self("env", "consumer-env", path=f"/v1/nothing?key={self.keys['consumer-env']}") == 404
        assert self("env", "consumer-env", path=f"/nowhere?apikey={self.keys['consumer-file']}") == 404
        for path in ("/v1/models", "/v1/limits"):
            answer = ask(self.gateway.proxy, "GET", path, f"Authorization: Bearer {self.keys['consumer-env']}")
            assert answer.status == 200
            self.pages[path] = answer.head + answer.body


def test_no_key_of_the_file_is_anywhere(tmp_path: Path) -> None:
    keys = {name: planted(name) for name in NAMES}
    environment = {"UPSTREAM_KEY": keys["upstream-env"], "CONSUMER_KEY": keys["consumer-env"]}
    seen: list[str | None] = []
    pages: dict[str, bytes] = {}
    with ExitStack() as stack:
        good = stack.enter_context(mock(seen))
        failing = stack.enter_context(Upstream(after_reading(lambda wire: wire.reset())))
        file, log = tmp_path / "gateway.yaml", tmp_path / "access.jsonl"
        text = configuration(tmp_path, keys, good.url, failing.url)
        file.write_text(text)
        arguments = ["--config", str(file), "--access-log", str(log)]
        gateway = start_gateway(tmp_path / "data", *arguments, workers=2, env=environment)
        stack.callback(gateway.process.end)
        call = Calls(gateway, keys, pages)

        for model in ("env", "file", "literal"):
            assert (call(model, "consumer-env"), call(model, "consumer-file")) == (200, 200)
        used = ("upstream-env", "upstream-file", "upstream-literal")
        assert seen == [f"Bearer {keys[name]}" for name in used for _ in range(2)]
        call.refused()
        admin_pages(gateway, "first", pages)
        wrong_files(gateway, file, text, keys, pages)
        commands(gateway, file, environment, pages)
        os.kill(gateway.pid, signal.SIGHUP)
        admin_pages(gateway, "last", pages)
        assert call("literal", "consumer-env") == 200
        assert gateway.process.end() == 0
        pages["process log"] = "".join(gateway.process.lines).encode()
        assert b"gateway.yaml" in pages["process log"] and log.stat().st_size > 0

    data = [path for path in gateway.data.rglob("*") if path.is_file()]
    assert {"store.db"} <= {path.name for path in data}
    contents = pages | {str(path): path.read_bytes() for path in [*data, log]}
    for name, key in keys.items():
        found = [
            where for where, content in contents.items() if key.encode() in content or key[-20:].encode() in content
        ]
        assert found == [], name


def admin_pages(gateway: Gateway, when: str, pages: dict[str, bytes]) -> None:
    for path in ADMIN:
        answer = httpx.get(gateway.admin + path, trust_env=False)
        pages[f"{when} {path}"] = repr(dict(answer.headers)).encode() + answer.content


def wrong_files(gateway: Gateway, file: Path, text: str, keys: dict[str, str], pages: dict[str, bytes]) -> None:
    """Mistakes on the lines that hold keys: they are told with their lines, without the keys."""
    literal = f'"{keys["upstream-literal"]}"'
    consumer = f'"{keys["consumer-literal"]}"'
    mistakes: list[Callable[[str], str]] = [
        lambda good: good.replace(f"api_key: {literal}", f"api_kee: {literal}"),
        lambda good: good.replace(f"api_key: {literal}", f"api_key: [{literal}]"),
        lambda good: good.replace(f"key: {consumer}", f"key: {consumer}, ttl: soon"),
        lambda good: good.replace(f"key: {consumer}", f"kee: {consumer}"),
        lambda good: good.replace(f"{{key: {consumer}}}", consumer),
        lambda good: good.replace(f"key: {consumer}", f"key: {literal[:-1]}\u00e9\""),
        lambda good: good.replace(f"key: {consumer}", f"key: {consumer} x"),
        lambda good: good.replace(f"{{key: {consumer}}}", f"{{key: {consumer}}}, {{key: {consumer}}}"),
        lambda good: good.replace("CONSUMER_KEY", "NOT_SET_ANYWHERE"),
    ]  # fmt: skip
    for n, mistake in enumerate(mistakes):
        wrong = mistake(text)
        assert wrong != text
        answer = httpx.post(
            gateway.admin + "/config", content=wrong, headers={"content-type": "text/yaml"}, trust_env=False
        )
        assert answer.status_code == 400, (n, answer.text)
        pages[f"mistake {n}, posted"] = answer.content
        bad = file.with_name(f"wrong-{n}.yaml")
        bad.write_text(wrong)
        form = ("table", "json")[n % 2]
        done = subprocess.run([*AIGW, "check", str(bad), "--output", form], capture_output=True)
        assert done.returncode == 2
        pages[f"mistake {n}, checked as {form}"] = done.stdout + done.stderr

    def error() -> object:
        return httpx.get(gateway.admin + "/status", trust_env=False).json()["configuration"]["error"]

    file.write_text(mistakes[0](text))
    wait_until(lambda: error() is not None, "the mistake is reported")
    admin_pages(gateway, "wrong", pages)
    file.write_text(text)
    wait_until(lambda: error() is None, "the file is right again")


def commands(gateway: Gateway, file: Path, environment: dict[str, str], pages: dict[str, bytes]) -> None:
    """What the commands print of a running gateway, and of its file."""
    admin = gateway.admin.removeprefix("http://")
    lines = {"dump": [], "diff": [str(file)], "status": [], "keys": ["list", "env"], "check": [str(file)]}
    for verb, more in lines.items():
        at = [] if verb == "check" else ["--admin", admin]
        done = subprocess.run([*AIGW, verb, *more, *at], capture_output=True, env={**os.environ, **environment})
        assert done.returncode == 0, (verb, done.stderr)
        assert verb != "dump" or b"${UPSTREAM_KEY}" in done.stdout  # the reference, not its value
        pages[f"aigw {verb}"] = done.stdout + done.stderr
