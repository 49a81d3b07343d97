"""The certificate of the settings: read, checked and kept by the supervisor, served by the workers.

In: two files, looked at once per second and on SIGHUP. Out: one memory file with the certificates and the key, which workers open as
`/proc/PID/fd/N`. A pair is checked before it replaces the one in force, so a broken or half-written pair changes nothing,
also for a worker that starts while the files are broken.
"""

import os
from pathlib import Path
from typing import Final

from aigw import pem
from aigw.errors import ConfigError

LOOK_S: Final = 1.0
"""Seconds between two looks at the files. Errors are final once the files have not changed from one look to the next."""
MOST_BYTES: Final = 1 << 20

Seen = tuple[tuple[int, ...] | None, ...]


class Certificate:
    """A certificate with its key. Raises ConfigError when it is made from a pair that no worker could use."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._files = (chain, key)
        self._seen = self._tried = _look(self._files)
        self.next_look = 0.0
        """Monotonic seconds."""
        self.version = 1
        """Grows with each pair that comes into force."""
        self._content = self._read()
        self.descriptor: Final = pem.memory_file(self._content)

    @property
    def path(self) -> str:
        """The file that workers open; its content is the pair in force."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the first certificate of the pair in force."""
        return pem.fingerprint(self._content)

    def look(self, now: float, *, asked: bool = False) -> bool:
        """Whether another pair came into force. `asked`: read the files, changed or not. Raises ConfigError, once, for a pair that
        cannot be used; the one in force stays."""
        self.next_look = now + LOOK_S
        seen = _look(self._files)
        settled, self._seen = seen == self._seen, seen
        if not asked and seen == self._tried:
            return False
        try:
            content = self._read()
        except ConfigError:
            if not (settled or asked):
                return False  # one file of the pair may be about to follow
            self._tried = seen
            raise
        self._tried = seen
        if content == self._content:
            return False
        fresh = pem.memory_file(content)
        os.dup2(fresh, self.descriptor, inheritable=False)  # at once: a worker opens one pair or the other
        os.close(fresh)
        self._content = content
        self.version += 1
        return True

    def _read(self) -> bytes:
        chain, key = (_bytes(f"--tls-{name}", file) for name, file in zip(("cert", "key"), self._files, strict=True))
        certificates, found = pem.certificates(chain), pem.key(key)
        why = "the first has no certificate" if not certificates else "the second has no key"
        if certificates and found is not None:
            content = pem.joined(certificates, found)
            wrong = pem.wrong_pair(content, content)
            if wrong is None:
                return content
            why = wrong
        raise ConfigError(
            f"--tls-cert {self._files[0]} and --tls-key {self._files[1]} cannot be used together: {why}; "
            "both must be PEM, the key without a password, and the certificate made for it"
        )


def _bytes(option: str, file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {file}: {error.strerror or error}") from None


def _look(files: tuple[Path, ...]) -> Seen:
    return tuple(map(_identity, files))


def _identity(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()  # follows symlinks: the target counts
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
