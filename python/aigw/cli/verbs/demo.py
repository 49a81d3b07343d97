"""`aigw demo [FILE]`: the gateway with the tiers of a file and two upstreams; `make run` starts it.

In: a configuration file, or the example of the package. Out: the gateway on :8000 and :8001, the echo service on :5000, the mock LLM on :9100,
until Ctrl-C. The demo copies the file to its folder once and serves the copy: edits leave the original alone, and the copy
reads the same files. Each consumer's `key: "${..._KEY}"` gets a key, made once, shown once and kept in `keys` (0600). Each server is
a child that runs the verb of its own (`serve`, `mock-llm`, `echo`).
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from aigw.cli.admin_client import AdminApi
from aigw.cli.arguments import FILE, Verb
from aigw.cli.verbs.schema import MADE
from aigw.errors import AddressInUse, AigwError, ConfigError, UpstreamError

START_S: Final = 60.0
WRONG: Final = 2
"""The exit code of a usage or configuration error."""
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "tiers.yaml"
"""Three tiers; deploy/examples/tiers.yaml of the repository is this file."""
LLM, ECHO = 9100, 5000
DEFAULT_ADMIN: Final = "127.0.0.1:8001"
"""The Admin API that the verbs call without --admin."""
CHUNK_MS: Final = 5
"""Milliseconds between two chunks of the mock LLM, so that streams of the demo overlap: 200 tokens a second are a fast model's."""
OPTIONS: Final = ("--proxy-port", "--admin-port", "--echo-port", "--llm-port")
PORT: Final = click.IntRange(1, 65535)
_KEY: Final = re.compile(r"""(?<![\w-])["']?key["']?\s*:\s*["']?\$\{([A-Z][A-Z0-9_]*_KEY)\}""")
"""A key of a consumer that is a variable. Those of upstreams (`api_key`, `headers`) are the user's own."""
_LINE: Final = re.compile(r"export ([A-Z][A-Z0-9_]*)=([!-~]+)\Z")

WELCOME: Final = """
The gateway serves {file}.

  proxy         {proxy}    clients call it
  Admin API     {admin}    operators call it: /status, /metrics, /tiers, ...
  mock LLM      http://127.0.0.1:{llm}/v1/chat/completions
  echo service  http://127.0.0.1:{echo}/get

{keys}{calls}Change a number in {file} and save it: the change is in force within a second.
For a mistake the log here shows the error, and the configuration in force stays.

Next: {next}
Start over: rm -r {folder}. Ctrl-C ends everything.
"""


@click.command(cls=Verb)
@click.argument(
    "file",
    type=FILE,
    required=False,
    help="configuration file to copy; without it the example file that aigw brings",
)
@click.option("--folder", type=FILE, default=Path(".aigw-demo"), help="copy, keys and data")
@click.option("--proxy-port", type=PORT, default=8000, help="port of the proxy")
@click.option("--admin-port", type=PORT, default=8001, help="port of the Admin API")
@click.option("--llm-port", type=PORT, default=LLM, help="port of the mock LLM")
@click.option("--echo-port", type=PORT, default=ECHO, help="port of the echo service")
def demo(file: Path | None, folder: Path, proxy_port: int, admin_port: int, llm_port: int, echo_port: int) -> int:
    """Run the gateway with three example tiers, a mock LLM and an echo service.

    Nothing else is needed: neither a file nor a model. The folder keeps a
    copy of the file, a key for each variable `..._KEY` that is a
    consumer's key, and the gateway's data. Ctrl-C ends all.

    Needs: four free ports on 127.0.0.1, and the other variables that
    the file names.

    For example:

        aigw demo
        aigw demo tiers.yaml --folder /tmp/demo --proxy-port 9000

    Exit codes: 0 after Ctrl-C, 2 for a port in use or a file with errors,
    1 when a part of the demo ends by itself.
    """
    ports = [proxy_port, admin_port, echo_port, llm_port]
    if len(set(ports)) < len(ports):
        raise ConfigError(f"{', '.join(OPTIONS)}: two of them are the same port: choose four")
    for port, name, option in zip(ports, ("proxy", "Admin API", "echo service", "mock LLM"), OPTIONS, strict=True):
        _probe(port, name, option)
    file = file or EXAMPLE
    _make(folder)
    served = _copy(file, folder / file.name, {LLM: llm_port, ECHO: echo_port})
    (folder / "aigw.schema.json").write_bytes(MADE.read_bytes())  # the first line of tiers.yaml refers to it
    kept = folder / "keys"
    keys, made = keys_for(served, kept)
    environment = {**os.environ, **keys}
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    proxy, admin = f"127.0.0.1:{proxy_port}", f"127.0.0.1:{admin_port}"
    serve = ["serve", "--config", str(served), "--data", str(folder / "data"), "--proxy", proxy, "--admin", admin]
    llm = ["mock-llm", "--port", str(llm_port), "--chunk-ms", str(CHUNK_MS)]
    verbs = (["echo", "--port", str(echo_port)], llm, serve)
    children = [subprocess.Popen([sys.executable, "-P", "-m", "aigw", *verb], env=environment) for verb in verbs]
    welcome = WELCOME.format(
        file=served,
        folder=folder,
        proxy=f"http://{proxy}",
        admin=f"http://{admin}",
        llm=llm_port,
        echo=echo_port,
        keys=_key_lines(keys, made, kept),
        calls=_calls(served, environment, (f"http://{proxy}", admin), {name: keys[name] for name in made}),
        next=f"{_program()} top, {_program()} tiers, {_program()} --help",
    )
    try:
        _wait_until_ready(children, ports, admin, stop)
        if not stop:
            sys.stdout.write(welcome)
            sys.stdout.flush()
        while not stop:
            _check(children)
            time.sleep(0.2)
        return 0
    finally:
        _end(children)


def _wait_until_ready(children: "list[subprocess.Popen[bytes]]", ports: list[int], admin: str, stop: list[int]) -> None:
    """Wait until every port answers and every worker is ready, or until a signal is in `stop`."""
    end = time.monotonic() + START_S
    while not stop and not (all(map(_answers, ports)) and _serves(admin)):
        _check(children)
        if time.monotonic() > end:
            raise AigwError(f"the demo did not start within {START_S:g} s: see its log above")
        time.sleep(0.05)


def keys_for(file: Path, kept: Path) -> tuple[dict[str, str], list[str]]:
    """All keys by variable, and the names of the new ones: variables of consumers' keys that `kept` lacks."""
    keys: dict[str, str] = {}
    if kept.exists():
        found = (_LINE.match(line) for line in kept.read_text(encoding="utf-8").splitlines())
        keys = {match[1]: match[2] for match in found if match}
    made = [name for name in dict.fromkeys(_KEY.findall(file.read_text(encoding="utf-8"))) if name not in keys]
    if made:
        import secrets  # noqa: PLC0415

        keys |= {name: f"{name.removesuffix('_KEY').lower()}-{secrets.token_hex(16)}" for name in made}
        text = f"# Keys of the demo: . {kept}\n" + "".join(f"export {name}={key}\n" for name, key in keys.items())
        with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:  # noqa: PTH123
            os.fchmod(out.fileno(), 0o600)
            out.write(text)
    return keys, made


def _key_lines(keys: dict[str, str], made: list[str], kept: Path) -> str:
    if not keys:
        return ""
    shown = "".join(f"  {name}={keys[name]}\n" for name in made)
    later = f"For your shell: . {kept}\n\n"
    return (
        f"Keys, shown this once and kept in {kept}:\n\n{shown}\n{later}"
        if made
        else f"Keys are kept in {kept}. {later}"
    )


def _calls(file: Path, environment: Mapping[str, str], urls: tuple[str, str], made: Mapping[str, str]) -> str:
    """The part of the welcome with calls that work; empty for a file without any, or with errors, which the gateway reports.

    `urls`: the proxy's URL, and the Admin API's address. A file without a variable for a key gets the command that makes one."""
    from aigw.cli.first_calls import first_calls, first_consumer  # noqa: PLC0415  (start-up of the other verbs)
    from aigw.config import ConfigErrors, read  # noqa: PLC0415

    name = next(iter(_KEY.findall(file.read_text(encoding="utf-8"))), None)
    key = "$KEY" if name is None else made.get(name, f"${name}")
    proxy, admin = urls
    try:
        found = read(file, environment)
    except ConfigErrors:
        return ""
    calls, whose = first_calls(found, proxy, key), ""
    if not calls:
        return ""
    if name is None and (consumer := first_consumer(found)) is not None:
        other = "" if admin == DEFAULT_ADMIN else f" --admin {admin}"
        calls.insert(0, f"KEY=$({_program()} keys create --consumer {shlex.quote(consumer)}{other})")
    elif name is None:
        whose = " (KEY: the key of a consumer)"
    return f"Try it{whose}:\n\n" + "".join(f"  {call}\n" for call in calls) + "\n"


def _copy(file: Path, to: Path, ports: dict[int, int]) -> Path:
    """The copy to serve. The first call makes it and replaces the usual ports by the demo's."""
    if to.exists():
        return to
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}: name the configuration file to serve") from None
    for usual, ours in ports.items():
        text = text.replace(f"//127.0.0.1:{usual}", f"//127.0.0.1:{ours}")
    from aigw.config.moved import moved  # noqa: PLC0415  (start-up of the other verbs)

    text = moved(text, file.parent)
    to.write_text(text, encoding="utf-8")
    return to


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise ConfigError(f"--folder: cannot make {folder}: {why}; name a folder of yours with --folder") from None


def _program() -> str:
    """The name by which the user's shell finds this program."""
    here, found = Path(sys.executable).with_name("aigw"), shutil.which("aigw")
    if found is not None and Path(found).resolve() == here.resolve():
        return "aigw"
    return os.path.relpath(here) if here.is_relative_to(Path.cwd()) else str(here)


def _probe(port: int, name: str, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise AddressInUse(
                f"port {port}, for the {name} of the demo, is in use: stop the program that listens there, or choose another"
                f" port with {option}"
            ) from None


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _serves(admin: str) -> bool:
    """Whether every worker is ready. The welcome waits for this, so that no log line of the start follows it."""
    try:
        workers = AdminApi(admin).get("/status")["workers"]
    except UpstreamError:
        return False
    return bool(workers) and all(worker["state"] == "ready" for worker in workers)


def _check(children: "list[subprocess.Popen[bytes]]") -> None:
    for child in children:
        if child.poll() is not None:
            kind = ConfigError if child.returncode == WRONG else AigwError
            raise kind(f"a part of the demo ended (status {child.returncode}); its log is above")


def _end(children: "list[subprocess.Popen[bytes]]") -> None:
    for child in children:
        child.terminate()  # after Ctrl-C this is the second signal, which ends a child at once
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(35)
        if child.poll() is None:
            child.kill()
            child.wait()
