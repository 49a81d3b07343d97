"""The configuration in force: a file is read, checked, and applied as a whole or not at all.

In: a path or a text, and the trigger (`start`, `file`, `sighup`, `api`). Out: an `Outcome` after it is in force, or `ConfigErrors`
with all findings; then the previous configuration stays in force. Loads run one at a time, and the writer orders
them with the Admin API. Without a file, `start` keeps the entities of an earlier one, unless the order is to delete them.
"""

import gc
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Final, Protocol

import sqlalchemy as sa

from aigw._native import give_back_memory
from aigw.config import (
    MAX_BYTES,
    ConfigErrors,
    File,
    FileEntity,
    Finding,
    InTheMaking,
    Known,
    being_written,
    mark_of,
    read_text,
)
from aigw.config.file import CONSUMER_KINDS
from aigw.config.finding import Path, dotted
from aigw.control.file.apply import Conflict, Conflicts, Declared, apply
from aigw.control.file.changes import Difference, difference
from aigw.control.file.consumers import ConsumerRows
from aigw.control.file.copies import TokenizerCopies
from aigw.control.file.declare import (
    KeyNotKept,
    Keys,
    Sealer,
    consumer_rows,
    consumers_mark,
    declared,
    default_tier,
    rows_of_file,
    section_mark,
    sections_of,
    whole_keys,
)
from aigw.control.file.diff import Comparison, compare
from aigw.control.file.dump import document, rows_of
from aigw.control.file.kept import Kept, kept
from aigw.control.file.read import AtStart, FileText, text_of
from aigw.control.file.stamp import HISTORY, Stamp, StampedSection, history_of, put_history, put_stamp, stamp_of
from aigw.control.group_commit import GroupCommit
from aigw.control.publish.publication import Publication
from aigw.control.store import tables
from aigw.control.store.database import Store
from aigw.control.store.origin import Origin, name_of
from aigw.control.store.rows import NO_SECTIONS, Sections
from aigw.control.store.write import WriteSession
from aigw.errors import AigwError, ConfigError, StoreError, Unservable, explain
from aigw.telemetry.families import Family, own
from aigw.types import JsonDict

POSTED: Final = "POST /config"
"""The name of a posted text in findings."""
LARGE: Final = 1 << 20
_CHUNK: Final = 900
NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
"""Facts about the sender of a configuration that nobody sent: the file."""


class Events(Protocol):
    """Writes one line of the process log."""

    def __call__(self, event: str, /, **facts: object) -> None: ...


@dataclass(frozen=True, slots=True)
class LoadError:
    """An error for `GET /status`: the first finding, and the number of others. `at`: unix seconds."""

    message: str
    at: float
    file: str | None = None
    line: int | None = None
    col: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a load. `changed` is False if the same content was in force already; it has no `warnings` then."""

    changed: bool
    hash: str
    generation: int
    difference: Difference
    warnings: tuple[Finding, ...] = ()


class Configuration:
    """Call `start` once, then `load` whenever the file may have changed."""

    def __init__(
        self,
        store: Store,
        writer: GroupCommit,
        publication: Publication,
        sealer: Sealer,
        path: FilePath | None,
        tokenizers: TokenizerCopies,
        now: Callable[[], float],
        log: Events,
        most: int = MAX_BYTES,
    ) -> None:
        """`most`: bytes of a configuration."""
        self.path: Final = path
        self.most: Final = most
        self.error: LoadError | None = None
        self.stamp: Stamp | None = None
        """The configuration in force; None: no file declared it."""
        self.kept: Kept | None = None
        """The entities of an earlier file, if this start named none."""
        self.watched: tuple[FilePath, ...] = () if path is None else (path,)
        """The file, and the files that its references name."""
        self.results: dict[str, int] = {"applied": 0, "unchanged": 0, "rejected": 0}
        self._store = store
        self._writer = writer
        self._publication = publication
        self._sealer = sealer
        self.tokenizers: Final = tokenizers
        self._mark = mark_of(sealer.hash_key)
        self._now = now
        self._log = log
        self._one = threading.Lock()
        self._read = ""
        """`Fingerprint.whole` of the file when it was read last, valid or not."""

    def start(self, at_start: AtStart, *, must: bool, forget: bool = False) -> None:
        """Put the result of the first look in force. Without a file the entities of an earlier one stay; `forget` deletes them.
        Raises StoreError, and ConfigError if `must`."""
        with self._one:
            with self._store.reading() as reader:
                self.stamp = stamp_of(reader)
                # A control process that starts again finds a text that was posted to the one before: nobody forgot an option.
                posted = not must and self.stamp is not None and self.stamp.source == POSTED
                self.kept = kept(reader, self.stamp) if self.path is None and not posted else None
            self._read = self.stamp.file if self.stamp is not None else ""
            if self.path is None:
                self._start_without_file(must=must, forget=forget)
                return
            try:
                self._start_with(at_start)
            except ConfigErrors as error:
                if must:
                    raise
                self._reject("start", at_start.text, error)

    def _start_with(self, at_start: AtStart) -> None:
        if at_start.errors is not None:
            raise at_start.errors
        assert at_start.text is not None and self.path is not None
        text = at_start.text
        self.watched = (self.path, *text.mark.files)
        file = at_start.file
        if file is None and self.tokenizers.missing(self._tokenizers_in_use()):
            file = self._checked(text, self._finished)
        if file is None:
            self._unchanged(text)
            self._log("config_unchanged", file=text.name, hash=text.mark.hash)
            return
        if self.stamp is not None and self.stamp.source not in (text.name, POSTED):
            self._log("config_replaced", before=self.stamp.source, file=text.name,
                      why="--config names another file than before: entities that are not in it are deleted")  # fmt: skip
        self._apply("start", text, file)

    def _start_without_file(self, *, must: bool, forget: bool) -> None:
        if not must or self.kept is None:
            return  # a restarted control process: an earlier one did its work, and a posted text may be in force
        if forget:
            self._delete_of_file()
        else:
            self._log("config_kept", file=self.kept.source, entities=self.kept.entities, why=self.kept.message)

    def load(
        self,
        trigger: str,
        data: bytes | None = None,
        *,
        patient: bool = False,
        whole: Callable[[], bool] | None = None,
        caller: Mapping[str, str] = NOBODY,
    ) -> Outcome:
        """Apply `data`, or the file if it is None. Raises ConfigErrors, StoreError; then nothing has changed. `whole` returns
        whether the file was complete when it was read: an incomplete one raises InTheMaking, and is neither applied nor
        reported. A `patient` caller tries again soon, so its errors are not reported. `caller`: facts about the sender of `data`,
        for the log."""
        with self._one:
            text: FileText | None = None
            collecting = gc.isenabled()
            gc.disable()  # a large file makes a million values without a cycle
            try:
                text = self._text(data)
                if trigger == "sighup":
                    self._say_unchanged_variables(text)
                if self.stamp is not None and text.mark.whole == self.stamp.whole:
                    return self._unchanged(text)
                if trigger == "file" and self.stamp is not None and text.mark.whole == self.stamp.file:
                    return self._unchanged(text)  # a posted text is in force, and the file has not changed since
                return self._apply(trigger, text, self._checked(text, whole or self._finished), caller)
            except InTheMaking:
                raise
            except (ConfigErrors, StoreError) as error:
                if not (patient and isinstance(error, ConfigErrors)):
                    self._note(text)
                    self._reject(trigger, text, error, caller)
                raise
            finally:
                large = text is not None and len(text.data) > LARGE
                text = None
                if collecting:
                    gc.enable()
                if large:
                    give_back_memory()

    def waits(self, seconds: float) -> None:
        """Report that the file has been changing for so many seconds, and is not in force."""
        with self._one:
            message = (
                f"is still being written after {seconds:.0f} s: the previous configuration stays in force until no process has"
                " the file open for writing and the file stops changing"
            )
            self.error = LoadError(message, self._now(), str(self.path))
            self._log("config_waits", file=str(self.path), why=message)

    def _checked(self, text: FileText, whole: Callable[[], bool]) -> File:
        try:
            known = self._known(text)
            file = read_text(text.name, text.data, None, text.folder, mark=self._mark, most=self.most, known=known)
        except ConfigErrors:
            if text.name != POSTED and not whole():
                raise InTheMaking(text.name) from None
            raise
        if text.name != POSTED and not whole():
            raise InTheMaking(text.name)
        return file

    def _known(self, text: FileText) -> Known | None:
        """The section of consumers in force, if a text of this name may have the same rows."""
        section = self.stamp.section if self.stamp is not None else None
        if section is None:
            return None

        def matches(digest: bytes) -> bool:
            return section_mark(digest, text.name, self._sealer) == section.mark

        def has(username: str) -> bool:
            with self._store.reading() as reader:
                row = reader.get("consumers", "username", username, 0)
                return row is not None and row.origin is not None

        return Known(section.length, section.nodes, section.tiers, matches, has)

    def _finished(self) -> bool:
        return self.path is None or not being_written([self.path])

    def _text(self, data: bytes | None) -> FileText:
        if data is not None:
            return FileText.of(POSTED, data, self._folder(), os.environ)
        if self.path is None:
            raise ConfigError("there is no configuration file: start with --config FILE, or send the text")
        text = text_of(self.path, os.environ, self.most)
        self.watched = (self.path, *text.mark.files)
        return text

    def _folder(self) -> FilePath:
        """The folder of relative references in a text that has no file."""
        return self.path.parent if self.path is not None else FilePath.cwd()

    def _note(self, text: FileText | None) -> None:
        """Note the content of the file, valid or not."""
        if text is not None and text.name != POSTED:
            self._read = text.mark.whole

    def document(self) -> JsonDict:
        """The configuration in force as a file: entities of the file and of the Admin API."""
        with self._store.reading() as reader:
            now = math.ceil(self._now())
            return document(rows_of(reader), now, reader.default_tier(), self._mark, reader.sections())

    def compare(self, name: str, data: bytes) -> Comparison:
        """The changes that this text would make as the file. Changes nothing. Raises ConfigErrors, StoreError."""
        file = read_text(name, data, None, self._folder(), most=self.most)
        wanted = rows_of_file(file, self._sealer, int(self._now()), self._made, self._keys(file))
        with self._store.reading() as reader:
            sections = (reader.sections(), sections_of(file))
            return compare(wanted, default_tier(file), rows_of(reader), reader.default_tier(), sections)

    def families(self) -> list[Family]:
        """Metrics of the configuration."""
        content = self.stamp.hash if self.stamp is not None else self._publication.in_force.hash
        generation = str(self._publication.in_force.generation)
        return own(
            {
                "aigw_config_reload_success": [({}, self.error is None)],
                "aigw_config_reloads_total": [({"result": result}, n) for result, n in self.results.items()],
                "aigw_config_info": [({"hash": content, "generation": generation}, 1)],
            }
        )

    def history(self) -> list[JsonDict]:
        """The history of loads, newest at_start."""
        with self._store.reading() as reader:
            return history_of(reader)[::-1]

    def _unchanged(self, text: FileText) -> Outcome:
        self._note(text)
        self.results["unchanged"] += 1
        if self.error is not None:
            self.error = None
            self._log("config_restored", file=text.name, hash=(self.stamp or text.mark).hash)
        return Outcome(False, text.mark.hash, self._publication.in_force.generation, Difference())

    def _apply(self, trigger: str, text: FileText, file: File, caller: Mapping[str, str] = NOBODY) -> Outcome:
        now = self._now()
        self._note(text)
        # Hundreds of thousands of equal rows need no comparison: the Admin API changes no row of the file.
        consumers, same = self._same_consumers(file)
        section, moved = self._section(file), self._moved(file)
        stamp = Stamp(
            text.mark.hash, text.mark.whole, text.name, now, file=self._read, consumers=consumers, section=section
        )
        entities = declared(file, self._sealer, int(now), self._keys(file))
        with self._store.reading() as reader:
            shift = reader.line_shift("consumers") + (moved if file.keeps_consumers or not same else 0)
        rows = None if same else consumer_rows(file, self._sealer, int(now), self._made, shift)
        names = {e.id: e.name for e in file.entities if e.kind != "plugins"}
        before = self._tokenizers_in_use()
        self.tokenizers.keep(file.tokenizers)
        try:
            done = self._write(
                trigger,
                stamp,
                entities,
                (default_tier(file), sections_of(file)),
                names,
                rows,
                shift,
                keeps_consumers=same,
            )
        except Conflicts as error:
            raise ConfigErrors(findings(error.found, file)) from None
        except Unservable as error:
            raise ConfigErrors([_unservable(error, file)]) from None
        # A worker that is still behind may load a copy of the configuration before.
        self.tokenizers.sweep(before | self._tokenizers_in_use())
        self.error = self.kept = None
        self.results["applied"] += 1
        generation = self._publication.in_force.generation
        self._log("config_applied", file=text.name, trigger=trigger, hash=stamp.hash, generation=generation,
                  added=done.added, changed=done.changed, removed=done.removed, warnings=len(file.warnings),
                  **caller)  # fmt: skip
        self._say(done.lines)
        self._log_findings("config_warning", file.warnings)
        return Outcome(True, stamp.hash, generation, done, file.warnings)

    def _keys(self, file: File) -> Keys:
        """The private keys of the file's certificates. Raises ConfigErrors for a reference without a key."""
        with self._store.reading() as reader:

            def key_of(key: str, field: str) -> str | None:
                row = reader.get("certificates", "id", key, 0)
                secret = row.body["secrets"].get(field) if row is not None else None
                try:
                    return None if secret is None else self._sealer.unseal(secret["sealed"]).decode()
                except ValueError:  # sealed under the secret of another data folder
                    return None

            try:
                return whole_keys(file, key_of)
            except KeyNotKept as error:
                path = (*error.entity.path, error.field)
                raise ConfigErrors([_finding(file, error.message, error.entity, path)]) from None

    def _same_consumers(self, file: File) -> tuple[str, bool]:
        """The mark of a file's consumers, and whether they are those in force, on the same lines or moved together."""
        stamp = self.stamp
        if file.keeps_consumers and stamp is not None:
            return ("" if self._moved(file) else stamp.consumers), True
        mark = consumers_mark(file, self._sealer)
        return mark, stamp is not None and stamp.consumers == mark

    def _section(self, file: File) -> StampedSection | None:
        """The section of a file's consumers, as the stamp keeps it."""
        if (found := file.section) is None:
            return None
        mark = section_mark(found.digest, file.name, self._sealer)
        return StampedSection(found.length, found.nodes, found.line, found.tiers, mark)

    def _moved(self, file: File) -> int:
        """Lines that a file's section of consumers stands further down than in the text in force; 0 where one has none."""
        before = self.stamp.section if self.stamp is not None else None
        return 0 if before is None or file.section is None else file.section.line - before.line

    def _tokenizers_in_use(self) -> set[str]:
        """The names of the copies that the publication names."""
        models = [model.entity.tokenizer_file for model in self._publication.world.models.values()]
        return {copy.sha256 for copy in models if copy is not None}

    def _delete_of_file(self) -> None:
        """Delete the entities of an earlier file."""
        try:
            done = self._write("start", None, [], (None, NO_SECTIONS), {})
        except Conflicts as error:
            hint = "--config none deletes the entities that a file declared"
            raise ConfigError("\n".join([f"{hint}, but:", *(f"  {c.message}" for c in error.found)])) from None
        self.kept = None
        self._log("config_left", why="started with --config none: the entities of the file are deleted",
                  removed=done.removed)  # fmt: skip
        self._say(done.lines)

    def _write(
        self,
        trigger: str,
        stamp: Stamp | None,
        entities: list[Declared],
        settings: tuple[str | None, Sections],
        names: dict[str, str],
        rows: ConsumerRows | None = None,
        shift: int = 0,
        *,
        keeps_consumers: bool = False,
    ) -> Difference:
        """`settings`: the id of the default tier, and the sections. `shift`: lines that consumers stand further down than their origins
        say."""

        def operation(session: WriteSession) -> Difference:
            def name(key: str) -> str | None:
                if (known := names.get(key)) is not None or not keeps_consumers:
                    return known or (rows.native.name(key) if rows is not None else None)
                row = session.get("consumers", "id", key, 0)
                return name_of(row.body) if row is not None else None

            (before, sections), kept = (session.default_tier(), session.sections()), len(session.changes)
            session.set_line_shift(shift)
            apply(session, entities, rows, *settings, keeps_consumers=keeps_consumers)
            done = difference(session.changes[kept:], name, (before, settings[0]), (sections, settings[1]))
            put_stamp(session, stamp)
            put_history(session, [*history_of(session), self._entry(trigger, stamp.hash if stamp else "", done, None)])
            return done

        try:
            done = self._writer.submit(operation, alone=True).result()
        except AigwError:
            # The write may be stored without being in force: the next load compares with the stored stamp.
            with self._store.reading() as reader:
                self.stamp = stamp_of(reader)
            raise
        finally:
            rows = None  # the writer holds the operation until it has copied its log: a large file would stay as long
        self.stamp = stamp
        return done

    def _entry(self, trigger: str, content: str, done: Difference, error: str | None) -> JsonDict:
        return {"time": self._now(), "hash": content, "source": trigger, **done.as_dict(), "error": error}

    def _reject(
        self,
        trigger: str,
        text: FileText | None,
        error: ConfigErrors | StoreError,
        caller: Mapping[str, str] = NOBODY,
    ) -> None:
        """Report an error on /status, in the log and in the history."""
        content = text.mark.hash if text is not None else ""
        known = self.error
        name = text.name if text is not None else str(self.path)
        if isinstance(error, ConfigErrors):
            findings: Sequence[Finding] = error.findings
            one, more = findings[0], len(findings) - 1
            message = f"{one.path + ': ' if one.path else ''}{one.message}"
            message += f"; did you mean '{one.suggestion}'?" if one.suggestion else ""
            message += f" (and {more} more)" if more else ""
            self.error = LoadError(message, self._now(), one.file, one.line or None, one.col or None)
        else:
            findings = ()
            self.error = LoadError(explain(error), self._now(), name)
        if trigger == "file" and known is not None and replace(known, at=self.error.at) == self.error:
            return  # reported before: the file was touched, and has the same error
        self.results["rejected"] += 1
        self._log("config_rejected", file=name, trigger=trigger, errors=len(findings) or 1,
                  why=self.error.message, **caller)  # fmt: skip
        self._log_findings("config_error", findings)
        entry = self._entry(trigger, content, Difference(), self.error.message)

        def remember(session: WriteSession) -> None:
            put_history(session, [*history_of(session), entry])

        self._writer.submit(remember)  # on a full disk this fails, and the history has no entry

    def _log_findings(self, event: str, findings: Sequence[Finding]) -> None:
        for finding in findings[:100]:
            where = {"file": finding.file, "line": finding.line or None, "col": finding.col or None}
            meant = {} if finding.suggestion is None else {"suggestion": finding.suggestion}
            self._log(event, **where, path=finding.path, message=finding.message, **meant)

    def _say_unchanged_variables(self, text: FileText) -> None:
        """An operator who asks for a reload may expect new values of variables."""
        if names := text.mark.variables:
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            self._log("config_variables", file=text.name, variables=shown,
                      why="these have the values of the gateway's start: a reload reads files, only a restart reads variables")  # fmt: skip

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._log("config_change", change=line)

    def _made(self, ids: list[str]) -> dict[str, int]:
        """Id -> unix seconds at which the credential of the file was made."""
        table, found = tables.keyauth_credentials, {}
        with self._store.reading() as reader:
            for start in range(0, len(ids), _CHUNK):
                part = ids[start : start + _CHUNK]
                made = sa.func.json_extract(table.c.body, "$.created_at")
                query = sa.select(table.c.id, made).where(table.c.id.in_(part), table.c.origin.is_not(None))
                found.update({key: int(at) for key, at in reader.connection.execute(query)})
        return found


def findings(conflicts: Sequence[Conflict], file: File) -> list[Finding]:
    """Conflicts with their positions in the file, found in one pass over its entities."""
    wanted = {(conflict.kind, conflict.origin.line) for conflict in conflicts if conflict.origin is not None}
    paths: dict[tuple[str, int], Path] = {
        (e.kind, e.line): e.path for e in reversed(file.entities) if (e.kind, e.line) in wanted
    }
    for kind in CONSUMER_KINDS:
        found = file.consumers.paths(kind, {line for wanted_kind, line in wanted if wanted_kind == kind})
        paths |= {(kind, line): path for line, path in found.items()}
    return [_finding(file, conflict.message, conflict.origin, paths.get(_position(conflict))) for conflict in conflicts]


def _position(conflict: Conflict) -> tuple[str, int]:
    return conflict.kind, conflict.origin.line if conflict.origin is not None else 0


def _unservable(error: Unservable, file: File) -> Finding:
    """The finding on an entity that cannot be compiled; an entity of the Admin API has no line."""
    at = next((e for e in file.entities if e.id == error.id), None)
    return _finding(file, str(error), at, at.path if at else None)


def _finding(file: File, message: str, at: Origin | FileEntity | None, path: Path | None) -> Finding:
    if at is None:
        return Finding(file.name, 0, 0, "", message)
    column, path = 1, path or ()
    for look in (file.document.mark, file.document.key_mark) if path else ():
        with suppress(KeyError):
            column = look(path)[1]
    return Finding(file.name, at.line, column, dotted(path), message)


__all__ = ["HISTORY", "POSTED", "Configuration", "Events", "LoadError", "Outcome"]
