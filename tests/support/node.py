"""OpenAI's Node client, installed once from its lock into a folder that git ignores, and called as a process.

In: a call as plain values. Out: its result. Skips the test without node or npm, or without a network to install from.
"""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.surface import Json

HERE = Path(__file__).parents[1] / "integration" / "openai" / "node"
CACHE = Path(__file__).parents[2] / ".cache" / "node-openai"
WRITTEN = ("package.json", "package-lock.json", ".npmrc")
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED")


def install() -> Path:
    """The folder with the installed client."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm, of which there is " + ("no npm" if node else "neither"))
    major = int(
        subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout[1:].split(".")[0]
    )
    if major < 20:
        pytest.skip(f"needs node 20 or later, here is {major}")
    lock = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in WRITTEN)).hexdigest()
    folder = CACHE / lock[:16]
    if (folder / "whole").exists():
        return folder
    shutil.rmtree(CACHE, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in WRITTEN:
        shutil.copy(HERE / name, folder)
    made = subprocess.run([npm, "ci"], cwd=folder, capture_output=True, text=True, timeout=600)
    if made.returncode and any(word in made.stderr for word in NO_NETWORK):
        pytest.skip("needs a network to install OpenAI's Node client")
    assert made.returncode == 0, made.stderr
    (folder / "whole").touch()
    return folder


def call(home: Path, plan: Json) -> Json:
    """Make a call with `client.mjs`. Returns its output."""
    environment = {**os.environ, "CLIENT_HOME": str(home), "NO_PROXY": "*"}
    done = subprocess.run(
        ["node", str(HERE / "client.mjs")],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    told: Json = json.loads(done.stdout)
    return told
