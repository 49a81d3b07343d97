"""Measures the compactor and the readers of the ledger: `python -m benches.ledger --entries 1000000 --days 1`.

In: a number of entries, made in memory and compacted from there, so the reading of segments is not in the figures. Out: entries per second by
the wall and by the processor, bytes of the file for each, and the time of questions. On a machine with other load the wall's figure says
little; the processor's is the cost.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from aigw._native import Entries
from aigw.ledger.compactor import Compactor
from aigw.ledger.database import LedgerStore
from aigw.ledger.names import Names, Unnamed
from aigw.ledger.query import filters
from aigw.ledger.questions import ANSWERS, one_request
from aigw.ledger.retention import Retention, Sweeper
from aigw.ledger.source import COSTED, COUNTED, ENTRY, PRICED, Entry, Read
from aigw.telemetry.faults import Faults

NS = 10**9
MIDNIGHT = 1_790_035_200
RECORDS = 4095
"""Records of a segment."""


class Made:
    """A source of `entries` entries over `days` days, made segment by segment when they are read."""

    def __init__(self, entries: int, days: float, consumers: int) -> None:
        self._step = int(days * 86400 * NS / entries)
        self._random = random.Random(1)
        self._consumers = consumers
        self._segments = -(-entries // RECORDS)
        self._entries = entries
        self.next = 0
        self.made_s = self.made_cpu_s = 0.0
        """Seconds spent here, which are no work of the compactor."""
        self.request_id = b""

    def segments(self) -> list[tuple[int, int, int, bool, int, int | None]]:
        if self.next >= self._segments:
            return []
        until = min(self.next + 8, self._segments)
        return [(1, 0, n, False, self._size(n), self._size(n)) for n in range(self.next, until)]

    def _size(self, number: int) -> int:
        return min(RECORDS, self._entries - number * RECORDS)

    def read(self, life: int, slot: int, number: int, start: int, most: int) -> Read:
        wall, cpu = time.perf_counter(), time.process_time()
        until = min(start + most, self._size(number))
        found = Entries([self._entry(number, n) for n in range(start, until)])
        self.made_s += time.perf_counter() - wall
        self.made_cpu_s += time.process_time() - cpu
        return found, [], [], until, None

    def _entry(self, number: int, sequence: int) -> Entry:
        rnd, at = self._random, MIDNIGHT * NS + (number * RECORDS + sequence) * self._step
        consumer, request = 1 + rnd.randrange(self._consumers), rnd.randbytes(16)
        self.request_id = self.request_id or request
        output, latency = rnd.randrange(1, 900), rnd.randrange(10**5, 3 * 10**6)
        given = {
            "life": 1, "segment": number, "sequence": sequence, "admitted_at": at, "ended_at": at + latency * 1000,
            "request_id": request, "parent": None, "run": None, "consumer": consumer, "credential": consumer,
            "tier": 1 + consumer % 3, "model": 1 + consumer % 5, "upstream": 1 + consumer % 7, "status": 200, "source": 1,
            "flags": COUNTED | PRICED | COSTED, "input": rnd.randrange(10, 4000), "output": output, "price": output * 1200,
            "cost": output * 600, "price_version": 2**63 + 5, "cost_version": 2**63 + 9, "latency_us": latency,
            "first_byte_us": latency // 3,
        }  # fmt: skip
        return tuple(given.get(name, 0) for name in ENTRY)

    def remove(self, life: int, slot: int, number: int) -> bool:
        self.next = max(self.next, number + 1)
        return True

    def status(self) -> tuple[int, int, str | None]:
        return 0, 0, None


def compacted(folder: Path, entries: int, days: float, consumers: int) -> tuple[LedgerStore, Made, dict[str, Any]]:
    """A ledger of these entries, and the cost of making it."""
    store, source = LedgerStore(folder / "ledger.db", "bench"), Made(entries, days, consumers)
    compactor = Compactor(store, source, Names(Unnamed(), []), Sweeper(Retention), Faults())
    rounds, wall, cpu = [], time.perf_counter(), time.process_time()
    while True:
        before = time.perf_counter(), source.made_s
        if not compactor.round():
            break
        rounds.append(time.perf_counter() - before[0] - (source.made_s - before[1]))
    wall = time.perf_counter() - wall - source.made_s
    cpu = time.process_time() - cpu - source.made_cpu_s
    size = sum(file.stat().st_size for file in folder.glob("ledger.db"))
    return store, source, {
        "entries": entries, "days": days, "consumers": consumers, "entries_per_s": round(entries / wall),
        "entries_per_cpu_s": round(entries / cpu), "bytes_per_entry": round(size / entries, 1),
        "round_ms_p50": round(median(rounds) * 1000, 1), "round_ms_most": round(max(rounds) * 1000, 1),
    }  # fmt: skip


def timed(work: Callable[[], Any], times: int = 5) -> float:
    """The median in milliseconds, after one run that fills the cache."""
    work()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return round(median(found), 2)


def questions(store: LedgerStore, source: Made) -> dict[str, float]:
    """Milliseconds of each question."""
    day = {"after": str(MIDNIGHT), "before": str(MIDNIGHT + 86400)}
    uneven = {"after": str(MIDNIGHT + 1234), "before": str(MIDNIGHT + 80_000)}
    asked: dict[str, tuple[str, dict[str, str]]] = {
        "a day by consumer, model": ("usage", {**day, "group_by": "consumer,model"}),
        "a day by tier, model, hour": ("usage", {**day, "group_by": "tier,model,hour"}),
        "a day by model, minute": ("usage", {**day, "group_by": "model,minute"}),
        "a day of one consumer by model, minute": (
            "usage",
            {**day, "consumer": "consumer 5", "group_by": "model,minute"},
        ),
        "22 uneven hours by tier": ("usage", {**uneven, "group_by": "tier"}),
        "everything": ("usage", {}),
        "a page of 1000 events": ("events", {"size": "1000"}),
        "a page of one consumer": ("events", {"consumer": "consumer 5", "size": "100"}),
    }
    found = {}
    with store.reading() as connection:
        for name, (question, query) in asked.items():
            filters({k: v for k, v in query.items() if k in ("after", "before")})
            found[name] = timed(lambda of=ANSWERS[question], q=query: of(connection, q))  # type: ignore[misc]
        found["one request"] = timed(lambda: one_request(connection, source.request_id.hex()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.ledger")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=1)
    parser.add_argument("--consumers", type=int, default=1000)
    parser.add_argument("--write", type=Path, metavar="FILE", help="file for the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aigw-ledger-") as folder:
        store, source, figures = compacted(Path(folder) / "ledger", options.entries, options.days, options.consumers)
        figures["questions_ms"] = questions(store, source)
        store.close()
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if options.write:
        options.write.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
