"""Runs bad clients and bad upstreams in full size against two workers with the default bounds, beside a healthy client, and prints for each
the memory of the workers and the healthy client's times: `python -m benches.bounds`. The tests in `tests/integration/bounds` hold the same
bounds with small numbers.
"""

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benches.bounds.beside import Beside
from tests.support.ends import Upstream, Wire, message
from tests.support.hostile import MIB, Flood, Peak, Senders, kernels_memory, resident, slow_readers
from tests.support.processes import Gateway, start_upstream
from tests.support.surface import Caller, Json, caller, chat, start_configured
from tests.support.wire import Connection as Client

BODY: Final = 10_000_000
QUIET_S: Final = 3.0
"""The healthy client works so long alone, for its times without anybody bad beside it."""
GIVEN_BACK_S: Final = 10.0
INTERIM: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Floor:
    """A gateway with the default bounds, and a healthy client."""

    gateway: Gateway
    good: Caller

    def healthy(self) -> "Beside":
        request = message("GET", "/echo/get", f"apikey: {self.good.key}", close=False)
        return Beside(self.gateway.proxy, request)

    def cpu_s(self) -> float:
        """Processor seconds of the workers so far."""
        pids = [pid for name, pid in self.gateway.children().items() if name.startswith("worker")]
        stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / 100

    @contextmanager
    def row(self, name: str) -> Iterator[list[str]]:
        """A row: the block inside it is measured. The caller adds words of its own."""
        with self.healthy() as alone:
            time.sleep(QUIET_S)
        words: list[str] = []
        cpu = self.cpu_s()
        with Peak(self.gateway) as peak, self.healthy() as beside:
            yield words
            spent = self.cpu_s() - cpu
        words += [f"workers +{peak.grown / MIB:.0f} MiB", f"{spent:.1f} s of processor"]
        sys.stdout.write(
            f"{name}: {'; '.join(words)}; others' median/p99/longest {alone.told()} -> {beside.told()} ms\n"
        )
        sys.stdout.flush()

    def given_back(self, before: int) -> str:
        """Watch the workers' memory for as long as they may keep it."""
        end, least = time.monotonic() + GIVEN_BACK_S, resident(self.gateway)
        while time.monotonic() < end:
            least = min(least, resident(self.gateway))
            time.sleep(0.1)
        return f"{(least - before) / MIB:+.0f} MiB kept {GIVEN_BACK_S:.0f} s after"


def bodies(floor: Floor) -> None:
    """One key, many connections, each withholds the last byte of its body."""
    before = resident(floor.gateway)
    who = caller(floor.gateway, "slow")
    withheld = message("POST", "/echo/post", f"apikey: {who.key}", body=bytes(BODY))[:-1]
    with floor.row("300 bodies of 10 MB without their last byte, one key of 10/s") as words:
        crowd = Senders.send(floor.gateway.proxy, [withheld] * 300, 20)
        words.append(f"answers {dict(crowd.statuses())}")
    crowd.leave()
    sys.stdout.write(f"  {floor.given_back(before)}\n")


def readers(floor: Floor, count: int) -> None:
    """Clients that ask for 64 MiB and never read."""
    before, kernel = resident(floor.gateway), kernels_memory()
    who = caller(floor.gateway, "any")
    request = message("GET", "/flood/x", f"apikey: {who.key}")
    with floor.row(f"{count} clients that never read") as words:
        crowd = slow_readers(floor.gateway.proxy, request, count)
        time.sleep(10)
        words.append(f"kernel +{(kernels_memory() - kernel) / MIB:.0f} MiB, both ends and the upstream's")
    for one in crowd:
        one.close()
    sys.stdout.write(f"  {floor.given_back(before)}\n")


def interim(floor: Floor) -> None:
    """An upstream that never comes to its answer."""

    def script(wire: Wire) -> None:
        while wire.request() is not None:
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    wire.send(INTERIM)
                wire.send(OK)

    with Upstream(script) as upstream:
        floor.gateway.route(upstream.url, "/interim", "interim")
        with floor.row("20 calls of an upstream with a million interim answers") as words, ExitStack() as stack:
            statuses = []
            for _ in range(20):
                connection = stack.enter_context(Client(floor.gateway.proxy))
                statuses.append(connection.ask(message("GET", "/interim/x", close=False)).status)
            words.append(f"answers {dict.fromkeys(statuses)}".replace(": None", ""))


def chunks(floor: Floor, size: int, count: int, clients: int) -> None:
    """Bodies in so many chunks of so many bytes, from several clients at once."""
    who = caller(floor.gateway, "any")
    head = message("POST", "/echo/post", f"apikey: {who.key}", "Transfer-Encoding: chunked", close=False)
    body = head + (b"%x\r\n" % size + b"x" * size + b"\r\n") * count + b"0\r\n\r\n"
    statuses: list[int] = []

    def send(connection: Client) -> None:
        with contextlib.suppress(OSError):  # the answer may come before the end of the request
            connection.send(body)

    def call() -> None:
        with Client(floor.gateway.proxy) as connection:
            sender = threading.Thread(target=send, args=(connection,), daemon=True)
            sender.start()
            statuses.append(connection.answer().status)

    with floor.row(f"{clients} bodies of {size * count / 1e6:.1f} MB in chunks of {size}") as words:
        callers = [threading.Thread(target=call) for _ in range(clients)]
        began = time.monotonic()
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        words.append(f"answers {statuses} after {time.monotonic() - began:.1f} s")


def members(floor: Floor, count: int, kind: str) -> None:
    """Large bodies of many small parts."""
    who = caller(floor.gateway, "any")
    ones = "1," * (count - 1)
    extra = "".join(f',"x{n:06}":1' for n in range(count)) if kind == "members" else f',"x":[{ones}1]'
    text = json.dumps(chat())
    body = (text[:-1] + extra + "}").encode()
    with floor.row(f"20 calls with {count:,} {kind} ({len(body) / 1e6:.1f} MB)") as words:
        statuses = [who.post(body).status_code for _ in range(20)]
        words.append(f"answers {dict.fromkeys(statuses)}".replace(": None", ""))


def serve(stack: ExitStack, data: Path) -> Floor:
    """Echo, mock LLM, a flooding upstream, and the gateway in front of them."""
    echo, echo_url = start_upstream("echo")
    stack.callback(echo.end)
    llm, llm_url = start_upstream("mock-llm")
    stack.callback(llm.end)
    flood = stack.enter_context(Flood(64 * MIB))
    auth: list[Json] = [{"name": "key-auth"}]
    services = [
        {"name": name, "url": url, "routes": [{"name": name, "paths": [f"/{name}"]}], "plugins": auth}
        for name, url in (("echo", echo_url), ("flood", flood.url))
    ]
    tiers: Json = {
        "any": {"limits": [{"requests": 1_000_000_000, "per": "year"}]},
        "slow": {"limits": [{"requests": 10, "per": "second"}]},
    }
    models = {"small-chat": {"upstreams": [{"url": llm_url + "/v1", "model": "small-chat"}]}}
    gateway = start_configured(data, {"models": models, "tiers": tiers, "services": services}, workers=2)
    stack.callback(gateway.process.end)
    return Floor(gateway, caller(gateway, "any"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.bounds", description=__doc__)
    parser.add_argument("--only", help="comma-separated: bodies, readers, interim, chunks, members")
    only = parser.parse_args().only
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    works: list[tuple[str, Callable[[Floor], None]]] = [
        ("bodies", bodies),
        ("readers", lambda floor: readers(floor, 200)),
        ("readers", lambda floor: readers(floor, 2000)),
        ("interim", interim),
        ("chunks", lambda floor: chunks(floor, 1, 400_000, 1)),
        ("chunks", lambda floor: chunks(floor, 64, 150_000, 1)),
        ("chunks", lambda floor: chunks(floor, 64, 150_000, 4)),
        ("chunks", lambda floor: chunks(floor, 1024, 9_000, 4)),
        ("members", lambda floor: members(floor, 700_000, "members")),
        ("members", lambda floor: members(floor, 90_000, "members")),
        ("members", lambda floor: members(floor, 4_500_000, "elements")),
        ("members", lambda floor: members(floor, 90_000, "elements")),
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aigw-bounds-")))
        floor = serve(stack, folder / "data")
        for name, work in works:
            if not only or name in only.split(","):
                work(floor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
