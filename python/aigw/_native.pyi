"""The native half of aigw: what the Rust extension offers, kept flat and checked against it by stubtest."""

from collections.abc import Callable, Iterable
from typing import final

__version__: str

def serve_mock_llm(
    address: str,
    ready: Callable[[int], object],
    *,
    first_byte_ms: int = 0,
    chunk_ms: int = 0,
    chunks: int = 16,
    usage: bool = True,
    fail: str | None = None,
) -> None:
    """Serve an OpenAI-like model server on ``address`` (``IP:PORT``, port 0 for any) until a signal handler raises.

    ``ready`` is called once with the bound port. ``fail`` is ``refuse|hang|reset|garbage`` with an optional ``:ratio``.
    Counters of what was really done are served at ``GET /__stats``. Call it on the main thread: it releases the GIL
    and runs Python's signal handlers ten times a second. Raises OSError (cannot bind) and ValueError (bad argument).
    """

def serve_echo(address: str, ready: Callable[[int], object]) -> None:
    """Serve what arrives back in httpbin's JSON form (get, post, headers, status, bytes, delay); else as serve_mock_llm."""

@final
class Publisher:
    """The control process's hand on the files of one data folder. Nothing is in force before ``publish`` returns.

    Every method raises OSError (with errno) for the disk and ValueError for wrong input; a failed call leaves in force
    what was and can be repeated. File work runs without the GIL; calls from several threads are taken one at a time.
    """

    def __new__(cls, data_dir: str, store_id: str) -> Publisher:
        """Open the data folder, making what is missing. ``store_id`` is the UUID of the store: a ``cells`` folder of
        another store is set aside as ``cells.old-<time>``."""

    def hash_key(self, key: bytes) -> bytes:
        """HMAC-SHA-256 of a key under ``DATA/secret`` (made on first use, 0600)."""

    def ensure_column(self, n: int, words: int, rows: int, key: str) -> None:
        """Make counter column ``n`` of ``words`` 64-bit words a row, or let it grow to rows ``0 .. rows - 1``.

        ``key`` is its lasting identity. Blocks are allocated before anything maps them: a full disk is OSError ENOSPC.
        """

    def write_base(
        self,
        consumers: Iterable[tuple[int, str, str | None, str | None, list[tuple[int, int, int]]]],
        credentials: Iterable[tuple[int, str, int, bytes, int]],
    ) -> None:
        """Write all consumers and credentials as a new base with an empty delta; not in force until ``publish``.

        Consumers: (n, id, username, custom_id, [(route n or 0, service n or 0, profile index)]). Credentials:
        (n, id, consumer n, 32 bytes of ``hash_key``, expiry in unix seconds or 0). ValueError for a number or hash
        that appears twice, or a credential without its consumer.
        """

    def append(
        self,
        upserts_consumers: list[tuple[int, str, str | None, str | None, list[tuple[int, int, int]]]],
        upserts_credentials: list[tuple[int, str, int, bytes, int]],
        deleted_consumers: list[int],
        deleted_credentials: list[int],
    ) -> None:
        """Add changes to the delta, deletions first; not in force until ``publish``. Tuples as in ``write_base``."""

    def publish(self, policy: bytes | None) -> int:
        """Check, write and fsync everything, then store the generation word; returns the generation now in force.

        ``policy`` is the JSON of docs/reference/boundary.md; None keeps the one in force. A request whose headers
        arrive after the return sees the change. ValueError when the policy is not one that workers can load.
        """

    def generation(self) -> int:
        """The generation in force; 0 before the first publish."""

    def delta_records(self) -> int:
        """Records on top of the base, to decide on writing a new one."""

    def read_cells(self, refs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """(column n, row) -> (count, of it held by permits in flight, window end in unix seconds); (0, 0, 0) when
        never touched."""

    def reclaim(self) -> list[tuple[int, int]]:
        """Free the slots whose owners died: [(slot, permits found open)]."""

    def slots(self) -> list[dict[str, object]]:
        """Slots in use: slot, pid, state ("starting", "ready", "draining"), generation seen, in_flight, inline."""
