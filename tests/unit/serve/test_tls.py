"""The TLS address of one worker: the reason when the system has nothing left for it."""

import asyncio
from pathlib import Path

import pytest

from aigw.serve.servers import Servers
from starved import starved

PREPARE = """
from aigw._native import Gateway
from aigw.serve.tls import TlsAddress
from aigw.types import HostPort

address = TlsAddress(Gateway(sys.argv[1]), HostPort("127.0.0.1", 0), None, print)
"""
ACT = """
try:
    address.listen()
except OSError as error:
    print(f"refused: {error}", flush=True)
os._exit(0)  # without a thread of the address
"""


@pytest.mark.parametrize("free", [2, 3, 4])
def test_address_without_files_is_refused_with_the_repair(tmp_path: Path, free: int) -> None:
    """Two files are for the socket and its duplicate: the runtime behind them gets none, or not enough."""
    done = starved(tmp_path, PREPARE, ACT, free)
    wanted = "refused: the TLS address cannot be served: [Errno 24] Too many open files"
    assert done.returncode == 0 and done.stdout.startswith(wanted) and "ulimit -n" in done.stdout, (
        done.stdout,
        done.stderr,
    )


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
