"""The entry point: a path or bytes -> a checked `File`, or `ConfigErrors` with all findings at once."""

import gc
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aigw.config.check import Check
from aigw.config.file import File
from aigw.config.finding import ConfigErrors, Finding
from aigw.config.interpolate import read_regular
from aigw.config.source import Source
from aigw.config.tokenizers import Copies
from aigw.config.warnings import warn

MAX_BYTES: Final = 64 << 20
NO_COPIES: Final[Copies] = {}

Progress = Callable[[str, int, int], None]
"""Called with the stage, the amount done, and the total."""


def read(
    path: str | os.PathLike[str],
    environment: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    mark: str | None = None,
) -> File:
    """Read and check a configuration file. `environment` defaults to the process's own. `mark`: of the secret that the file's HMACs
    should belong to, for a warning. Raises ConfigErrors only."""
    name = os.fspath(path)
    return read_text(name, read_bytes(name), environment, Path(name).parent, progress, mark)


def read_bytes(name: str) -> bytes:
    """The bytes of a configuration file. Raises ConfigErrors only."""
    try:
        return read_regular(Path(name), MAX_BYTES)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            reason = f"cannot be read: {error.strerror or error}"
        else:
            reason = "larger than 64 MiB" if "larger" in str(error) else f"cannot be read: {error}"
        raise ConfigErrors([Finding(name, 0, 0, "", reason)]) from None


def read_text(
    name: str,
    data: bytes,
    environment: Mapping[str, str] | None = None,
    folder: Path = Path(),
    progress: Progress | None = None,
    mark: str | None = None,
    copies: Copies = NO_COPIES,
) -> File:
    """Check the bytes of a configuration. `${file:}` references are relative to `folder`. `copies`: serve in place of tokenizer
    files that are gone. Raises ConfigErrors only."""
    with _collecting_later():
        report = progress or (lambda stage, done, total: None)
        report("parsing", 0, len(data))
        source = Source(name, data, os.environ if environment is None else environment, folder)
        return _read(source, data, report, mark, copies)


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Disable the cycle collector: a large file makes a million values that stay, and each collection would visit them all."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(source: Source, data: bytes, report: Progress, mark: str | None, copies: Copies) -> File:
    check, name = Check(source, report, copies), source.name
    try:
        check.run()
        source.fail()
        warn(source, check.models, check.tiers, mark)
        digest = hashlib.sha256(data)
        for value in source.resolved:
            digest.update(b"\0" + value.encode())
        for files in check.certificates.values():
            for content in files.values():
                digest.update(b"\0" + content)
        for tokenizer in check.tokenizers.values():
            digest.update(b"\0" + tokenizer.sha256.encode())
        return File(
            name=name,
            hash=digest.hexdigest(),
            models=check.models,
            certificates=check.certificates,
            private_keys=check.private_keys,
            tokenizers=check.tokenizers,
            tiers=check.tiers,
            default_tier=check.default_tier,
            v1=check.v1,
            ledger=check.ledger,
            entities=tuple(check.entities()),
            consumers=source.consumers,
            sources=(name, *dict.fromkeys(str(p) for p in source.resolver.files)),
            document=source.document,
            warnings=tuple(sorted(source.warnings, key=lambda f: (f.line, f.col))),
        )
    finally:
        check.let_go()
