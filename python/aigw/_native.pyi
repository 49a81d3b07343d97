"""The Rust extension of aigw. It is one flat module; stubtest compares this stub with it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, final

from aigw.types import MetricLabels

__version__: str

class PublishError(ValueError):
    """A policy or a record that no worker could load."""

    kind: str | None
    """The kind of the faulty entity: service, route, tier, model, consumer, credential, column; None if no entity is at fault."""
    n: int | None
    """The entity's number."""
    reason: str
    """The fault, without the entity."""

def check_string(kind: Literal["path", "host", "header", "address path"], text: str) -> str | None:
    """Why workers would refuse a policy with this text in this place, or None: the path, host or header value of a route, or
    the path of an address that is called."""

def private_key_kind(pem: str) -> Literal["rsa", "ecdsa", "ed25519"]:
    """The kind of the first private key in a PEM text. ValueError with the reason for a text without a key that workers can use."""

def unusable_certificate(chain: bytes, key: bytes | None = None) -> str | None:
    """Why workers cannot show this chain (PEM, the owner's certificate first), or None; with ``key`` (PEM): why they cannot use both
    together. They call the same function when they serve. The text is the end of a sentence with the repair, and has no byte of the key."""

def unusable_authorities(pem: bytes) -> str | None:
    """Why workers cannot check upstreams by all certificates of this text, or None."""

def forbidden_address(address: str, allowed: str = "") -> str | None:
    """Why no upstream may have this IP address ("link-local", "metadata service", "multicast"), or None. ``allowed``: networks, with
    commas, that upstreams may be in nevertheless. ValueError for a text that is no address or no network."""

def denials() -> list[dict[str, object]]:
    """Every reason to refuse: code, status, message, why, extra (headers), retry, as `src/refusal/reason.rs` has them."""

def limit_kinds() -> dict[str, int]:
    """Every limit kind: name -> 64-bit words of a row in its counter columns."""

def wrong_limit(kind: str, fields: bytes, open: bool) -> str | None:
    """Why workers would refuse a limit of this kind with these fields (a JSON object), or None. ``open``: it has a counter
    for each address."""

def service_tiers() -> list[tuple[str, int]]:
    """Every service tier that an answer may name: (name, its number in ledgers)."""

def count_tokens(
    tokenizer: str | bytes, kind: str, text: bytes, template: tuple[int, int], input_bounds: tuple[int, int, int]
) -> tuple[int, int]:
    """Tokens of a text, and the bound by its bytes, as workers count them. ``tokenizer``: the name of an embedded vocabulary, or
    the content of a tokenizer.json. ``kind``: chat, completion or embedding for the JSON
    of a request, text for any other. ``template``: tokens added to each message and request. ``input_bounds``: of an image, a piece
    of audio, a file. The GIL is released. ValueError for an unknown tokenizer, for a file that cannot count, and for bytes that
    are not UTF-8."""

def check_tokenizer(json: bytes) -> int:
    """The most tokens that one byte of text becomes by a tokenizer.json. ValueError with the end of a sentence about the file, as in
    "is no tokenizer.json: ...", for one that workers could not count by. The GIL is released; a large file takes seconds."""

def access_log_fields() -> list[tuple[str, str, bool]]:
    """Every field of a line of the access log, in order: name, meaning, and whether a line without a value leaves it out (else it is null)."""

def metrics_table() -> list[dict[str, object]]:
    """Every metric: name, kind, help, labels, as `src/telemetry` has them."""

def give_back_memory() -> None:
    """Give freed memory back to the system: that of this thread and of the C library. Allocators keep it otherwise. Takes milliseconds."""

def load_yaml(text: bytes, most: int = ...) -> YamlDocument:
    """Parse one YAML 1.2 document, with the position of each of its parts. The GIL is released.

    Scalars are those of the core schema (``no`` and ``12:30`` are text, and so are ``0123`` and ``.inf``). Time and memory
    are bounded for any bytes: ``most`` bytes (2 GiB if not given, and at most), 62,500 keys and values for each MiB of ``most``, 64
    levels, 1,000,000 keys and values behind aliases. Raises
    ValueError(message, line, column, length, offset) at the first syntax error; lines and columns count from
    1, columns and lengths in characters, the offset in bytes. ``YamlDocument.problems`` has the parts that parse and are not allowed.
    """

def load_yaml_without(text: bytes, most: int, name: str, section: tuple[int, int, int]) -> YamlDocument | None:
    """Parse a file around a section: a top key ``name`` with everything below it, as ``YamlDocument.section`` gave it for the same
    bytes in this or another file. ``section``: its first byte here, the byte after its last, and its keys and values. In the
    document the key has no value, and everything else has its position in the whole file. None where the whole file might
    parse otherwise: parse that. The GIL is released."""

@final
class YamlDocument:
    """A parsed file. Paths are tuples of keys and list positions (from 0) below the root; aliases are followed."""

    @property
    def problems(self) -> list[tuple[str, tuple[int, int, int], tuple[str | int, ...]]]:
        """(message, (line, column, length), path): repeated keys, keys that are not text, tags, numbers beyond 64 bits. The path
        leads to the key or value; for a key that is not text, to its mapping."""
    def value(self, path: tuple[str | int, ...] | None = None, without: FileConsumers | None = None) -> object:
        """A new copy of the whole, or of the value at a path, as dict, list, str, int, float, bool and None, without keys that are
        problems. None stands for the items of the list ``consumers`` that ``without`` has and that have no plugins. KeyError as ``mark``."""
    def consumers(self, references: Sequence[tuple[tuple[str | int, ...], str, bool, str | None]]) -> FileConsumers:
        """The items of the list ``consumers``. ``references``: (path, resolved value, whether the text is exactly one reference, that
        reference if it may be shown) of each text with references below that list."""
    def section(self, name: str) -> tuple[int, int, int] | None:
        """(first byte, byte after the last, keys and values) of a top key with everything below it, if ``load_yaml_without`` can leave
        it out: it has no anchors, aliases and tags, and the file no problems and directives."""
    def mark(self, path: tuple[str | int, ...]) -> tuple[int, int, int]:
        """(line, column, length) of the value; the length ends with its first line. KeyError for a missing path."""
    def key_mark(self, path: tuple[str | int, ...]) -> tuple[int, int, int]:
        """(line, column, length) of the value's key. KeyError as ``mark``, and for an item of a list."""
    def text(self, path: tuple[str | int, ...]) -> str:
        """The value of a string; the source text of another scalar. KeyError for a missing path."""
    def source_text(self, path: tuple[str | int, ...]) -> str:
        """The source text of a value, quotes included. KeyError for a missing path."""
    def lines(self, path: tuple[str | int, ...]) -> list[int]:
        """The lines of a list's items, or of a mapping's keys; empty for a scalar. KeyError as ``mark``."""
    def containing(self, needle: str) -> list[tuple[str | int, ...]]:
        """Paths of all strings that hold ``needle``, in the order of the file."""
    def excerpt(
        self, line: int, column: int, width: int
    ) -> tuple[str, int, bool, list[tuple[int, int, tuple[str | int, ...] | None, bool]]]:
        """A stretch of at most ``width`` bytes of a line around a column: (text, characters left out before it, whether
        some were after it, scalars in it). Scalars: (from, to, path, is key), offsets in characters; path None for
        a text that is not in ``value``."""

@final
class FileConsumers:
    """Consumers of a file with their credentials and acls. A kind is ``consumers``, ``keyauth_credentials`` or ``acls``;
    ValueError for another. An index is one of the list ``consumers`` in the file."""

    @property
    def invalid(self) -> list[int]:
        """Indexes of the items that break a rule; all other properties leave them out."""
    @property
    def usernames(self) -> list[str]:
        """Usernames, also of items that break a rule."""
    @property
    def tiers(self) -> list[str]:
        """Names of the tiers that consumers refer to, each once."""
    @property
    def with_plugins(self) -> list[tuple[int, str | None]]:
        """(index, username) of each consumer with plugins."""
    def count(self, kind: str) -> int:
        """The number of entities of a kind."""
    def name(self, index: int) -> str | None:
        """The username of a consumer, or else its custom_id; None for an item that breaks a rule."""
    def referring_to(self, tier: int) -> list[tuple[int, bool]]:
        """(index, whether the name stands in ``groups``) of the consumers that refer to ``tiers[tier]``."""
    def repeats(self, most: int) -> list[tuple[str, tuple[int, int], tuple[int, int]]]:
        """Values that occur twice: (field, (index, index of the credential or acl), the same of the first occurrence)."""
    def short_keys(self, below: int, most: int) -> list[tuple[int, int, int]]:
        """(index, index of the credential, number of characters) of the keys with fewer than ``below`` characters, at most ``most``."""
    def paths(self, kind: str, lines: set[int]) -> dict[int, tuple[str | int, ...]]:
        """Line -> path of the first entity of a kind that begins there, for these lines."""
    def keys(self, start: int = 0, stop: int = ...) -> list[str | bytes]:
        """The key of each credential, or its HMAC where the file has that, of the consumers ``start`` to before ``stop``,
        counted from 0 without items that break a rule."""
    def digest(self) -> bytes:
        """32 bytes that differ for files whose consumers differ, lines included. They tell of keys: keep only an HMAC of them."""

@final
class FileConsumerRows:
    """Consumers, credentials and acls of a file as rows of the store. A kind is one of their tables; ValueError for another.
    Rows are named by index, in the order of the file; IndexError beyond the end."""

    def __new__(
        cls,
        consumers: FileConsumers,
        file: str,
        now: int,
        tiers: Sequence[str],
        shapes: tuple[Sequence[tuple[str, str]], Sequence[tuple[str, str]], Sequence[tuple[str, str]]],
        keys: Iterable[tuple[bytes, str]],
        since: Callable[[list[str]], Mapping[str, int]],
        shift: int,
    ) -> FileConsumerRows:
        """``now``: unix seconds, when new rows are made. ``tiers``: ids of ``consumers.tiers``. ``shapes``: (field, JSON of its default)
        of the stored JSON of each kind. ``keys``: HMAC and hint of each credential. ``since``: ids of credentials with a time to
        live -> unix seconds when the file first declared them. ``shift``: lines that they stand further
        down than their origins say. ValueError when a length does not fit ``consumers``."""
    def count(self, kind: str) -> int:
        """The number of rows."""
    def row(self, kind: str, index: int) -> tuple[str, str, bytes, int, str | None, int, str, str | None]:
        """(id, body, HMAC, expires_at, tier's id, line less ``shift``, content hash, reference that the key is written as)."""
    def records(
        self, kind: str, start: int, stop: int, highest: int, known: dict[str, int]
    ) -> tuple[list[tuple[str | bytes | int | None, ...]], int]:
        """New records of some rows, and the highest number now: consumers as (n, id, username, custom_id, tier's id, body, origin),
        credentials as (n, id, consumer's id, HMAC, expires_at, body, origin), acls as (id, consumer's id, group, body, origin).
        A number is the one in ``known``, or the next above ``highest``."""
    def updates(self, kind: str, found: Sequence[tuple[int, int, int]]) -> list[tuple[str | int | None, ...]]:
        """Values that replace those of a stored row, for each (index, n, unix seconds when it was made): consumers as
        (tier's id, body, origin, n), credentials as (expires_at, body, origin, n). ValueError for acls."""
    def updatable(
        self, kind: str, changed: Sequence[int], stored: Sequence[tuple[str, int, int, str | None]]
    ) -> list[tuple[int, int, int]]:
        """(n, index, created_at) of those of the ``stored`` rows (id, n, created_at, custom_id) that are among the ``changed``,
        have no tags and keep their custom_id."""
    def tags(self, kind: str, start: int, stop: int) -> list[tuple[str, str, str]]:
        """(kind, id, tag) of each label of some rows."""
    def compare(
        self, kind: str, stored: Iterable[tuple[str, str]]
    ) -> tuple[list[int], list[int], list[tuple[str, str]], list[str]]:
        """The rows against the stored ones (id, column ``origin``), which are not kept: indexes of the absent and of the changed, (origin, id)
        of the unchanged ones that stand in another line, ids of the stored rows that left the file, in the order of ``stored``."""
    def name(self, id: str) -> str | None:
        """The username of a consumer, or else its custom_id."""
    def same_digests(self) -> list[tuple[int, int]]:
        """(index, first index) of credentials with the same HMAC: a key, and that key's HMAC."""

@final
class Period:
    """A period of limits, as workers read it: second, minute, hour, day, month, year, or a duration as in 90s, 15m, 5h, 7d.

    ``str`` gives the text with its unit and without leading zeros.
    """

    WORDS: Final[list[str]]
    """Periods that are words, the shortest first."""
    def __new__(cls, text: str) -> Period:
        """Raises ValueError for another text."""
    @property
    def seconds(self) -> int:
        """The length; of a month 31 days, of a year 366."""
    @property
    def canonical(self) -> str:
        """The word, or the duration in seconds: ``18000s`` for ``5h``."""

@final
class KeyBase:
    """All consumers and credentials, as they are read from the store: consumers first, in parts. It keeps bytes, no objects.
    ``len`` gives the number of records."""

    def __len__(self) -> int: ...
    def consumers(
        self,
        records: Sequence[
            tuple[int, str, str | None, str | None, Sequence[tuple[int, int, int, int]], int, Sequence[str]]
        ],
    ) -> None:
        """Add consumers: (n, id, username, custom_id, [(route n or 0, service n or 0, kind, profile index)], tier n or 0,
        groups), kind 0 for rate_limiting and 1 for size_limiting. ValueError for a wrong one."""
    def credentials(self, records: Sequence[tuple[int, str, str, bytes, int]]) -> None:
        """Add credentials: (n, id, consumer's id, 32 bytes of ``hash_key``, expiry in unix seconds or 0). ValueError for a wrong one,
        KeyError for one without its consumer."""

@final
class Publisher:
    """The control process's hand on the files of one data folder. Nothing is in force before ``publish`` returns.

    Every method raises OSError (with errno) for the disk and ValueError for wrong input, PublishError where a policy or an
    entity cannot be loaded; a failed call changes nothing in force and can be repeated. File work runs without the GIL;
    calls from several threads run one at a time.
    """

    def __new__(cls, data_dir: str, store_id: str) -> Publisher:
        """Open the data folder, and make missing files. ``store_id`` is the UUID of the store: a ``cells`` folder of
        another store is renamed to ``cells.old-<time>``."""

    def hash_key(self, key: bytes) -> bytes:
        """HMAC-SHA-256 of a key under ``DATA/secret`` (made on first use, 0600)."""

    def seal(self, secret: bytes) -> str:
        """The secret as a text that only this gateway can open (ChaCha20-Poly1305 under a key derived from ``DATA/secret``)."""

    def unseal(self, sealed: str) -> bytes:
        """The secret in a text of ``seal``. ValueError for a damaged text, and for one of another data folder."""

    def ensure_column(self, n: int, words: int, rows: int, key: str) -> None:
        """Make counter column ``n`` of ``words`` 64-bit words a row, or let it grow to rows ``0 .. rows - 1``.

        ``key`` is its lasting identity. Blocks are allocated before anything maps them: a full disk is OSError ENOSPC.
        """

    def highest_column(self) -> int:
        """The highest number of a limit's column that has a file, whether the store knows it or not; 0 for none."""

    def adopts_rows(self) -> bool:
        """Whether ``adopt_rows`` comes before the first policy: workers have never numbered rows of metrics in this folder."""

    def adopt_rows(self, series: list[tuple[int, int, int]], calls: list[tuple[int, int, int]]) -> None:
        """Take over the rows of metrics that an earlier version numbered: (tier n, model n, row), and (tier n, upstream's number, row).

        OSError without room on the disk.
        """

    def make_room(self) -> None:
        """Make free rows of metrics for pairs of a tier and a model that are called for the first time. OSError without room on the disk."""

    @staticmethod
    def new_base() -> KeyBase:
        """An empty base, to be filled and written."""

    def write_base(self, base: KeyBase) -> None:
        """Write all consumers and credentials as a new base with an empty delta; not in force until ``publish``. A base is written once, also
        where that fails. ValueError for a number or hash that appears twice."""

    def append(
        self,
        upserts_consumers: Sequence[
            tuple[int, str, str | None, str | None, Sequence[tuple[int, int, int, int]], int, list[str]]
        ],
        upserts_credentials: Sequence[tuple[int, str, int, bytes, int]],
        deleted_consumers: list[int],
        deleted_credentials: list[int],
    ) -> None:
        """Add changes to the delta, deletions first; not in force until ``publish``. Tuples as in ``write_base``."""

    def take_back(self) -> None:
        """Remove the records of the last ``append`` from the delta, unless a ``publish`` has put them in force."""

    def stage(self, policy: bytes) -> None:
        """Compile a policy as workers do and write its file; make the room that the metrics of its routes and tiers need. The
        next ``publish`` of the same policy finds both there.

        PublishError when it is not one that they can load, OSError ENOSPC when the disk is full.
        """

    def publish(self, policy: bytes | None) -> int:
        """Check, write and fsync everything, then store the generation word; returns the generation now in force.

        ``policy`` is the JSON of docs/reference/boundary.md; None keeps the one in force. A request whose headers
        arrive after the return sees the change. PublishError when the policy is not one that workers can load.
        """

    def generation(self) -> int:
        """The generation in force; 0 before the first publish."""

    def delta_records(self) -> int:
        """Records in the delta; larger than any limit if no record can be added, so that the caller writes a new base."""

    def standing(
        self,
        instances: list[tuple[int, str, list[tuple[int, str]]]],
        tier: int,
        consumer: int,
        credentials: list[tuple[int, str]],
        now_ns: int,
    ) -> bytes:
        """Where a consumer stands, as a JSON list with one object for each counter: meter, per, scope, model, credential, service,
        mode, limit, used, reserved, remaining, resets_at, source. ``model`` is the name of the scope model, ``credential`` and
        ``service`` are the ids of theirs; each is null in other scopes.

        ``instances``: (profile index, name of the instance, [(row, id of the consumer, credential or service)]); ``tier``: its n,
        0 for the default one; ``consumer``: its n; ``credentials``: [(n, id)]; ``now_ns``: unix nanoseconds. Limits are those
        of the policy that this process published last; before that the list is empty.
        """

    def reclaim(self) -> list[tuple[int, int]]:
        """Free the slots whose owners died: [(slot, permits found open)]."""

    def ledger(self) -> Ledger:
        """The segments of the ledger in the same folder."""

    def metrics(self, labels: MetricLabels) -> str:
        """The Prometheus page of the request path. Rows without a label are not shown."""

    def families(
        self, labels: MetricLabels
    ) -> list[tuple[str, str, str, list[tuple[str, list[tuple[str, str]], float]]]]:
        """The metrics of that page as values: (name, kind, help, samples), samples (name, [(label, text)], value)."""

    def count_consumers(self, on: bool) -> None:
        """Begin or end counting answers by consumer, in all workers. Counts of before are kept."""

    def counted_consumers(self) -> list[int]:
        """The numbers of the consumers whose answers were counted by consumer: 1,000 at most."""

    def counting_since(self) -> int:
        """Since when all counters of the data folder count, unix nanoseconds."""

    def load_failures(self) -> int:
        """Configurations that a worker could not load, since the data folder was made."""

    def outages(self, upstreams: list[str]) -> list[dict[str, object]]:
        """Those of these upstreams (`host:port`) that a worker finds down: upstream, since_ms (unix), reason, workers."""

    def total_requests(self, routes: list[int]) -> int:
        """Requests answered on these routes, or without a route, since the data folder was made."""

    def begin_clock(self) -> None:
        """The gateway starts: limits below a day count by the wall clock of now, unless it is behind their own."""

    def slots(self) -> list[dict[str, object]]:
        """Slots in use: slot, pid, state ("starting", "ready", "draining", or "silent": it serves, and has not moved for two
        seconds), generation seen, in_flight, inline, silent_ms (since each of its parts moved; 0 while it starts),
        ledger ("well", "failing": not on disk, or no call is admitted: "full", "displaced": its files were removed or moved)."""

@final
class Gateway:
    """The RSGI application of a worker: the whole request path. One per process.

    Raises OSError when the data folder cannot be used, ValueError for bad arguments.
    """

    def __new__(
        cls,
        data_dir: str,
        *,
        access_log: str = "off",
        max_in_flight: int = 8192,
        max_body_bytes: int = 10485760,
        max_body_members: int = 1048576,
        body_memory_bytes: int = 268435456,
        body_memory_part: int = 25,
        body_timeout_s: float = 30.0,
        body_total_s: float = 300.0,
        keep_alive_s: float = 75.0,
        probe_paths: list[str] | None = None,
        upstream_allow: str = "",
    ) -> Gateway:
        """Take a slot of ``data_dir``. ``access_log``: ``"-"`` (stdout), ``"off"`` or a path that is appended to.
        ``body_timeout_s``: longest silence within a body; ``keep_alive_s``: told in ``Keep-Alive``; ``probe_paths``: they
        precede all routes, None: ``/livez`` and ``/readyz`` where no route has them; ``upstream_allow``: networks, with commas, that
        upstreams may be in although they are link-local, multicast or a metadata service's."""
    def start(self, event_loop: object, log: Callable[..., None] | None = None) -> None:
        """Start the worker's threads; ``event_loop`` is the loop the server runs on. ``log(event, **facts)`` is called with events of
        upstreams, from a thread of the worker. Once (else RuntimeError). Raises OSError when the system has no files or no thread for
        them."""
    def behind_tls(self) -> GatewayBehindTls:
        """The application of the private port, on which the server takes the requests of the TLS address."""
    def serve_tls(self, listening: int, private_port: int) -> None:
        """Serve TLS on a duplicate of the listening socket with this number, and carry requests to the server at 127.0.0.1 and
        ``private_port``. The certificates are those of the generation in force at each handshake. Once (else RuntimeError). Raises
        OSError when the system has no files or no thread for it."""
    def serve_pair(self, pem: bytes) -> None:
        """Serve this pair (PEM: chain, then key) to clients whose server name no certificate of the configuration serves. Raises
        ValueError for a pair that cannot be used; the one before stays."""
    def tls_connections(self) -> int:
        """Open connections at the TLS address, without those in their handshake."""
    def watch_idle(self, ports: list[int], idle_s: float) -> None:
        """End connections at these ports whose head is not whole 10 s after its first byte, or that send none for ``idle_s``. Once."""
    def ready(self, inline: bool) -> None:
        """Set the state of this worker's slot to ready."""
    def beat(self, *, server: bool) -> None:
        """Show that the event loop moves; ``server``: so do the server's threads. After ``ready`` at least once in a second."""
    def log_dropped(self, lines: int) -> None:
        """Count lines that the worker's process log has dropped."""
    def begin_drain(self) -> None:
        """Close each connection after its next answer, and accept no more at the TLS address."""
    def in_flight(self) -> int:
        """Requests in flight: being read, forwarded or streamed."""
    def cut(self) -> int:
        """Cut and settle all calls in flight; returns their number. They end shortly after."""
    def close(self) -> None:
        """Flush the access log and give the slot back. The last call."""
    def access_log_error(self) -> str | None:
        """The error that keeps lines out of the access log now; None if they are written."""
    def refresh(self) -> bool:
        """Load the generation in force; True if there is one."""
    def __call__(self, scope: object, proto: object) -> Exchange:
        """The RSGI entry: answer one request through ``proto``."""

@final
class GatewayBehindTls:
    """The RSGI application of the private port: requests come from the clients of the TLS address, others get 421. Made by Gateway only."""

    def __call__(self, scope: object, proto: object) -> Exchange:
        """The RSGI entry: answer one request through ``proto``."""

@final
class Exchange:
    """The awaitable of one request: stepped inline, or as an asyncio future on a stock loop. Made by Gateway only."""

    _asyncio_future_blocking: bool
    def __await__(self) -> Iterator[Exchange]: ...
    def __iter__(self) -> Iterator[Exchange]: ...
    def __next__(self) -> Exchange: ...
    def __call__(self, future: object) -> None:
        """Continue: the server's future of a body is done."""
    def get_loop(self) -> object:
        """The loop a stock task must run on."""
    def add_done_callback(self, callback: Callable[[object], object], *, context: object | None = None) -> None:
        """Called once, when the exchange is over."""
    def result(self) -> None:
        """None: the answer went out through the server."""
    def cancel(self, msg: object | None = None) -> bool:
        """False: an exchange ends by its answer, by its deadline or by its client."""

@final
class Counters:
    """The counters of a data folder, for comparing them with its ledger. The gateway of the folder may run. Methods raise OSError."""

    def __new__(cls, data_dir: str) -> Counters:
        """OSError if no gateway has used the folder."""
    def ledger(self) -> Ledger:
        """The segments of the folder."""
    def read(
        self, now_ns: int
    ) -> tuple[list[tuple[int, str, str, str, int, int, int, bool]], list[tuple[int, int, int, int, int, int]]]:
        """The columns of tiers' limits that count in windows: (number, meter, per, scope, model or 0, start and end of the window of
        ``now_ns`` in unix seconds, whether the limit is in shadow mode). Each counter that is not 0 there:
        (column, row, amount settled and held, most of it held, start and end of its window: a later one where the clock was ahead)."""

@final
class PriceList:
    """The prices of a tier or of a model, as workers reckon with them."""

    def __new__(cls, prices: bytes) -> PriceList:
        """``prices``: JSON as in a policy, nano-dollars per million tokens. ValueError for others."""
    @property
    def version(self) -> int:
        """The number that entries have: equal prices have equal numbers. At most 2**63 - 1."""
    def bound(self, input: int, output: int) -> int:
        """Nano-dollars that a call reserves for so many tokens of input and output: the dearest that they can be."""
    def worth(self, entries: Sequence[Sequence[int]]) -> list[int]:
        """Nano-dollars of each entry, as the worker that wrote it reckons: (flags, outcome, source, input, cached_input, cache_write,
        output, reasoning, image_input, audio_input, image_output, audio_output, service_tier), as ``aigw.ledger.source`` has them."""

@final
class Entries:
    """Entries of segments: tuples, which are made when they are asked for."""

    def __new__(cls, entries: list[tuple[Any, ...]]) -> Entries:
        """``entries``: the fields of ``aigw.ledger.source.ENTRY``. Raises ValueError for a tuple of another length, TypeError and
        OverflowError for values that no entry has."""
    def __len__(self) -> int:
        """Entries."""
    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The fields of each."""

@final
class EventRows:
    """Entries as rows of the ledger's tables, with their sums. Amounts are at most 2**48 - 1."""

    def __new__(
        cls,
        entries: list[tuple[int, Entries]],
        first: int,
        version_of: Callable[[int], int],
        cost_of: Callable[[int, int, int], int | None],
    ) -> EventRows:
        """``entries``: (number of the cursor, entries of ``Ledger.read``). ``first``: the number of the first event. ``version_of``: the
        number of a version of prices, asked once for each. ``cost_of``: nano-dollars of (version, input tokens, output tokens) for calls
        whose worker died, None where nobody knows. Raises what these raise."""
    def __len__(self) -> int:
        """Entries."""
    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Rows of ``events``, in the order of its columns in use."""
    @property
    def used(self) -> tuple[bool, ...]:
        """For each column of ``events``, whether the rows have it. The others are 0 in all of them, or NULL."""
    def met(self, place: int) -> set[int]:
        """Numbers of the entities of ``aigw.ledger.names.ENTITIES[place]``."""
    def rollup(self, seconds: int) -> list[tuple[int, ...]]:
        """Rows of the rollup by so many seconds: (start in unix seconds, numbers of its keys, sums)."""
    def totals(self) -> list[tuple[int, ...]]:
        """Rows of ``totals_minute``."""
    def blocks(self) -> list[tuple[int, int, int]]:
        """(block, earliest, latest admission in unix nanoseconds)."""
    def unpriced(self) -> dict[tuple[int, int], int]:
        """(tier, model) -> calls of a model without a cost."""

@final
class Ledger:
    """The segments of the ledger, as ``aigw.ledger.source.Source`` describes them. Made by ``Publisher.ledger``. Methods raise OSError."""

    def segments(self) -> list[tuple[int, int, int, bool, int, int | None]]:
        """(life, slot, number, live, synced, end) of every segment with records or about to have some."""
    def read(
        self, life: int, slot: int, number: int, start: int, most: int
    ) -> tuple[
        Entries,
        list[tuple[int, int, int, int, int, int]],
        list[tuple[str, int, int, int, int]],
        int,
        str | None,
    ]:
        """Up to ``most`` records from ``start``: (entries, refusals, doubts, next record, damage). Integers above 2**63 - 1 are 2**63 - 1."""
    def remove(self, life: int, slot: int, number: int) -> bool:
        """Remove a segment; False while its owner, or a permit that its owner left, may need it."""
    def status(self) -> tuple[int, int, str | None]:
        """(records that a loss of power would take, segment files, the fault of a writer with its repair)."""

@final
class InlineSubmit:
    """Replaces a loop's ``call_soon_threadsafe``: steps our requests on the calling thread, and passes other calls on."""

    def __new__(cls, original: Callable[..., object]) -> InlineSubmit:
        """``original``: the loop's own bound method."""
    @property
    def counts(self) -> tuple[int, int]:
        """(steps that ran inline, calls passed on to the loop)."""
    def moves(self) -> bool:
        """Whether no call is at work, or one has ended since the last time this was asked."""
    def __call__(self, callback: Callable[..., object], *args: object, context: object | None = None) -> object:
        """As the loop's method."""
