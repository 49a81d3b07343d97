"""A small disk for one test: a tmpfs that a test can fill to the last byte and free again.

In: a folder, a size. Out: a mounted file system, unmounted at the end. Mounting needs privileges: without them the
test is skipped, with the reason in the run's summary.
"""

import contextlib
import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted file system of a few MiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, but: int = 0) -> None:
        """Use up the free space, except `but` bytes (whole pages)."""
        size = 1 << 20
        with self._filler.open("ab", buffering=0) as filler:
            while size:
                try:
                    filler.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC, error
                    size //= 2
            filler.truncate(filler.tell() - but)
        assert shutil.disk_usage(self.folder).free == but

    def empty(self) -> None:
        """Free the space that `fill` used."""
        self._filler.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: float) -> Iterator[SmallDisk]:
    """Create `folder` and mount a disk of this size there."""
    folder.mkdir()
    size = f"size={int(mebibytes * 1024)}k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs to mount a tmpfs, which this user may not: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # A process that is ending may still hold a file: the lazy unmount waits for it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
