"""The clients of the matrix: the way to install each one from its lock file, and the names of its exceptions.

Each environment is a folder of `.cache/compat/`, named by the hash of its lock files; nothing is installed into `.venv`.
"""

import hashlib
import os
import shutil
import subprocess
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parents[1] / ".cache" / "compat"
INSTALL_S: Final = 900  # seconds: LlamaIndex and LiteLLM are large, and two cores are shared


class Skipped(Exception):
    """A client that cannot be installed here, with the reason."""


@dataclass(frozen=True)
class Client:
    """A client of the matrix."""

    install: Callable[[], list[str]]
    """Installs it where needed. Returns the command of its program. Raises Skipped."""
    errors: Mapping[str, str]
    """The class of the exception for 401, 403 and an exhausted quota."""
    shows_code: bool = True
    """Whether the exception has the code of the error. LiteLLM puts its own there."""
    quota_attempts: int = 1
    """Calls that it makes on an exhausted quota: 1 where it obeys `x-should-retry: false`."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Cases that it has no call for, with the reason."""
    note: str = ""
    """A sentence for its users."""

    def environment(self) -> dict[str, str]:
        """The environment of its program: no proxy, nothing fetched from the network."""
        own = {
            "NO_PROXY": "*",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PYTHONWARNINGS": "ignore",
            "CLIENT_HOME": str(folder("node")),
        }
        return {**os.environ, **own}


LOCKS: Final = {
    "node": ["node/package.json", "node/package-lock.json", "node/.npmrc"],
    "go": ["go/go.mod", "go/go.sum", "go/main.go"],
    "kong": ["kong/go.mod", "kong/go.sum", "kong/main.go"],
}


def folder(name: str) -> Path:
    """The folder of an environment, named by its locks."""
    files = LOCKS.get(name, [f"python/{name}.lock"])
    digest = hashlib.sha256(b"".join((HERE / file).read_bytes() for file in files)).hexdigest()
    return CACHE / f"{name}-{digest[:12]}"


def prepare(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of an environment, made by `make` unless a whole one exists."""
    place = folder(name)
    if not (place / "whole").exists():
        for old in CACHE.glob(f"{name}-{'?' * 12}"):
            shutil.rmtree(old)
        place.mkdir(parents=True)
        print(f"installing {place.name}", flush=True)
        make(place)
        (place / "whole").touch()
    return place


def must(command: list[str], cwd: Path | None = None, **more: str) -> None:
    """Run a step of an installation. Raises Skipped with its last line of output."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, **more}, capture_output=True, text=True, timeout=INSTALL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Skipped(str(error)) from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it failed"]
        raise Skipped(f"{Path(command[0]).name}: {lines[-1][:200]}")


def tool(name: str, *places: str) -> str:
    """The path of a program. Raises Skipped."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


def python(environment: str, program: str, *arguments: str) -> Callable[[], list[str]]:
    def make(place: Path) -> None:
        venv.create(place, with_pip=True)
        lock = HERE / "python" / f"{environment}.lock"
        must([str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)])

    def install() -> list[str]:
        place = prepare(environment, make)
        return [str(place / "bin/python"), str(HERE / "python" / program), *arguments]

    return install


def node(program: str) -> Callable[[], list[str]]:
    def make(place: Path) -> None:
        for file in LOCKS["node"]:
            shutil.copy(HERE / file, place)
        must([tool("npm"), "ci"], cwd=place)

    def install() -> list[str]:
        command = [tool("node"), str(HERE / "node" / program)]
        prepare("node", make)
        return command

    return install


def go() -> list[str]:
    def make(place: Path) -> None:
        # The toolchain that is there, and the versions of go.sum: no other is fetched.
        compiler = tool("go", "/usr/local/go/bin")
        must(
            [compiler, "build", "-mod=readonly", "-o", str(place / "client"), "."], cwd=HERE / "go", GOTOOLCHAIN="local"
        )

    return [str(prepare("go", make) / "client")]


OPENAI: Final = {"401": "AuthenticationError", "403": "PermissionDeniedError", "429 quota": "RateLimitError"}
NO_LIST: Final = {"models": "the client has no call that lists models"}
CLIENTS: Final = {
    "openai": Client(python("openai", "openai_client.py"), OPENAI),
    "azure": Client(python("openai", "openai_client.py", "azure"), OPENAI),
    "openai-node": Client(node("openai_client.mjs"), OPENAI),
    "openai-go": Client(go, dict.fromkeys(OPENAI, "*apierror.Error")),
    "langchain": Client(
        python("langchain", "langchain_client.py"),
        {case: f"OpenAI{name}" for case, name in OPENAI.items()},
        lacks=NO_LIST,
    ),
    "litellm": Client(
        python("litellm", "litellm_client.py"),
        {**OPENAI, "403": "APIError"},
        shows_code=False,
        note="Its exceptions have no code of ours: the message has the reason.",
    ),
    "vercel-ai": Client(
        node("vercel_client.mjs"),
        {"401": "AI_APICallError", "403": "AI_APICallError", "429 quota": "AI_RetryError"},
        quota_attempts=3,
        lacks=NO_LIST,
        note="It does not read `x-should-retry`: an exhausted quota is asked three times. `maxRetries: 0` ends that.",
    ),
    "pydantic-ai": Client(
        python("pydantic-ai", "pydantic_ai_client.py"),
        {"401": "ModelAuthenticationError", "403": "ModelAuthenticationError", "429 quota": "ModelQuotaExceededError"},
        lacks=NO_LIST,
    ),
    "llamaindex": Client(
        python("llamaindex", "llamaindex_client.py"),
        OPENAI,
        lacks=NO_LIST,
        note="It does not read `x-should-retry`, and waits up to two minutes before it asks an exhausted quota again: set `max_retries=0`,"
        " as the case `429 quota` does.",
    ),
}

__all__ = ["CLIENTS", "Client", "Skipped"]
