"""Whether a process has a file open for writing, by asking the kernel for a lease.

The kernel refuses a read lease (EAGAIN) while any process has the file open for writing. That is exact for scp, `rsync --inplace`,
`cp`, editors and shells, however long they pause. Only the file's owner and root may ask, and the kernel does not know writers on
other machines (network disks); the answer is None then.

The lease is given back at once. A process that opens the file in these microseconds waits for it, and the kernel signals this
process. The default signal (SIGIO) would end it, so `F_SETSIG` selects one that is ignored by default.
"""

import ctypes
import fcntl
import os
import signal
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aigw.config.finding import ConfigErrors, Finding

_LOCAL: Final = {
    0xEF53: "ext",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x2FC12FC1: "zfs",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x794C7630: "overlay",
}
"""File systems with local writers only. NFS and SMB refuse leases also without a writer."""
_LIBC: Final = ctypes.CDLL(None)


class InTheMaking(ConfigErrors):
    """The file is being written, so its content may be incomplete."""

    def __init__(self, name: str) -> None:
        super().__init__([Finding(name, 0, 0, "", "is being written at this moment: nothing has changed")])


def being_written(paths: Iterable[Path]) -> bool | None:
    """Whether a process has one of these files open for writing; None if the kernel cannot tell."""
    answers = [_has_writer(path) for path in paths]
    if True in answers:
        return True
    return None if None in answers else False


def _has_writer(path: Path) -> bool | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or _kind(descriptor) not in _LOCAL:
            return None
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def _kind(descriptor: int) -> int:
    """The file system's magic number, the first word of statfs on Linux; 0 if the call fails."""
    buffer = ctypes.create_string_buffer(512)
    if _LIBC.fstatfs(descriptor, buffer):
        return 0
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
