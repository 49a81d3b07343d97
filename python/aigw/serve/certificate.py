"""The certificate of the proxy's address: read, checked and kept by the supervisor, served by the workers.

In: two files, looked at once per second and on SIGHUP. Out: one memory file with the certificates and the key, which workers open as
`/proc/PID/fd/N`. A pair is checked before it replaces the one in force, so a broken or half-written pair changes nothing,
also for a worker that starts while the files are broken.
"""

import hashlib
import os
import re
import ssl
from pathlib import Path
from typing import Final

from aigw.errors import ConfigError

LOOK_S: Final = 1.0
"""Seconds between two looks at the files. Errors are final once the files have not changed from one look to the next."""
MOST_BYTES: Final = 1 << 20
_CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEYS: Final = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)

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
        self.descriptor: Final = _memory_file(self._content)

    @property
    def path(self) -> str:
        """The file that workers open; its content is the pair in force."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first certificate, as `openssl x509 -fingerprint -sha256` prints it, without colons."""
        first = _CERTIFICATES.search(self._content)
        assert first is not None  # _read checked it
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[0].decode())).hexdigest()

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
        fresh = _memory_file(content)
        os.dup2(fresh, self.descriptor, inheritable=False)  # at once: a worker opens one pair or the other
        os.close(fresh)
        self._content = content
        self.version += 1
        return True

    def _read(self) -> bytes:
        chain, key = (_bytes(f"--tls-{name}", file) for name, file in zip(("cert", "key"), self._files, strict=True))
        certificates, found = _CERTIFICATES.findall(chain), _KEYS.search(key)
        why = "the first has no certificate" if not certificates else "the second has no key"
        if certificates and found is not None:
            content = b"\n".join([*certificates, found[0], b""])
            unusable = _unusable(content)
            if unusable is None:
                return content
            why = unusable
        raise ConfigError(
            f"--tls-cert {self._files[0]} and --tls-key {self._files[1]} cannot be used together: {why}; "
            "both must be PEM, the key without a password, and the certificate made for it"
        )


def _unusable(content: bytes) -> str | None:
    """The reason why a server cannot use certificates and key of this text."""
    descriptor = _memory_file(content)
    try:
        # The empty password makes an encrypted key an error instead of a prompt on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (ssl.SSLError, OSError) as error:
        return error.strerror or str(error)
    finally:
        os.close(descriptor)
    return None


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("aigw-certificate", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor


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
