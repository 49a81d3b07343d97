"""A worker that the system has nothing left for: it reports the reason with the repair, and does not abort."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aigw._native import Publisher

LISTS = ("services", "routes", "key_auth", "rate_limiting", "size_limiting", "acl", "columns", "tiers", "models")
STARVED = """
import os, resource, sys
from aigw._native import Gateway
from aigw.serve import child
from aigw.serve.log import Log
from aigw.serve.outlet import Outlet
from aigw.serve.worker import _failed

gateway, told, tell = Gateway(sys.argv[1]), *os.pipe()
orders = child.Orders(name="worker-1", settings={}, supervisor=0, ready_fd=tell)
log = Log("json", "worker", Outlet(1))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    for one in held[: int(sys.argv[2])]:
        os.close(one)
try:
    gateway.start(object(), log)
except OSError as error:
    status = _failed(orders, log, error)
    os.write(1, os.read(told, 4096) + b"\\n")
    os._exit(status)
os._exit(0)
"""


@pytest.mark.parametrize("free", [0, 1, 2])
def test_worker_without_files_reports_the_repair(tmp_path: Path, free: int) -> None:
    Publisher(str(tmp_path), "0123abcd-0000-4000-8000-00000000000f").publish(
        json.dumps({**{name: [] for name in LISTS}, "default_tier": None}).encode()
    )
    command = [sys.executable, "-c", STARVED, str(tmp_path), str(free)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    line, told = done.stdout.splitlines()
    wanted = "[Errno 24] Too many open files (os error 24): let the process open more files (ulimit -n)"
    assert done.returncode == 1 and told == wanted, done
    event = json.loads(line)
    assert (event["event"], event["error"]) == ("worker_failed", wanted)
