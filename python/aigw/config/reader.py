"""The entry point: a path or bytes -> a checked `File`, or `ConfigErrors` with all findings at once."""

import gc
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from aigw._native import load_yaml_without
from aigw.config.check import Check
from aigw.config.file import File
from aigw.config.finding import ConfigErrors, Finding
from aigw.config.interpolate import read_regular
from aigw.config.section import NAME, Known, Section, place_of, section_of
from aigw.config.source import Source
from aigw.config.tokenizers import Copies
from aigw.config.warnings import warn
from aigw.settings import default, of_environment, variable

MAX_BYTES: Final[int] = default("max_config_bytes")
NO_COPIES: Final[Copies] = {}

Progress = Callable[[str, int, int], None]
"""Called with the stage, the amount done, and the total."""


def read(
    path: str | os.PathLike[str],
    environment: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    mark: str | None = None,
) -> File:
    """Read and check a configuration file, as large as the setting max_config_bytes of this process allows. `environment` defaults to the
    process's own. `mark`: of the secret that the file's HMACs should belong to, for a warning. Raises ConfigError."""
    name, most = os.fspath(path), of_environment("max_config_bytes")
    return read_text(name, read_bytes(name, most), environment, Path(name).parent, progress, mark, most=most)


def read_bytes(name: str, most: int = MAX_BYTES) -> bytes:
    """The bytes of a configuration file of at most `most`. Raises ConfigErrors only."""
    try:
        return read_regular(Path(name), most)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            reason = f"cannot be read: {error.strerror or error}"
        elif "larger" in str(error):
            size = f"{most >> 20} MiB" if most % (1 << 20) == 0 else f"{most} bytes"
            reason = f"larger than {size}: set {variable('max_config_bytes')} to more bytes"
        else:
            reason = f"cannot be read: {error}"
        raise ConfigErrors([Finding(name, 0, 0, "", reason)]) from None


def read_text(
    name: str,
    data: bytes,
    environment: Mapping[str, str] | None = None,
    folder: Path = Path(),
    progress: Progress | None = None,
    mark: str | None = None,
    copies: Copies = NO_COPIES,
    *,
    most: int = MAX_BYTES,
    known: Known | None = None,
) -> File:
    """Check the bytes of a configuration. `${file:}` references are relative to `folder`. `copies`: serve in place of tokenizer
    files that are gone. `most`: bytes. `known`: the section of consumers in force; a file that has the same one is read around it, and
    `keeps_consumers`. Raises ConfigErrors only."""
    with _collecting_later():
        report = progress or (lambda stage, done, total: None)
        report("parsing", 0, len(data))
        environment = os.environ if environment is None else environment

        def check(source: Source, kept: Section | None, usernames: Collection[str] | None) -> File:
            return _read(source, data, report, mark, copies, kept, usernames)

        if known is not None and (found := place_of(known, data)) is not None:
            start, section = found
            document = load_yaml_without(data, most, NAME, (start, start + section.length, section.nodes))
            if document is not None:
                with suppress(ConfigErrors):  # the whole file explains its errors
                    file = check(Source(name, data, document, environment, folder), section, _Stored(known.has))
                    if set(section.tiers) <= file.tiers.keys():
                        return file
        return check(Source.of(name, data, environment, folder, most), None, None)


class _Stored(Collection[str]):
    """The usernames of a section that is not read: they are looked up."""

    def __init__(self, has: Callable[[str], bool]) -> None:
        self._has = has

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._has(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


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


def _read(
    source: Source,
    data: bytes,
    report: Progress,
    mark: str | None,
    copies: Copies,
    kept: Section | None,
    usernames: Collection[str] | None,
) -> File:
    """`kept`: the section that was left out, and the `usernames` in it."""
    check, name = Check(source, report, copies, usernames), source.name
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
            section=kept or section_of(source.document, data, source.consumers, source.warnings),
            keeps_consumers=kept is not None,
        )
    finally:
        check.let_go()
