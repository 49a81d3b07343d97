"""Clients that never read cost little in the workers and in the kernel, and nobody else anything."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from tests.integration.bounds.conftest import ANSWER, Floor
from tests.support.ends import Upstream, Wire, message
from tests.support.hostile import MIB, Peak, kernels_memory, resident, slow_readers, wait_memory
from tests.support.wire import Connection

READERS = 60
FIRST = 20 * MIB
"""Bytes that the first of them may cost two workers, and that these may keep: the buffers of threads, and pages of the allocators."""
EACH = 160 * 1024
"""Bytes that each client which never reads may cost in the workers."""


def test_clients_that_never_read_cost_little(floor: Floor) -> None:
    request = message("GET", "/flood/x", f"apikey: {floor.caller().key}")
    kernel = kernels_memory()
    with Peak(floor.gateway) as peak, floor.healthy() as healthy:
        crowd = slow_readers(floor.gateway.proxy, request, READERS)
        settled, last = 0, -1
        while settled < 10:
            time.sleep(0.05)
            now = resident(floor.gateway) // MIB
            settled, last = (settled + 1 if now == last else 0), now
    assert healthy.meanwhile
    assert peak.grown <= FIRST + READERS * EACH
    # The upstream's own sockets are of this machine, too.
    assert kernels_memory() - kernel <= READERS * 6 * MIB
    for one in crowd:
        one.close()
    wait_memory(floor.gateway, peak.before + FIRST)


def test_slow_client_gets_every_byte(floor: Floor) -> None:
    with Connection(floor.gateway.proxy) as connection:
        connection.send(message("GET", "/flood/x", f"apikey: {floor.caller().key}"))
        time.sleep(0.3)
        answer = connection.answer()
    assert (answer.status, len(answer.body)) == (200, ANSWER)


def of_a_length(wire: Wire) -> None:
    """An upstream that answers with as many bytes as the path says."""
    while (request := wire.request()) is not None:
        size = int(re.findall(rb"/(\d+) ", request[0])[0])
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)


def test_client_that_is_slow_at_the_end_gets_every_byte(floor: Floor) -> None:
    """The server knows the end of an answer with a length by itself, while the client still reads it."""

    def got(size: int) -> int:
        where = urlsplit(floor.gateway.proxy)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect((where.hostname, where.port))
            client.sendall(message("GET", f"/sized/{size}", close=False))
            seen = b""
            while len(seen.partition(b"\r\n\r\n")[2]) < size:
                time.sleep(0.05)  # the speed of the client
                part = client.recv(8192)
                if not part:
                    break
                seen += part
        return len(seen.partition(b"\r\n\r\n")[2])

    sizes = list(range(160_000, 420_000, 6_500))
    with Upstream(of_a_length) as upstream, ThreadPoolExecutor(len(sizes)) as clients:
        floor.gateway.route(upstream.url, "/sized", "sized")
        assert list(clients.map(got, sizes)) == sizes
