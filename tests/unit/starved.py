"""A process whose files the system has nearly used up, on a data folder with an empty policy.

In: its preparation and its act, as source text; the files that are left for the act. Out: the finished process.
"""

import json
import subprocess
import sys
from pathlib import Path

from aigw._native import Publisher

LISTS = ("services", "routes", "key_auth", "rate_limiting", "size_limiting", "acl", "columns", "tiers", "models")
EMPTY = json.dumps({**{name: [] for name in LISTS}, "default_tier": None}).encode()
"""A policy without entities."""
_STARVE = """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    for one in held[: int(sys.argv[2])]:
        os.close(one)
"""


def starved(folder: Path, prepare: str, act: str, free: int) -> "subprocess.CompletedProcess[str]":
    """Run it. `sys.argv[1]` is the folder."""
    Publisher(str(folder), "0123abcd-0000-4000-8000-00000000000f").publish(EMPTY)
    script = f"import os, resource, sys\n{prepare}{_STARVE}{act}"
    command = [sys.executable, "-c", script, str(folder), str(free)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
