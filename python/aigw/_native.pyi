"""The native half of aigw: what the Rust extension offers, kept flat and checked against it by stubtest."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, final

__version__: str

class PublishError(ValueError):
    """A policy or a record that no worker could load."""

    kind: str | None
    """The kind of the faulty entity: service, route, tier, model, consumer, credential, column; None if no entity is at fault."""
    n: int | None
    """The entity's number."""
    reason: str
    """The fault, without the entity."""

def wrong_text(kind: Literal["path", "host", "header", "address path"], text: str) -> str | None:
    """Why workers would refuse a policy with this text in this place, or None: the path, host or header value of a route, or
    the path of an address that is called."""

def denials() -> list[dict[str, object]]:
    """Every reason to refuse: code, status, message, why, extra (headers), retry, as `src/refusal/reason.rs` has them."""

def metrics_table() -> list[dict[str, object]]:
    """Every metric: name, kind, help, labels, as `src/telemetry` has them."""

def load_yaml(text: bytes) -> YamlDocument:
    """Parse one YAML 1.2 document, with the place of each of its parts. The GIL is released.

    Scalars are those of the core schema (``no`` and ``12:30`` are text, and so are ``0123`` and ``.inf``). Time and memory
    are bounded for any bytes: 64 MiB, 64 levels, 4,000,000 keys and values, 1,000,000 behind aliases. Raises
    ValueError(message, line, column, length, offset) where nothing more could be understood; lines and columns count from
    1, columns and lengths in characters, the offset in bytes. What was understood and is not allowed is in ``YamlDocument.problems``.
    """

@final
class YamlDocument:
    """A parsed file. Paths are tuples of keys and list positions (from 0) below the root; aliases are followed."""

    @property
    def problems(self) -> list[tuple[str, tuple[int, int, int], tuple[str | int, ...]]]:
        """(message, (line, column, length), path): keys that stand twice or are not text, tags, numbers beyond 64 bits. The path
        is that of the key, or of the value; of a key that is not text, that of its mapping."""
    def value(self, path: tuple[str | int, ...] | None = None, without: set[int] | None = None) -> object:
        """The whole, or what stands at a path, as dict, list, str, int, float, bool and None, made anew; without keys that are
        problems. None stands for the items of the list ``consumers`` at the positions ``without``. KeyError as ``mark``."""
    def plain_consumers(self) -> list[tuple[int, int, str, str | None, str | None, str | None, int]]:
        """(position, line, username, tier, key, key_hash, line of the key) of those items of the list ``consumers`` that have
        these fields alone, one key or key_hash, and would be found right; a key that holds ``${`` may be any text."""
    def mark(self, path: tuple[str | int, ...]) -> tuple[int, int, int]:
        """(line, column, length) of the value; the length ends with its line. KeyError for a path that is not there."""
    def key_mark(self, path: tuple[str | int, ...]) -> tuple[int, int, int]:
        """The same of the key that the value belongs to. KeyError for an item of a list, too."""
    def text(self, path: tuple[str | int, ...]) -> str:
        """A string as it is; other scalars as they are written. KeyError for a path that is not there."""
    def written(self, path: tuple[str | int, ...]) -> str:
        """The file's own characters of a value, quotes included. KeyError for a path that is not there."""
    def lines(self, path: tuple[str | int, ...]) -> list[int]:
        """The lines of a list's items, or of a mapping's keys; none for a scalar. KeyError as ``mark``."""
    def containing(self, needle: str) -> list[tuple[str | int, ...]]:
        """Paths of all strings that hold ``needle``, in the order of the file."""
    def excerpt(
        self, line: int, column: int, width: int
    ) -> tuple[str, int, bool, list[tuple[int, int, tuple[str | int, ...] | None, bool]]]:
        """A stretch of at most ``width`` bytes of a line around a column: (text, characters left out before it, whether
        some were after it, scalars in it). Scalars: (from, to, path, is key), offsets in characters; path None for
        what is no part of ``value``, but for its keys."""

@final
class Leans:
    """Plain consumers of a file, with their keys, as the store is to hold them. A kind is ``consumers`` or
    ``keyauth_credentials``. ValueError for what no `Plain` can be, IndexError beyond the end."""

    def __new__(
        cls,
        file: str,
        now: int,
        plain: Sequence[tuple[int, int, str, str | None, str | None, str | None, int, str | None]],
        digests: list[bytes],
        tiers: dict[str, str],
    ) -> Leans:
        """``plain``: those of ``YamlDocument.plain_consumers`` with the reference that the key is written as; ``digests``: the
        HMAC of each one's key; ``tiers``: ids by name; ``now``: unix seconds, when they are made."""
    def __len__(self) -> int: ...
    def __getitem__(
        self, index: int, /
    ) -> tuple[str, str, str | None, int, str, str, bytes, str, int, str, str | None]:
        """(id, username, tier's id, line, content hash, key's id, HMAC, hint, key's line, content hash of the key, written)."""
    def records(
        self, kind: str, start: int, stop: int, highest: int, known: dict[str, int]
    ) -> tuple[list[tuple[int, str, str, str | bytes | None, str, str]], int]:
        """New records of some of them, and the highest number now: consumers as (n, id, username, tier's id, body, origin), keys as
        (n, id, consumer's id, HMAC, body, origin). A number is the one in ``known``, or the next above ``highest``."""
    def rewritten(self, kind: str, found: Sequence[tuple[int, int, int]]) -> list[tuple[str | int | None, ...]]:
        """Records that take the place of others, of (index, n, unix seconds when it was made): consumers as
        (tier's id, body, origin, n), keys as (body, origin, n)."""
    def sift(self, kind: str, stored: dict[str, str]) -> tuple[list[int], dict[str, int], list[tuple[str, str]]]:
        """Against the column ``origin`` by id: indexes of those that are not there, id and index of those with other content,
        (new origin, id) of those that only moved. All whose content is as it was are taken from ``stored``."""
    def username(self, id: str) -> str | None:
        """The name of a consumer."""
    def holding(self, digests: list[bytes]) -> list[tuple[int, int]]:
        """(position in ``digests``, index) of those whose key has such an HMAC."""
    def twins(self) -> list[tuple[int, int]]:
        """(index, index before it) of two whose keys have the same HMAC."""

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
class Publisher:
    """The control process's hand on the files of one data folder. Nothing is in force before ``publish`` returns.

    Every method raises OSError (with errno) for the disk and ValueError for wrong input, PublishError where a policy or an
    entity cannot be loaded; a failed call leaves in force
    what was and can be repeated. File work runs without the GIL; calls from several threads are taken one at a time.
    """

    def __new__(cls, data_dir: str, store_id: str) -> Publisher:
        """Open the data folder, making what is missing. ``store_id`` is the UUID of the store: a ``cells`` folder of
        another store is set aside as ``cells.old-<time>``."""

    def hash_key(self, key: bytes) -> bytes:
        """HMAC-SHA-256 of a key under ``DATA/secret`` (made on first use, 0600)."""

    def seal(self, secret: bytes) -> str:
        """A text that workers alone can read again (ChaCha20-Poly1305 under a key derived from ``DATA/secret``)."""

    def read_buckets(self, refs: list[tuple[int, int, int, int, int]], now_ns: int) -> list[tuple[int, int]]:
        """(column n, row, requests, seconds, burst) -> (used, unix nanoseconds when it is full again) at that rate."""

    def ensure_column(self, n: int, words: int, rows: int, key: str) -> None:
        """Make counter column ``n`` of ``words`` 64-bit words a row, or let it grow to rows ``0 .. rows - 1``.

        ``key`` is its lasting identity. Blocks are allocated before anything maps them: a full disk is OSError ENOSPC.
        """

    def highest_column(self) -> int:
        """The highest number of a limit's column that has a file, whether the store knows it or not; 0 for none."""

    def write_base(
        self,
        consumers: Iterable[
            tuple[int, str, str | None, str | None, Sequence[tuple[int, int, int, int]], int, list[str]]
        ],
        credentials: Iterable[tuple[int, str, int, bytes, int]],
    ) -> None:
        """Write all consumers and credentials as a new base with an empty delta; not in force until ``publish``.

        Consumers: (n, id, username, custom_id, [(route n or 0, service n or 0, kind, profile index)], tier n or 0,
        groups), kind 0 for rate_limiting and 1 for size_limiting. Credentials:
        (n, id, consumer n, 32 bytes of ``hash_key``, expiry in unix seconds or 0). ValueError for a number or hash
        that appears twice, or a credential without its consumer.
        """

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
        """Forget what the last ``append`` added and no ``publish`` has put in force."""

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
        """Records on top of the base, to decide on writing a new one; more than any limit when none can be added any more."""

    def read_cells(self, refs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """(column n, row) -> (count, of it held by permits in flight, window end in unix seconds); (0, 0, 0) when
        never touched."""

    def reclaim(self) -> list[tuple[int, int]]:
        """Free the slots whose owners died: [(slot, permits found open)]."""

    def metrics(
        self, routes: dict[int, tuple[str, str]], series: dict[int, tuple[str, str]], tiers: dict[int, str]
    ) -> str:
        """The Prometheus page of the request path. `routes`: route n -> (route, service); `series`: row -> (tier, model);
        `tiers`: n -> name."""

    def families(
        self, routes: dict[int, tuple[str, str]], series: dict[int, tuple[str, str]], tiers: dict[int, str]
    ) -> list[tuple[str, str, str, list[tuple[str, list[tuple[str, str]], float]]]]:
        """The metrics of that page as values: (name, kind, help, samples), samples (name, [(label, text)], value)."""

    def load_failures(self) -> int:
        """Configurations that a worker could not load, since the data folder was made."""

    def total_requests(self, routes: list[int]) -> int:
        """Requests answered, on these routes and on none, since the data folder was made."""

    def slots(self) -> list[dict[str, object]]:
        """Slots in use: slot, pid, state ("starting", "ready", "draining"), generation seen, in_flight, inline."""

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
        body_timeout_s: float = 60.0,
        tls: bool = False,
    ) -> Gateway:
        """Take a slot of ``data_dir``. ``access_log``: ``"-"`` (stdout), ``"off"`` or a path that is appended to."""
    def start(self, event_loop: object) -> None:
        """Start the worker's threads; ``event_loop`` is the loop the server runs on. Once (else RuntimeError)."""
    def ready(self, inline: bool) -> None:
        """Tell that this worker serves: its slot says ready from now on."""
    def begin_drain(self) -> None:
        """Stop keeping connections: every answer from now on closes its connection."""
    def in_flight(self) -> int:
        """Requests in flight: being read, forwarded or streamed."""
    def cut(self) -> int:
        """Cut what is still in flight and settle it; returns how many there were. They are gone shortly after."""
    def close(self) -> None:
        """Flush the access log and give the slot back. The last call."""
    def access_log_error(self) -> str | None:
        """Why lines of the access log cannot be written, while they cannot."""
    def refresh(self) -> bool:
        """Load what the control process published last; True when a configuration is in force."""
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
        """The server's future of a body is done: go on."""
    def get_loop(self) -> object:
        """The loop a stock task must run on."""
    def add_done_callback(self, callback: Callable[[object], object], *, context: object | None = None) -> None:
        """Called once, when the exchange is over."""
    def result(self) -> None:
        """None: the answer went out through the server."""
    def cancel(self, msg: object | None = None) -> bool:
        """False: an exchange ends by its answer, by its deadline or by its client."""

@final
class InlineSubmit:
    """Stands in for a loop's ``call_soon_threadsafe``: steps our requests on the calling thread, passes the rest on."""

    def __new__(cls, original: Callable[..., object]) -> InlineSubmit:
        """``original``: the loop's own bound method."""
    @property
    def counts(self) -> tuple[int, int]:
        """How often a step ran inline, and how often a call went to the loop: (inlined, passed_on)."""
    def __call__(self, callback: Callable[..., object], *args: object, context: object | None = None) -> object:
        """As the loop's method."""
