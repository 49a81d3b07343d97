"""The TLS address of one worker: the reason when the system has nothing left for it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from aigw._native import Publisher
from aigw.serve.servers import Servers

LISTS = ("services", "routes", "key_auth", "rate_limiting", "size_limiting", "acl", "columns", "tiers", "models")
STARVED = """
import os, resource, sys
from aigw._native import Gateway
from aigw.serve.tls import TlsAddress
from aigw.types import HostPort

address = TlsAddress(Gateway(sys.argv[1]), HostPort("127.0.0.1", 0), None, print)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    for one in held[: int(sys.argv[2])]:
        os.close(one)
try:
    address.listen()
except OSError as error:
    print(f"refused: {error}", flush=True)
os._exit(0)  # without a thread of the address
"""


@pytest.mark.parametrize("free", [2, 3, 4])
def test_address_without_files_is_refused_with_the_repair(tmp_path: Path, free: int) -> None:
    """Two files are for the socket and its duplicate: the runtime behind them gets none, or not enough."""
    Publisher(str(tmp_path), "0123abcd-0000-4000-8000-00000000000f").publish(
        json.dumps({**{name: [] for name in LISTS}, "default_tier": None}).encode()
    )
    command = [sys.executable, "-c", STARVED, str(tmp_path), str(free)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    wanted = "refused: the TLS address cannot be served: [Errno 24] Too many open files"
    assert done.stdout.startswith(wanted) and "ulimit -n" in done.stdout, (done.stdout, done.stderr)


async def test_reason_of_an_address_that_cannot_be_served_is_the_reason_of_the_end() -> None:
    class Server:
        def __init__(self, listening: object) -> None:
            self._listening = listening

        async def serve(self) -> None:
            assert callable(self._listening)
            self._listening()

        def stop(self) -> None: ...

    def listening() -> None:
        raise OSError("the TLS address cannot be served: so it is")

    servers = Servers([Server], listening)
    servers.start()
    assert "so it is" in await asyncio.wait_for(servers.ended, 10)
