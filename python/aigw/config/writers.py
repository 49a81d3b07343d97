"""Who is writing a file at this moment: the kernel knows, and tells whoever asks for a lease on it.

A lease for reading is refused (EAGAIN) while any process has the file open for writing: that is exact for scp, `rsync --inplace`,
`cp`, editors and shells, however long they pause. It is had by the file's owner and root alone, and says nothing where others
write without this kernel (network disks): there the answer is None, and only time can tell.

The lease is given back at once. Who opens the file in these microseconds waits for it, and the kernel sends this process a
signal. Its default (SIGIO) would end the process, so another one is asked for, which is ignored unless somebody handles it.
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
"""Kinds of disks whose every writer is a process of this kernel. NFS and SMB refuse leases also when nobody writes."""
_LIBC: Final = ctypes.CDLL(None)


class InTheMaking(ConfigErrors):
    """The file is being written: what stands in it is not yet what its author means."""

    def __init__(self, name: str) -> None:
        super().__init__([Finding(name, 0, 0, "", "is being written at this moment: nothing has changed")])


def being_written(paths: Iterable[Path]) -> bool | None:
    """Whether a process has one of these open for writing; None when nobody can tell."""
    answers = [_written(path) for path in paths]
    if True in answers:
        return True
    return None if None in answers else False


def _written(path: Path) -> bool | None:
    try:
        held = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode) or _kind(held) not in _LOCAL:
            return None
        fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(held)
    return False


def _kind(descriptor: int) -> int:
    """The disk's kind: the first word of what statfs tells on Linux. 0 when it tells nothing."""
    told = ctypes.create_string_buffer(512)
    if _LIBC.fstatfs(descriptor, told):
        return 0
    return ctypes.c_long.from_buffer(told).value & 0xFFFFFFFF
