"""Publishes the changes of a group of writes. In: the changes, inside their transaction. Out: calls of the native `Publisher`
after the commit; the last one stores the generation word.

A changed key or consumer is appended to the delta. The policy is compiled only after a change of services, routes, tiers,
models, plugins without a consumer, or the set of profiles. A new base replaces a delta that would be slower to load or to write.
A failed publication stays pending: the next attempt reads the pending ids from the store again. Only the writer thread calls this
module.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import orjson

from aigw._native import PublishError
from aigw.control.publish import upstreams
from aigw.control.publish.compile import ANY_TIER, Column, Profiles, calls_key, compile_policy, consumer_record
from aigw.control.publish.compile_tiers import Rows
from aigw.control.publish.files import KeyBase, Publisher
from aigw.control.publish.numbers import CALLS, LIMIT_SETS, Numbers, RowNumbers
from aigw.control.publish.prices import Note, versions
from aigw.control.publish.provider import upstream_labels
from aigw.control.publish.records import ConsumerRecord, CredentialRecord
from aigw.control.publish.rows_of_before import rows_of_before
from aigw.control.publish.world import Numbered, World
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import SETTINGS, BulkChange, Change, Row
from aigw.entities import (
    Entity,
    KongUpstream,
    LlmModel,
    Plugin,
    Route,
    Service,
    Sni,
    StoredCaCertificate,
    StoredCertificate,
    Target,
    Tier,
)
from aigw.errors import Unservable
from aigw.types import JsonDict, MetricLabels

MERGE_AT_LEAST: Final = 4096
"""Delta records up to which lookups stay fast without a new base."""
REWRITE_SHARE: Final = 32
"""With more than 1/32 of all records changed at once, writing a base is as fast as appending them."""
UNUSED_PROFILES: Final = 256
"""Profiles added since the last base, after which a new base drops the unused ones."""

NOT_LOADABLE: Final = "no worker could load this, so nothing was changed"
_IN_POLICY: Final[Mapping[str, type[Entity]]] = {
    "certificates": StoredCertificate,
    "snis": Sni,
    "ca_certificates": StoredCaCertificate,
    "upstreams": KongUpstream,
    "targets": Target,
    "services": Service,
    "routes": Route,
    "tiers": Tier,
    "models": LlmModel,
}
"""The collections of the policy, which are also the fields of `World`."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The state of the publication for `GET /status`."""

    hash: str = ""
    generation: int = 0
    loaded_at: float | None = None
    error: str | None = None
    failed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """All records at one moment, and the profiles that they reference."""

    records: KeyBase
    profiles: Profiles
    fresh: dict[tuple[str, str], int]


@dataclass(slots=True)
class _Prepared:
    policy: bytes | None
    records: bool
    """Whether records were appended to the delta."""
    base: Base | None = None


class Fresh(NamedTuple):
    """Numbers given since the last commit, by (kind, key). `WriteSession.keep_numbers` stores them."""

    columns: dict[tuple[str, str], int]
    rows: dict[tuple[str, str], int]


class Publication:
    """The state in force and the pending changes; publishes them."""

    def __init__(self, publisher: Publisher, schemes: frozenset[str] = frozenset({"http"})) -> None:
        """`schemes`: the protocols of requests."""
        self._publisher = publisher
        self.world = World(schemes=schemes)
        self.profiles = Profiles()
        self.numbers = Numbers({})
        self.row_numbers = RowNumbers.empty()
        self.in_force = InForce()
        self.note_prices: Note = lambda found: None
        """Stores versions of prices before a worker can use them."""
        self._policy = b""
        self._marked = self.world.marked
        """Of the policy in force."""
        self._policy_dirty = True
        self._policy_profiles = -1
        self._anonymous: set[str] = set()
        self._pending: dict[tuple[str, str], int] = {}
        self._since_read: dict[tuple[str, str], int] | None = None
        self._everything = self._everything_since_read = False  # a base is needed, not a delta
        self._new_base = False
        self._renewing = False
        self._rows: dict[Rows, int] = {"consumers": 0, "credentials": 0, "one": 0}
        self._columns: list[Column] = []
        self._ensured: dict[int, int] = {}
        self._base_records = 0
        self._base_profiles = 0
        self._prepared: _Prepared | None = None

    def load(self, reader: StoreReader) -> None:
        """Read all entities except consumers and credentials: at start, and after a failed write."""
        self.world = World(
            plugins={b["id"]: Plugin.model_validate(b) for b in reader.unscoped_plugins()},
            default_tier=reader.default_tier(),
            v1=reader.v1(),
            schemes=self.world.schemes,
            marked=self._marked,
        )
        for kind, model in _IN_POLICY.items():
            found = {r.id: Numbered(r.n, model.model_validate(r.body)) for r in reader.everything(kind, 0)}
            setattr(self.world, kind, found)
        # Numbers in memory stay valid if their rows were not stored: profiles reference them.
        self.numbers.take(reader.columns(), fresh=False)
        # A process that died before it stored a column's number leaves the column with counts of an unknown limit.
        self.numbers.above(self._publisher.highest_column())
        self.row_numbers.take(reader.numbers(CALLS, f"{ANY_TIER}/"), reader.numbers(LIMIT_SETS))
        self.row_numbers.calls.above(reader.highest_of(CALLS))
        if self._publisher.adopts_rows():
            self._publisher.adopt_rows(*rows_of_before(reader, self.world, self.row_numbers.calls))
        self._anonymous = self.world.anonymous_texts()
        self._rows = {
            "consumers": reader.highest("consumers"),
            "credentials": reader.highest("keyauth_credentials"),
            "one": 0,
        }
        self._policy_dirty = True

    def note(self, changes: Iterable[Change | BulkChange]) -> None:
        """Apply the changes of one group to memory."""
        for change in changes:
            row = None if isinstance(change, BulkChange) else change.after or change.before
            if isinstance(change, BulkChange):
                self._note_bulk(change)
            elif row is None:
                self._policy_dirty |= change.kind == SETTINGS
            elif change.kind in _IN_POLICY:
                self._note_policy_entity(change.kind, change.after, row.id)
            elif change.kind == "plugins":
                self._note_plugin(change)
            elif change.kind == "acls":
                for one in (change.before, change.after):
                    if one is not None:
                        self._touch("consumers", one.body["consumer"]["id"], 0)
            else:
                self._note_record(change, row)

    def prepare(self, reader: StoreReader, now: int) -> Fresh:
        """Compile the changes, write them to files that no worker reads yet, and make their counters; an error here keeps the change
        out of the store. A new base is written after the commit, because the old one serves until then. Returns the new numbers;
        the caller stores them in the same transaction. Raises Unservable, OSError."""
        much = len(self._pending) > max(MERGE_AT_LEAST, self._base_records // REWRITE_SHARE)
        if self._everything or self._renewing or much:
            base = self.read_base(reader, self.world, self.numbers.copy(), now, may_number=True)
            self.numbers.take(base.fresh, fresh=True)
            self._prepared = _Prepared(self._compile(reader, now, base.profiles), False, base)
            self._ensure_columns()
            return Fresh(self.numbers.fresh, self.row_numbers.fresh)
        consumers, credentials = [], []
        gone: dict[str, list[int]] = {"consumers": [], "keyauth_credentials": []}
        for (kind, key), n in self._pending.items():
            row = reader.get(kind, "id", key, now)
            if row is None:
                gone[kind].extend([n] if n else [])
            elif kind == "consumers":
                consumers.append(self._record(reader, row))
            else:
                owner = reader.get("consumers", "id", row.body["consumer"]["id"], now)
                if owner is not None:
                    credentials.append(CredentialRecord(row.n, row.id, owner.n, row.hash, row.expires_at))
        policy = None
        if self._policy_dirty or len(self.profiles) != self._policy_profiles:
            policy = self._compile(reader, now, self.profiles)
        self._prepared = _Prepared(policy, bool(consumers or credentials or any(gone.values())))
        self._ensure_columns()
        if self._prepared.records:
            self._publisher.append(consumers, credentials, gone["consumers"], gone["keyauth_credentials"])
        return Fresh(self.numbers.fresh, self.row_numbers.fresh)

    def send(self, now: float) -> None:
        """Put the prepared changes in force. Raises OSError, ValueError; then all changes stay pending."""
        plan = self._prepared
        if plan is None:
            return
        try:
            if plan.base is not None:
                self._write(plan.base)
            elif not plan.records and plan.policy is None and not self._new_base:
                self.in_force = replace(self.in_force, error=None, failed_at=None)
                return
            if plan.policy is not None:
                self.note_prices(versions(self.world))
            self._published(self._publisher.publish(plan.policy), plan.policy, now)
            if plan.base is not None:
                self._base_profiles = len(self.profiles)
        except (OSError, ValueError) as error:
            self.in_force = replace(self.in_force, error=str(error), failed_at=now)
            raise

    def read_base(
        self, reader: StoreReader, world: World, numbers: Numbers, now: int, *, may_number: bool = False
    ) -> Base:
        """All records, for a new base."""
        return read_base(self._publisher.new_base(), reader, world, numbers, now, may_number=may_number)

    def renew(self) -> None:
        """Make the next `prepare` write every file again, after a worker failed to read one."""
        self._renewing = True

    @property
    def is_pending(self) -> bool:
        """True while the store has changes that are not in force."""
        return bool(self._pending) or self._policy_dirty or self._new_base or self._everything or self._renewing

    @contextmanager
    def group(self, changes: Iterable[Change | BulkChange]) -> Iterator[None]:
        """Apply the changes of one group to memory, and undo them if the block raises."""
        pending, everything, profiles = dict(self._pending), self._everything, self.profiles
        lengths = len(profiles.rate_limiting), len(profiles.size_limiting)
        self.note(changes)
        try:
            yield
        except BaseException:
            self._pending, self._everything = pending, everything
            if lengths != (len(profiles.rate_limiting), len(profiles.size_limiting)):
                profiles.cut(*lengths)  # each profile has counters, also an unused one
            self._prepared = None
            self._publisher.take_back()
            raise

    @property
    def wants_base(self) -> bool:
        """True if a new base would make lookups faster or free memory."""
        if self._since_read is not None:
            return False
        many = self._publisher.delta_records() > max(MERGE_AT_LEAST, self._base_records // 4)
        return many or len(self.profiles) > self._base_profiles + UNUSED_PROFILES

    def start_base(self) -> None:
        """Begin to collect changes for the delta of the base that another thread now reads."""
        self._since_read = dict(self._pending)
        self._everything_since_read = False

    def drop_base(self) -> None:
        """Stop collecting: the base could not be read."""
        self._since_read = None

    def install_base(self, base: Base, reader: StoreReader, now: float) -> Fresh:
        """Write the base, and prepare the changes since it was read. `send` puts both in force."""
        self._write(base)
        self._pending = {**(self._since_read or {}), **self._pending}
        self._since_read = None
        self._everything |= self._everything_since_read
        self.numbers.take(base.fresh, fresh=True)
        fresh = self.prepare(reader, int(now))
        self._base_profiles = len(self.profiles)
        return fresh

    def _write(self, base: Base) -> None:
        """Write the base. Records now reference the base's profiles."""
        records = len(base.records)
        self._publisher.write_base(base.records)
        self._new_base = True
        self._base_records = records
        self.profiles = base.profiles
        self._policy_dirty = True

    def labels(self) -> MetricLabels:
        """The names of routes, tiers, models and their upstreams, and the addresses of upstreams; the names of consumers are in the
        store."""
        world, known, routes, calls = self.world, self.row_numbers.calls.known, {}, {}
        for n, route in list(world.routes.values()):
            service = world.services.get(route.service.id) if route.service else None
            routes[n] = (route.name or route.id, (service.entity.name or service.entity.id) if service else "")
        for _, model in list(world.models.values()):
            for upstream in model.spec.upstreams:
                number = known.get((CALLS, calls_key(model, upstream)))
                if number is not None:
                    calls[number] = (model.name, *upstream_labels(model, upstream))
        # Services without an outage have no sample: thousands of them would make the page too large to be read.
        down = {str(row["upstream"]) for row in self._publisher.outages(list(upstreams.by_services(world)))}
        tiers = {n: tier.name for n, tier in list(world.tiers.values())}
        models = {n: model.name for n, model in list(world.models.values())}
        return MetricLabels(routes, tiers, models, calls, {}, set(upstreams.by_models(world)) | down)

    def _note_policy_entity(self, kind: str, after: Row | None, key: str) -> None:
        self._policy_dirty = True
        # A new dict, because other threads read the old one.
        entities: dict[str, Numbered[Any]] = dict(getattr(self.world, kind))
        entities.pop(key, None)
        if after is not None:
            entities[key] = Numbered(after.n, _IN_POLICY[kind].model_validate(after.body))
        setattr(self.world, kind, entities)

    def _note_plugin(self, change: Change) -> None:
        for row in (change.before, change.after):
            if row is not None and row.body["consumer"]:
                self._touch("consumers", row.body["consumer"]["id"], 0)
            elif row is not None:
                self._policy_dirty = True
        plugins = dict(self.world.plugins)
        if change.before is not None:
            plugins.pop(change.before.id, None)
        if change.after is not None and not change.after.body["consumer"]:
            plugins[change.after.id] = Plugin.model_validate(change.after.body)
        self.world.plugins = plugins
        self._anonymous = self.world.anonymous_texts()

    def _note_record(self, change: Change, row: Row) -> None:
        self._touch(change.kind, row.id, row.n)
        self._highest(change.kind, row.n)
        if change.kind == "consumers":
            names = {t for r in (change.before, change.after) if r for t in (r.id, r.body["username"])}
            self._policy_dirty |= bool(names & self._anonymous)

    def _note_bulk(self, change: BulkChange) -> None:
        self._everything = self._everything_since_read = True
        self._highest(change.kind, change.highest)
        self._policy_dirty |= bool(self._anonymous)

    def _highest(self, kind: str, n: int) -> None:
        rows: Rows = "consumers" if kind == "consumers" else "credentials"
        self._rows[rows] = max(self._rows[rows], n)

    def _touch(self, kind: str, key: str, n: int) -> None:
        for noted in (self._pending, self._since_read):
            if noted is not None:
                noted[kind, key] = max(n, noted.get((kind, key), 0))

    def _record(self, reader: StoreReader, row: Row) -> ConsumerRecord:
        head = (row.n, row.id, row.body["username"], row.body["custom_id"], row.tier)
        own, groups = reader.consumer_plugins(row.id), reader.groups(row.id)
        return consumer_record(head, groups, own, self.world, self.profiles, self.numbers)

    def _compile(self, reader: StoreReader, now: int, profiles: Profiles) -> bytes | None:
        named = {}
        for text in self._anonymous:
            row = reader.get("consumers", "id", text, now) or reader.get("consumers", "username", text, now)
            if row is not None:
                named[text] = row.n
        self.world.named = named
        self.world.end_marks()
        self.world.default_tier, self.world.v1 = reader.default_tier(), reader.v1()
        compiled = compile_policy(self.world, profiles, self.numbers, self.row_numbers)
        policy, self._columns = orjson.dumps(compiled.policy), compiled.columns
        self._policy_dirty = self._renewing or policy != self._policy
        if not self._policy_dirty:
            return None
        try:
            self._publisher.stage(policy)
        except PublishError as error:
            raise self._unservable(error) from None
        return policy

    def _unservable(self, error: PublishError) -> Unservable:
        """The error of a policy that no worker could load, with the name of the faulty entity."""
        for collection in (f"{error.kind}s",) if error.kind is not None else ():
            for key, (n, entity) in getattr(self.world, collection, dict[str, Numbered[Any]]()).items():
                if n == error.n:
                    name = getattr(entity, "name", None) or key
                    return Unservable(f"{NOT_LOADABLE}: {error.kind} '{name}': {error.reason}", collection, key)
        return Unservable(f"{NOT_LOADABLE}: {error}")

    def _published(self, generation: int, policy: bytes | None, now: float) -> None:
        if policy is not None:
            self._policy = policy
            self._policy_profiles = len(self.profiles)
        self._new_base = self._policy_dirty = self._everything = self._renewing = False
        self._pending.clear()
        self.numbers.fresh.clear()
        self.row_numbers.keep()
        self._marked = self.world.marked
        self._prepared = None
        self.in_force = InForce(hashlib.sha256(self._policy).hexdigest(), generation, now)

    def _ensure_columns(self) -> None:
        for column in self._columns:
            if column.rows is None:
                continue
            highest = self._rows[column.rows]
            rows = 1 if column.rows == "one" else max(1024, 1 << (highest + 1).bit_length())
            if self._ensured.get(column.n, 0) < (1 if column.rows == "one" else highest + 1):
                self._publisher.ensure_column(column.n, column.words, rows, column.key)
                self._ensured[column.n] = rows


def read_base(
    records: KeyBase, reader: StoreReader, world: World, numbers: Numbers, now: int, *, may_number: bool = False
) -> Base:
    """All records into the empty base `records`, with new profiles. Slow for many consumers; it shares no data with the writer,
    so another thread may run it. Raises KeyError if an entity or a column was added during the read; then the caller tries
    again later. With `may_number` it assigns numbers to new columns in `numbers`, which must be a copy."""
    profiles = Profiles()
    own: dict[str, list[JsonDict]] = {}
    for body in reader.consumer_plugins():
        own.setdefault(body["consumer"]["id"], []).append(body)
    groups = reader.all_groups()
    tiers, special = {key: tier.n for key, tier in world.tiers.items()}, own.keys() | groups.keys()
    for rows in reader.consumers():
        records.consumers(
            [
                ConsumerRecord(
                    *row[:4], [], tiers[row[4]] if row[4] else 0, []
                )  # as `consumer_record` makes nearly all
                if row[1] not in special
                else consumer_record(row, groups.get(row[1], []), own.get(row[1], ()), world, profiles, numbers)
                for row in rows
            ]
        )
    if numbers.fresh and not may_number:
        raise KeyError("a counter column was added while the base was read")
    for credentials in reader.credentials(now):
        records.credentials(credentials)
    return Base(records, profiles, numbers.fresh)
