"""A worker that the system has nothing left for: it reports the reason with the repair, and does not abort."""

import json
from pathlib import Path

import pytest

from starved import starved

PREPARE = """
from aigw._native import Gateway
from aigw.serve import child
from aigw.serve.log import Log
from aigw.serve.outlet import Outlet
from aigw.serve.worker import _failed

gateway, told, tell = Gateway(sys.argv[1]), *os.pipe()
orders = child.Orders(name="worker-1", settings={}, supervisor=0, ready_fd=tell)
log = Log("json", "worker", Outlet(1))
"""
ACT = """
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
    done = starved(tmp_path, PREPARE, ACT, free)
    line, told = done.stdout.splitlines()
    wanted = "[Errno 24] Too many open files (os error 24): let the process open more files (ulimit -n)"
    assert done.returncode == 1 and told == wanted, done
    event = json.loads(line)
    assert (event["event"], event["error"]) == ("worker_failed", wanted)
