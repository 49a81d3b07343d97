"""Segments in memory, and a ledger on a real file: the worlds of these tests.

`FakeSource` keeps records as the native half does: (life, slot) owns dense segments, a live owner's records are readable up to `synced`.
`Ledger` opens the file, its compactor and its readers; `crash` forgets the memory and opens again.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from aigw._native import Entries
from aigw.ledger.batch import MOST
from aigw.ledger.compactor import Compactor
from aigw.ledger.database import LedgerStore
from aigw.ledger.events import page
from aigw.ledger.names import Named, Names
from aigw.ledger.query import FILTERS, Filters, filters, grouping
from aigw.ledger.retention import Retention, Sweeper
from aigw.ledger.source import COSTED, COUNTED, ENTRY, OVERRUN, PRICED
from aigw.ledger.usage import refusals, usage
from aigw.telemetry.faults import Faults

NS = 10**9
NOON = 1_790_000_000 - 1_790_000_000 % 86400 + 43200
LIFE = 1_789_000_000 * NS
REASONS = ["api_key_missing", "rate_limited", "budget_exhausted"]


def entry(**fields: Any) -> dict[str, Any]:
    """The fields of an entry, with those of an ordinary call for the rest."""
    at = fields.pop("at", NOON) * NS
    plain = dict.fromkeys(ENTRY, 0) | {
        "admitted_at": at, "ended_at": at + NS // 2, "request_id": random.randbytes(16), "parent": None, "run": None, "consumer": 1,
        "credential": 2, "tier": 1, "model": 1, "upstream": 3, "status": 200, "source": 1, "flags": COUNTED | PRICED | COSTED,
        "input": 10, "output": 5, "price": 700, "cost": 300, "price_version": 2**63 + 7, "cost_version": 9, "latency_us": 500_000,
        "first_byte_us": 120_500,
    }  # fmt: skip
    return plain | fields


class Segment:
    """One file: records, and the state of its owner."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Any]] = []
        self.synced = 0
        self.live = True
        self.end: int | None = None
        self.damage: str | None = None
        self.lost: set[int] = set()
        self.fault: OSError | None = None


class FakeSource:
    """Segments by (life, slot, number). `removed` has those that were removed; `before` runs before each call."""

    def __init__(self) -> None:
        self.files: dict[tuple[int, int, int], Segment] = {}
        self.removed: list[tuple[int, int, int]] = []
        self.before: Callable[[], None] = lambda: None
        self.error: str | None = None

    def append(self, record: Any, *, slot: int = 0, life: int = LIFE, room: int = 4095, sync: bool = True) -> None:
        """Append an entry's fields, or a tuple of refusals, in the newest segment; a full one is sealed first."""
        number = max((n for of, s, n in self.files if (of, s) == (life, slot)), default=0)
        file = self.files.setdefault((life, slot, number), Segment())
        if len(file.records) >= room:
            file.end = len(file.records)
            number += 1
            file = self.files[life, slot, number] = Segment()
        key = (life, slot, number)
        if isinstance(record, dict):
            named = record | dict(zip(ENTRY[:4], (*key, len(file.records)), strict=True))
            file.records.append(("entry", tuple(named[name] for name in ENTRY)))
        else:
            file.records.append(("denials" if len(record) == 6 else "doubt", record))
        if sync:
            file.synced = len(file.records)

    def die(self, slot: int = 0) -> None:
        """The owner dies: its records are final."""
        for (_, of, _), file in self.files.items():
            if of == slot:
                file.live, file.end = False, len(file.records)

    def segments(self) -> list[tuple[int, int, int, bool, int, int | None]]:
        self.before()
        return [(*key, f.live, f.synced, f.end) for key, f in self.files.items()]

    def read(self, life: int, slot: int, number: int, start: int, most: int) -> Any:
        self.before()
        file = self.files[life, slot, number]
        until = min(start + most, len(file.records) if not file.live else file.synced)
        part = file.records[start:until]
        if file.fault is not None:
            raise file.fault
        ends = file.damage is not None and until == len(file.records)
        lost = [place for place in file.lost if start <= place < until]
        part = [record for place, record in enumerate(part, start) if place not in lost]
        return (
            Entries([r for kind, r in part if kind == "entry"]),
            [r for kind, r in part if kind == "denials"],
            [r for kind, r in part if kind == "doubt"],
            max(start, until),
            file.damage if ends else f"{len(lost)} records cannot be read" if lost else None,
        )

    def remove(self, life: int, slot: int, number: int) -> bool:
        self.before()
        newest = max(n for of, s, n in self.files if (of, s) == (life, slot))
        if self.files[life, slot, number].live and number > newest - 2:
            return False
        del self.files[life, slot, number]
        self.removed.append((life, slot, number))
        return True

    def status(self) -> tuple[int, int, str | None]:
        return sum(len(f.records) - f.synced for f in self.files.values()), len(self.files), self.error


class FakeDirectory:
    """Entities by kind and number."""

    def __init__(self) -> None:
        self.named: dict[str, dict[int, tuple[str, str]]] = {
            kind: {n: (f"id-{kind}-{n}", f"{kind}-{n}") for n in range(1, 40)}
            for kind in ("consumer", "tier", "model", "route", "service", "upstream", "credential")
        }
        self.changes = 0

    def version(self) -> int:
        return self.changes

    def lookup(self, kind: str, numbers: Collection[int]) -> Mapping[int, Named]:
        return {n: Named(*self.named[kind][n]) for n in numbers if n in self.named.get(kind, {})}


class Ledger:
    """An open ledger over a fake source."""

    def __init__(self, folder: Path, store_id: str = "node-1") -> None:
        self.path = folder / "ledger" / "ledger.db"
        self.store_id = store_id
        self.source, self.directory, self.faults = FakeSource(), FakeDirectory(), Faults()
        self.retention, self.now = Retention(), float(NOON)
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.open()

    def open(self) -> None:
        self.store = LedgerStore(self.path, self.store_id)
        names = Names(self.directory, REASONS)
        self.sweeper = Sweeper(lambda: self.retention, lambda: self.now)
        self.compactor = Compactor(
            self.store, self.source, names, self.sweeper, self.faults, self.log, lambda: self.now
        )

    def log(self, event: str, /, **facts: object) -> None:
        self.lines.append((event, facts))

    def crash(self) -> None:
        """Forget everything in memory, as a kill does."""
        self.store.close()
        self.open()

    def round(self) -> int:
        return self.compactor.round()

    def tidy(self) -> None:
        """Every step of names and of retention that is due."""
        for _ in range(10_000):
            self.compactor._tidy()
            self.sweeper._next_look = 0.0
            if not self.sweeper.step(self.store, self.compactor._lives):
                return
        raise AssertionError("the sweeper never ends")

    def events(self, size: int = 1000, **query: str) -> list[dict[str, Any]]:
        with self.store.reading() as connection:
            found = page(connection, filters(query), 0, size)
        return found.data

    def usage(self, group_by: str = "", **query: str) -> list[dict[str, Any]]:
        return self.answer(usage, "consumer,credential,tier,model,route,agent,minute,hour,day,month", group_by, query)

    def refusals(self, group_by: str = "", **query: str) -> list[dict[str, Any]]:
        return self.answer(refusals, "consumer,tier,model,reason,minute,hour,day,month", group_by, query)

    def answer(self, of: Any, allowed: str, group_by: str, query: dict[str, str]) -> list[dict[str, Any]]:
        groups = grouping({"group_by": group_by}, tuple(allowed.split(",")))
        with self.store.reading() as connection:
            found: list[dict[str, Any]] = of(connection, filters(query), groups)["data"]
        return found


def sums_of(entries: list[dict[str, Any]]) -> Counter[str]:
    """Sums over entries, as an answer names them."""
    total: Counter[str] = Counter()
    for e in entries:
        total.update(
            requests=1,
            errors=int(e["status"] >= 400 or e["outcome"] in (2, 4, 5)),
            input_tokens=e["input"],
            cached_input_tokens=e["cached_input"],
            cache_write_input_tokens=e["cache_write"],
            output_tokens=e["output"],
            reasoning_tokens=e["reasoning"],
            cost_nanodollars=e["cost"],
            price_nanodollars=e["price"],
            unpriced=int(e["model"] != 0 and not e["flags"] & COSTED),
            overruns=int(bool(e["flags"] & OVERRUN)),
        )
    return total


def random_entry(rnd: random.Random, spread_s: int = 3 * 86400) -> dict[str, Any]:
    """An entry of any kind, admitted within `spread_s` seconds around noon."""
    kong = rnd.random() < 0.2
    return entry(
        at=NOON + rnd.randrange(-spread_s, spread_s),
        request_id=rnd.randbytes(16),
        consumer=rnd.randrange(0, 4),
        tier=rnd.randrange(0, 3),
        model=0 if kong else rnd.randrange(1, 3),
        route=rnd.randrange(1, 3) if kong else 0,
        status=rnd.choice([200, 200, 404, 500]),
        outcome=rnd.randrange(6),
        flags=rnd.randrange(32),
        **{
            name: rnd.randrange(10 ** rnd.randrange(1, 9))
            for name in ("input", "cached_input", "output", "reasoning", "price", "cost")
        },
    )


__all__ = ["FILTERS", "LIFE", "MOST", "NOON", "NS", "REASONS", "Filters", "Ledger", "entry", "random_entry", "sums_of"]
