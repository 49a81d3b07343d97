"""The input and output of every handler: `Call`, one parsed request, and `Answer`.

Handlers run on a thread. A write returns at once, with the future of its group commit.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from aigw.admin import envelope
from aigw.admin.change_log import Caller, Told, log_when_done, told
from aigw.admin.context import Admin
from aigw.admin.crud import Crud
from aigw.control.store.origin import ReadOnly
from aigw.control.store.read import StoreReader
from aigw.control.store.rows import Row
from aigw.control.store.write import WriteSession
from aigw.entities import EntityKind
from aigw.types import JsonDict


@dataclass(frozen=True, slots=True)
class Call:
    """One parsed request. `now` is unix seconds, rounded down; `soon` is rounded up, and times to live count from it. `path` has no
    trailing slash."""

    admin: Admin
    data: JsonDict
    query: Mapping[str, str]
    repeated: Sequence[str]
    """Parameters that stand twice in the query: `query` has their last values."""
    path: str
    now: int
    soon: int
    method: str
    caller: Caller

    @property
    def crud(self) -> Crud:
        """The engine at this moment."""
        return Crud(self.admin.publisher, self.now, self.soon, self.admin.shows_keys)

    def write(self, status: int, operation: Callable[[WriteSession, Crud], Any]) -> "Answer":
        """Run the operation on the writer thread; its result becomes the answer's body. The log gets its changes."""
        lines: list[Told] = []

        def run(session: WriteSession) -> Any:
            kept = len(session.changes)
            try:
                result = operation(session, self.crud)
            except ReadOnly as error:
                raise envelope.read_only(error) from None
            lines[:] = told(session.changes[kept:])
            return result

        answer = Answer(status, None, self.admin.writer.submit(run))
        self.log_when_done(answer, lines)
        return answer

    def log_when_done(self, answer: "Answer", lines: Sequence[Told]) -> None:
        """Log the changes of a write, once they are stored. The operation may fill `lines`."""
        assert answer.pending is not None
        log_when_done(self.admin.log, answer.pending, self.method, self.caller, lines)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, and JSON (or text, or nothing): at once, or when the future of a write is done."""

    status: int
    body: Any = None
    pending: "Future[Any] | None" = field(default=None)


Handler = Callable[[Call], Answer]
Methods = Mapping[str, Handler]


def found(reader: StoreReader, crud: Crud, kind: EntityKind, key: str, fixed: Mapping[str, str] | None = None) -> Row:
    """The entity that a path names. Raises a 404 Refusal."""
    row = crud.find(reader, kind, key, fixed)
    if row is None:
        raise envelope.not_found()
    return row


def page_of(
    call: Call,
    reader: StoreReader,
    kind: EntityKind,
    where: Mapping[str, Any],
    shown: Callable[[Row], JsonDict],
    *,
    nested: bool,
) -> JsonDict:
    """A page of entities for the query's size, offset and tags. `next` of a nested list keeps only the offset, as in Kong."""
    size, after = envelope.page_size(call.query), envelope.page_offset(call.query)
    rows = reader.page(kind.name, call.now, size + 1, after, where, envelope.tag_filter(call.query))
    rows, last = envelope.cut(rows, size)
    keep = {} if nested else {k: call.query[k] for k in ("tags", "size") if k in call.query}
    return envelope.page([shown(r) for r in rows], last, call.path, keep)
