"""Every fault the Python side can raise, in one tree. A refusal is a value, a fault is one of these.

    AigwError
    |- ConfigError      what the operator wrote is wrong: a flag, a file, an entity (exit 2, or 400)
    |  `- Unservable    an entity that no worker could load, though it looked right
    |- AddressInUse     a port or data folder is taken by another process (exit 2)
    |- StoreError       the store, or the files of the snapshot, could not be written or read (503, worth a retry)
    |- UpstreamError    a call we made ourselves went wrong: Timeout | Refused | Broken
    `- Bug              what cannot happen did: never the caller's fault

Each class has `status`: the HTTP status when it reaches an Admin answer. The message says what is wrong and how to repair it.
"""

import errno
from typing import ClassVar, Final

_REPAIRS: Final = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "free some space within the disk quota",
    errno.EROFS: "mount that disk for writing",
    errno.EACCES: "let the gateway's user read and write it",
}


class AigwError(Exception):
    """Root of the tree. `str(error)` is the message for a person."""

    status: ClassVar[int] = 500


class ConfigError(AigwError):
    """What the operator wrote cannot be used; the message names the setting and its repair."""

    status = 400


class Unservable(ConfigError):
    """What an entity says cannot be compiled, and so was not stored. `kind` and `id` name it, as far as that is known."""

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
    """An answer that is not one."""


class Bug(AigwError):
    """An invariant of ours does not hold."""


def explain(error: BaseException) -> str:
    """The message of a fault, with the repair that belongs to what the system said, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    repair = _REPAIRS.get(cause.errno or 0) if isinstance(cause, OSError) else None
    return f"{error}: {repair}" if repair else str(error)
