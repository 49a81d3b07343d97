"""Lines of the process log about changes of the Admin API: `admin_change`, one for each changed entity.

In: the changes of one request. Out: their lines, when the writer has committed them. A line names the entity and never shows a value of
it: no body, no key, no hint of one, and not the request's path, which may hold a key.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from aigw.config.finding import printable
from aigw.control.file.changes import CALLED
from aigw.control.file.in_force import Events
from aigw.control.store.origin import name_of
from aigw.control.store.rows import MOST_SHOWN, BulkChange, Change, Row
from aigw.errors import NotInForce

MOST_NAME: Final = 128
"""Characters of a name in a line."""


class Caller(NamedTuple):
    """The sender of a request, as lines of the log name it. The token is in none."""

    client: str
    """Address of the TCP connection, empty if unknown: of a proxy, where one is in between."""
    access: str
    """`token`: the request had the token; `loopback`: the gateway has none, and serves its own machine."""
    request_id: str


class Told(NamedTuple):
    """One line. `action`: `created`, `updated`, `deleted`, or an operator's mark on a target: `healthy`, `unhealthy`."""

    action: str
    kind: str
    row: Row


def told(changes: Iterable[Change | BulkChange]) -> list[Told]:
    """The lines of one request's changes, in their order; an entity that it changed twice has one. Settings of the gateway have none."""
    found: dict[tuple[str, str], tuple[Row | None, Row | None]] = {}
    for change in changes:
        row = change.after or change.before if isinstance(change, Change) else None
        if row is not None and isinstance(change, Change):
            before, _ = found.get((change.kind, row.id), (change.before, None))
            found[change.kind, row.id] = (before, change.after)
    lines = []
    for (kind, _), (before, after) in found.items():
        action = "created" if before is None else "deleted" if after is None else "updated"
        if (row := after or before) is not None:
            lines.append(Told(action, kind, row))
    return lines


def log_when_done(log: Events, done: "Future[Any]", method: str, caller: Caller, lines: Sequence[Told]) -> None:
    """Write the lines once the change is stored. `lines` may be filled until then."""

    def write(done: "Future[Any]") -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or not (error is None or isinstance(error, NotInForce)):
            return
        for action, kind, row in lines[:MOST_SHOWN]:
            name = name_of(row.body)[:MOST_NAME]
            named = {} if name == row.id else {"name": printable(name)}
            log(
                "admin_change",
                method=method,
                action=action,
                kind=CALLED[kind],
                id=row.id,
                **named,
                **caller._asdict(),
            )
        if len(lines) > MOST_SHOWN:
            log("admin_change", method=method, more=len(lines) - MOST_SHOWN, **caller._asdict())

    done.add_done_callback(write)
