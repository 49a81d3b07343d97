"""Fakes of native objects. `FakePublisher` keeps in memory the data that the native one writes to files."""

import errno
import hashlib
import hmac
import sys
from collections.abc import Sequence
from typing import Any

import orjson

from aigw._native import PublishError
from aigw.control.publish.records import ConsumerRecord, CredentialRecord
from aigw.ledger.source import NoSegments
from aigw.types import MetricLabels


def _owner(scope: str, name: str) -> dict[str, str | None]:
    """The scope of a counter, and its name in it."""
    return {"scope": scope, **{kind: name if kind == scope else None for kind in ("model", "credential", "service")}}


class FakeBase:
    """The records of a base, by number."""

    def __init__(self) -> None:
        self.by_n: dict[int, ConsumerRecord] = {}
        self.keys_by_n: dict[int, CredentialRecord] = {}

    def __len__(self) -> int:
        return len(self.by_n) + len(self.keys_by_n)

    def consumers(self, records: Sequence[ConsumerRecord]) -> None:
        self.by_n.update({record.n: record for record in records})

    def credentials(self, records: Sequence[tuple[int, str, str, bytes, int]]) -> None:
        owners = {record.id: record.n for record in self.by_n.values()}
        for n, key, owner, digest, expires_at in records:
            self.keys_by_n[n] = CredentialRecord(n, key, owners[owner], digest, expires_at)


class FakePublisher:
    """`policy`, `consumers` and `credentials` are in force; appended records wait for `publish`."""

    def __init__(self, data_dir: str, store_id: str) -> None:
        self.store_id = store_id
        self.policy: dict[str, Any] | None = None
        self.consumers: dict[int, ConsumerRecord] = {}
        self.credentials: dict[int, CredentialRecord] = {}
        self.columns: dict[int, tuple[int, int, str]] = {}
        self.calls: list[str] = []
        self.adopted: Any = None
        self.fail: dict[str, OSError] = {}
        self.down: list[dict[str, Any]] = []
        self.silent_ms = 0
        self.ledger_state = "well"
        self.refuses = ""
        """A text that the fake refuses in routes."""
        self.buckets: dict[tuple[int, int], tuple[int, int]] = {}
        self.sealed = 0
        self._secrets: dict[str, bytes] = {}
        self.cells: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._next: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
        self._before: tuple[dict[int, Any], dict[int, Any]] | None = None
        self.delta_is_lost = False
        """True after a failed fsync: only a new base can follow."""
        self._delta = 0
        self._generation = 0

    def hash_key(self, key: bytes) -> bytes:
        return hmac.new(b"secret", key, hashlib.sha256).digest()

    def seal(self, secret: bytes) -> str:
        self.sealed += 1
        text = f"sealed-{self.sealed}-{self.hash_key(secret).hex()[:8]}"
        self._secrets[text] = secret
        return text

    def unseal(self, sealed: str) -> bytes:
        if sealed not in self._secrets:
            raise ValueError("not a text that this folder sealed")
        return self._secrets[sealed]

    def ensure_column(self, n: int, words: int, rows: int, key: str) -> None:
        self._call("ensure_column")
        self.columns[n] = (words, rows, key)

    def adopts_rows(self) -> bool:
        return self.policy is None

    def adopt_rows(self, series: list[tuple[int, int, int]], calls: list[tuple[int, int, int]]) -> None:
        self.adopted = (series, calls)

    def make_room(self) -> None:
        pass

    def highest_column(self) -> int:
        return max(self.columns, default=0)

    def new_base(self) -> "FakeBase":
        return FakeBase()

    def write_base(self, base: "FakeBase") -> None:
        self._call("write_base")
        self._next = (base.by_n, base.keys_by_n)
        self._delta = 0
        self._before = None
        self.delta_is_lost = False

    def append(
        self,
        upserts_consumers: list[ConsumerRecord],
        upserts_credentials: list[CredentialRecord],
        deleted_consumers: list[int],
        deleted_credentials: list[int],
    ) -> None:
        self._call("append")
        if self.delta_is_lost:
            raise OSError(errno.EIO, "write a new base")
        consumers, credentials = self._next
        self._before = dict(consumers), dict(credentials)
        consumers.update({c.n: c for c in upserts_consumers})
        credentials.update({c.n: c for c in upserts_credentials})
        for n in deleted_consumers:
            consumers.pop(n, None)
        for n in deleted_credentials:
            credentials.pop(n, None)
        self._delta += sum(map(len, (upserts_consumers, upserts_credentials, deleted_consumers, deleted_credentials)))

    def take_back(self) -> None:
        if self._before is not None:
            self._next, self._before = self._before, None

    def stage(self, policy: bytes) -> None:
        if "stage" in self.fail:
            raise self.fail["stage"]
        if self.refuses and self.refuses.encode() in policy:
            number = next(r["n"] for r in orjson.loads(policy)["routes"] if self.refuses in orjson.dumps(r).decode())
            error = PublishError(f"policy: route {number}: refused")
            error.kind, error.n, error.reason = "route", number, "refused"
            raise error

    def publish(self, policy: bytes | None) -> int:
        self._call("publish" if policy is None else "publish policy")
        if policy is not None:
            self.policy = orjson.loads(policy)
        self.consumers, self.credentials = dict(self._next[0]), dict(self._next[1])
        self._before = None
        self._generation += 1
        return self._generation

    def generation(self) -> int:
        return self._generation

    def delta_records(self) -> int:
        return sys.maxsize if self.delta_is_lost else self._delta

    def standing(
        self,
        instances: list[tuple[int, str, list[tuple[int, str]]]],
        tier: int,
        consumer: int,
        credentials: list[tuple[int, str]],
        now_ns: int,
    ) -> bytes:
        """As the native one, over `cells` and `buckets`. Windows of fixed length only."""
        policy, rows = self.policy or {"rate_limiting": [], "tiers": [], "default_tier": None}, []
        for profile, source, named in instances:
            limits, scope = (policy["rate_limiting"][profile][field] for field in ("limits", "limit_by"))
            for n, owner in named:
                rows += [self._row(limit, limit["dense"], n, (scope, owner), source, now_ns) for limit in limits]
        models = {model["n"]: model["name"] for model in policy.get("models", ())}
        for one in policy["tiers"]:
            if one["n"] == (tier or policy["default_tier"]):
                for limit in one["limits"]:
                    named = {"consumer": [(consumer, "")], "credential": credentials}.get(limit["scope"], [])
                    counters = [(limit["column"], n, owner) for n, owner in named]
                    counters += [(column, consumer, models[n]) for n, column in limit["by_model"]]
                    rows += [
                        self._row(limit, column, n, (limit["scope"], owner), f"tier {one['name']}", now_ns)
                        for column, n, owner in counters
                    ]
        return orjson.dumps(rows)

    def _row(
        self, limit: dict[str, Any], column: int, row: int, owner: tuple[str, str], source: str, now_ns: int
    ) -> dict[str, Any]:
        fields, now = limit["fields"], now_ns // 10**9
        length = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}.get(fields["per"], 1)
        most = fields.get("burst") or fields["requests"]
        taken, held, end = self.cells.get((column, row), (0, 0, 0))
        if end <= now:
            taken, held, end = 0, 0, now - now % length + length
        if "burst" in fields:
            used, full_at = self.buckets.get((column, row), (0, 0))
            taken, held, end = (used, 0, -(-full_at // 10**9)) if full_at > now_ns else (0, 0, now)
        return {
            "meter": "requests", "per": fields["per"], **_owner(*owner), "limit": most, "used": taken - held, "reserved": held,
            "mode": "shadow" if limit.get("shadow") else "enforce", "remaining": max(0, most - taken), "resets_at": end,
            "source": source,
        }  # fmt: skip

    def ledger(self) -> NoSegments:
        return NoSegments()

    def reclaim(self) -> list[tuple[int, int]]:
        return []

    def begin_clock(self) -> None: ...

    def slots(self) -> list[dict[str, Any]]:
        state = "ready" if self.silent_ms < 2000 else "silent"
        row = {"slot": 0, "pid": 1, "state": state, "generation": self._generation, "in_flight": 0, "inline": True}
        return [{**row, "silent_ms": self.silent_ms, "ledger": self.ledger_state}]

    def load_failures(self) -> int:
        return 0

    def total_requests(self, routes: list[int]) -> int:
        return 0

    def outages(self, upstreams: list[str]) -> list[dict[str, Any]]:
        return [row for row in self.down if row["upstream"] in upstreams]

    def count_consumers(self, on: bool) -> None:
        self.counts_consumers = on

    def counted_consumers(self) -> list[int]:
        return []

    def counting_since(self) -> int:
        return 0

    def families(
        self, labels: MetricLabels
    ) -> list[tuple[str, str, str, list[tuple[str, list[tuple[str, str]], float]]]]:
        return []

    def metrics(self, labels: MetricLabels) -> str:
        shown = {name: found for name, found in labels._asdict().items() if isinstance(found, dict)}
        return "".join(f"# {name} {sorted(found.items())}\n" for name, found in shown.items())

    def _call(self, name: str) -> None:
        # Read once and raised as a new error: the writer retries by itself while the test replaces `fail`.
        fault = self.fail.get(name.split(maxsplit=1)[0])
        if fault is not None:
            raise type(fault)(*fault.args)
        self.calls.append(name)
