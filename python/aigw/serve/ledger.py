"""Opens the ledger of a data folder: names of entities for its events, retention from the configuration file.

In: the open store and publication. Out: `Ledger`, whose compactor runs between `start` and `close`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aigw._native import denials
from aigw.control.file.in_force import Events
from aigw.control.publish.publication import Publication
from aigw.control.store.database import Store
from aigw.entities.ledger import LedgerSpec, bytes_of, seconds_of
from aigw.errors import StoreError, explain
from aigw.ledger.compactor import Compactor
from aigw.ledger.database import FILE, LedgerStore
from aigw.ledger.height import Height
from aigw.ledger.names import Named, Names
from aigw.ledger.own import own_usage
from aigw.ledger.prices import Owner, PriceBook, Version
from aigw.ledger.retention import Retention, Sweeper
from aigw.ledger.source import Source
from aigw.telemetry.faults import Faults
from aigw.types import JsonDict

_IN_USE: Final = "ledger_in_use"
"""The store's word that the ledger's file was there."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of this gateway."""

    store: LedgerStore
    compactor: Compactor

    def answers(self) -> dict[str, Callable[[JsonDict], JsonDict]]:
        """The questions of workers: name -> function, which any thread may call. Raises BadQuery, StoreError."""

        def usage(asked: JsonDict) -> JsonDict:
            with self.store.reading() as connection:
                return own_usage(connection, int(asked["consumer"]), str(asked["query"]))

        return {"usage": usage}

    def close(self) -> None:
        """End the compactor and close the files."""
        self.compactor.close()
        self.store.close()


def open_ledger(
    data: Path,
    source: Source,
    store: Store,
    publication: Publication,
    faults: Faults,
    now: Callable[[], float],
    log: Events,
) -> Ledger:
    """Open the ledger's file. Raises ConfigError, and StoreError also where the file of a ledger that was in use is gone: its calls would
    be missing from every bill without a word. An empty file in its place is the operator's word that they may."""
    path = data / FILE
    if store.kept(_IN_USE) and not path.exists():
        raise StoreError(
            f"{path} is gone, and with it the calls that were stored in it: restore it from a backup, "
            f"or begin an empty ledger on purpose: mkdir -p {path.parent} && touch {path}"
        )
    if path.exists() and path.stat().st_size == 0:
        Height(path, store.store_id).write(0)
    ledger = LedgerStore(path, store.store_id)
    store.keep(_IN_USE, "yes")
    publication.note_prices = _PriceNotes(PriceBook(ledger), now).note
    names = Names(_Entities(store, publication), [str(row["code"]) for row in denials()])
    sweeper = Sweeper(lambda: _retention(store), now)
    return Ledger(ledger, Compactor(ledger, source, names, sweeper, faults, log))


@dataclass(frozen=True, slots=True)
class _PriceNotes:
    """The versions of prices that come in force."""

    book: PriceBook
    now: Callable[[], float]

    def note(self, found: dict[Owner, Version]) -> None:
        try:
            self.book.note(found, int(self.now() * 1_000_000) * 1000)
        except StoreError as error:
            raise OSError(explain(error)) from error


@dataclass(frozen=True, slots=True)
class _Entities:
    """The names of entities, from their store."""

    store: Store
    publication: Publication

    def version(self) -> int:
        return self.publication.in_force.generation

    def lookup(self, kind: str, numbers: Collection[int]) -> Mapping[int, Named]:
        # An entry has the row of its calls plus 1: a row may be 0 there.
        above = 1 if kind == "upstream" else 0
        with self.store.reading() as reader:
            found = reader.named(kind, [n - above for n in numbers])
        return {n + above: Named(*named) for n, named in found.items()}


def _retention(store: Store) -> Retention:
    with store.reading() as reader:
        spec = LedgerSpec.model_validate(reader.ledger() or {})
    return Retention(
        seconds_of(spec.events),
        seconds_of(spec.minutes),
        seconds_of(spec.hours),
        seconds_of(spec.days),
        bytes_of(spec.max_disk),
    )
