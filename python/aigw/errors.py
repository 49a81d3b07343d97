"""All faults of the Python side, in one tree. A refusal is a value; a fault is one of these exceptions.

    AigwError
    |- ConfigError      wrong input of the operator: a flag, a file, an entity (exit 2, or 400)
    |  `- Unservable    an entity that no worker could load, though it looked right
    |- AddressInUse     a port or data folder is taken by another process (exit 2)
    |- StoreError       the store, or the files of the snapshot, could not be written or read (503, worth a retry)
    |  `- NotInForce    a change is stored, and workers do not have it yet
    |- UpstreamError    a call of this process failed: Timeout | Refused | Broken
    `- Bug              an invariant does not hold: never the caller's fault

`status` is the HTTP status of a fault in an answer of the Admin API. Messages name the fault and its repair.
"""

import errno
from typing import ClassVar, Final

_REPAIRS: Final = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space within the disk quota",
    errno.EROFS: "mount that disk for writing",
    errno.EISDIR: "move that folder away, a file belongs there",
    errno.EACCES: "let the gateway's user read and write it",
    errno.EMFILE: "let the process open more files (ulimit -n)",
    errno.ENFILE: "let the machine open more files (sysctl fs.file-max)",
    errno.EAGAIN: "let the user run more threads (ulimit -u)",
    errno.ENOMEM: "free memory on this machine",
}


class AigwError(Exception):
    """Root of the tree. `str(error)` is the message for a person."""

    status: ClassVar[int] = 500


class ConfigError(AigwError):
    """Unusable input of the operator. The message names the setting and its repair."""

    status = 400


class Unservable(ConfigError):
    """An entity that cannot be compiled, and so was not stored. `kind` and `id` name it, if they are known."""

    def __init__(self, message: str, kind: str = "", id: str = "") -> None:
        super().__init__(message)
        self.kind: Final = kind
        self.id: Final = id


class AddressInUse(AigwError):
    """A port or a data folder belongs to another process."""

    status = 409


class StoreError(AigwError):
    """The store or the snapshot files could not be written or read: disk full, locked, corrupt, gone."""

    status = 503


class NotInForce(StoreError):
    """The change is stored; its files for workers could not be written."""


class UpstreamError(AigwError):
    """A call that this process made to another one failed."""

    status = 502


class UpstreamTimeout(UpstreamError):
    """No answer within the deadline."""

    status = 504


class UpstreamRefused(UpstreamError):
    """No connection."""

    status = 503


class UpstreamBroken(UpstreamError):
    """An answer that cannot be read."""


class Bug(AigwError):
    """An invariant of this program does not hold."""


def explain(error: BaseException) -> str:
    """The message of a fault, with a repair if the cause is a known system error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    repair = _REPAIRS.get(cause.errno or 0) if isinstance(cause, OSError) else None
    # The native half gives this number to its own texts about contents of files: they are whole without it.
    is_own = isinstance(error, OSError) and error.errno == errno.EIO and error.filename is None
    text = str(error.strerror) if isinstance(error, OSError) and is_own else str(error)
    return f"{text}: {repair}" if repair else text
