"""Questions to the ledger for `aigw usage`: to a running gateway's Admin API, or to the ledger's file of a data folder.

In: an address or a folder, and a query as texts. Out: rows of JSON, page by page. Raises ConfigError for a wrong query, other AigwErrors as
the Admin API and the ledger do.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

from aigw.cli.admin_client import AdminApi
from aigw.cli.output import counted, note
from aigw.errors import ConfigError
from aigw.types import JsonDict

if TYPE_CHECKING:
    from aigw.ledger.database import LedgerReader

PAGE: Final = 1000
PATIENCE_S: Final = 120.0  # seconds: sums over a year of minutes take some
PAGED: Final = ("events", "prices")
PATHS: Final = {"usage": "/usage", "events": "/usage/events", "denials": "/denials", "prices": "/prices"}


class Asks(Protocol):
    """Answers one question."""

    def __call__(self, question: str, query: Mapping[str, str]) -> Any: ...


def of_gateway(admin: str | None) -> Asks:
    """A running gateway."""
    api = AdminApi(admin, PATIENCE_S)
    return lambda question, query: api.get(f"{PATHS[question]}?{urlencode(query)}")


def of_folder(data: Path) -> Asks:
    """A data folder, whether its gateway runs or not."""
    from aigw.ledger.database import open_for_reading  # noqa: PLC0415  (the other source needs no SQL)
    from aigw.ledger.questions import ANSWERS  # noqa: PLC0415

    reader = open_for_reading(data)
    _tell_of_unread(data, reader)

    def ask(question: str, query: Mapping[str, str]) -> JsonDict:
        with reader.reading() as connection:
            return ANSWERS[question](connection, query)

    return ask


def _tell_of_unread(data: Path, reader: "LedgerReader") -> None:
    """Say on standard error that a gateway which does not run has left entries that it will store. Raises ConfigError for segments that are
    no segments of this ledger, or that cannot be read."""
    from aigw._native import Counters  # noqa: PLC0415
    from aigw.ledger.unread import unread  # noqa: PLC0415

    try:
        source = Counters(str(data)).ledger()
    except OSError:
        return  # a folder with a ledger alone
    rest = unread(reader, source)
    if rest.unreadable:
        raise ConfigError(f"segments of {data} cannot be read: {rest.unreadable_text()}")
    if count := len(rest.faults):
        are, them = ("is", "it") if count == 1 else ("are", "them")
        note(f"aigw: {counted(count, 'segment')} {are} damaged or missing: aigw audit names {them}")
    if rest.entries and not rest.is_live:
        one = rest.entries == 1
        note(
            f"aigw: {counted(rest.entries, 'entry')} {'lies in a segment and is' if one else 'lie in segments and are'} not in these"
            f" sums: aigw serve stores {'it' if one else 'them'} when it starts"
        )


def pages(ask: Asks, question: str, query: Mapping[str, str]) -> Iterator[JsonDict]:
    """The pages of an answer: rows in `data`, and `notes`. Events that arrive meanwhile are the last pages."""
    query = {**query, "size": str(PAGE)} if question in PAGED else query
    while True:
        found = ask(question, query)
        yield found
        if not found.get("next"):
            return
        query = {**query, "offset": found["offset"]}
