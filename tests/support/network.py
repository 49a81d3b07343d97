"""Networks and name services of a test's own. In: a function, or names with addresses. Out: the function's result in a network
namespace with loopback only; a command prefix under which the names resolve. Skips the test where the kernel does not permit it.
"""

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000


def ip(*arguments: str) -> None:
    """Run the `ip` command in the thread's network."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def in_own_network(test: Callable[[], None]) -> None:
    """Run `test` in a thread with a network of its own, which the processes that it starts share. Re-raises its errors."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
                pytest.skip(f"needs a network namespace: {os.strerror(ctypes.get_errno())}")
            ip("link", "set", "lo", "up")
            test()
        except BaseException as error:  # noqa: BLE001  (a skip, too, belongs to the caller)
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


class Hosts:
    """Names that only processes under `prefix` resolve. They see the file of `write` as /etc/hosts."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "hosts"
        self._file.touch()
        mount = f'mount --bind {self._file} /etc/hosts && exec "$@"'
        self.prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh")
        tried = subprocess.run([*self.prefix, "true"], capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"needs a mount namespace: {tried.stderr.strip()}")

    def write(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """Put these names in force: name -> addresses. In place, because a mount follows the file and not its name."""
        lines = [f"{address} {name}\n" for name, addresses in names.items() for address in addresses]
        self._file.write_text("127.0.0.1 localhost\n" + "".join(lines))
