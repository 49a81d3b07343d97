"""Offsets of pages: they belong to one query and to one ledger, so a program that polls is told when the ledger was restored or made again."""

import base64
import random
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigw.ledger.offset import offset, offset_text
from aigw.ledger.prices import PriceBook, version
from aigw.ledger.query import BadQuery, Filters
from aigw.ledger.questions import ANSWERS
from aigw.ledger.retention import Retention
from ledgers import LIFE, NOON, Ledger, entry

RESTORED = "offset: is older than this ledger, which was restored from a backup or made again: begin without an offset"


def ask(ledger: Ledger, question: str = "events", **query: str) -> Mapping[str, Any]:
    with ledger.store.reading() as connection:
        return ANSWERS[question](connection, query)


def grow(ledger: Ledger, count: int, life: int = LIFE) -> None:
    for _ in range(count):
        ledger.source.append(entry(), life=life)
    ledger.round()


def replace(ledger: Ledger, backup: Path | None) -> None:
    """Put a backup in the place of the ledger, or nothing; the gateway starts again with new segments."""
    ledger.store.close()
    for file in ledger.path.parent.iterdir():
        file.unlink()
    if backup is not None:
        shutil.copy(backup, ledger.path)
    ledger.source.files.clear()
    ledger.open()


def save(ledger: Ledger, to: Path) -> Path:
    with sqlite3.connect(ledger.path) as connection, sqlite3.connect(to) as other:
        connection.backup(other)
    connection.close()
    other.close()
    return to


def row(n: int) -> object:
    return ("row", n)


def test_an_offset_belongs_to_its_query() -> None:
    mine, other = Filters(consumer="a").digest(), Filters(consumer="b").digest()
    text = offset_text(123, mine, row)
    assert offset({"offset": text}, mine, 123, row) == 123 and offset({}, mine, 0, row) == 0
    with pytest.raises(BadQuery, match="belongs to a query with other filters"):
        offset({"offset": text}, other, 123, row)
    long = base64.urlsafe_b64encode(f"1.{mine}.a.b".encode()).decode()
    for bad in ("", "x", "////", "MTIz", "é", "a" * 100, offset_text(-1, mine, row), long):
        with pytest.raises(BadQuery, match="is not an offset"):
            offset({"offset": bad}, mine, 123, row)


@given(st.text(max_size=100))
def test_any_text_is_an_offset_or_an_error(text: str) -> None:
    for given_text in (text, base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode()):
        with pytest.raises(BadQuery):
            offset({"offset": given_text}, Filters().digest(), 5, row)


def test_offset_of_a_ledger_that_was_restored_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    grow(ledger, 5)
    backup, at_backup = save(ledger, tmp_path / "backup.db"), ask(ledger)["offset"]
    grow(ledger, 5)
    later = ask(ledger)["offset"]
    replace(ledger, backup)
    with pytest.raises(BadQuery, match=RESTORED):
        ask(ledger, offset=later)
    grow(ledger, 5, LIFE + 1)
    with pytest.raises(BadQuery, match=RESTORED):
        ask(ledger, offset=later)
    assert len(ask(ledger, offset=at_backup)["data"]) == 5
    # The repair that the error names.
    again = ask(ledger, after=str(NOON))
    assert len(again["data"]) == 10 and ask(ledger, after=str(NOON), offset=again["offset"])["data"] == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(1, 6), st.integers(0, 9))
def test_offset_holds_if_its_event_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kept: int, lost: int, new: int
) -> None:
    folder, rnd = tmp_path_factory.mktemp("restored"), random.Random(seed)
    ledger = Ledger(folder)
    grow(ledger, kept)
    backup = save(ledger, folder / "backup.db") if kept or rnd.random() < 0.5 else None
    grow(ledger, lost)
    offsets = [ask(ledger, size="1")["offset"]]
    while len(offsets) < kept + lost:
        offsets.append(ask(ledger, size="1", offset=offsets[-1])["offset"])
    replace(ledger, backup)
    grow(ledger, new, LIFE + 1 + rnd.randrange(9))
    for n, text in enumerate(offsets, 1):
        if n <= kept:
            assert len(ask(ledger, offset=text)["data"]) == kept + new - n
        else:
            with pytest.raises(BadQuery, match=RESTORED):
                ask(ledger, offset=text)
    ledger.store.close()


def test_offset_after_a_deleted_event_goes_on(ledger: Ledger) -> None:
    grow(ledger, 3)
    first = ask(ledger, size="2")["offset"]
    ledger.now, ledger.retention = NOON + 9 * 86400.0, Retention(events_s=60)
    ledger.tidy()
    grow(ledger, 1, LIFE + 1)
    assert len(ask(ledger, offset=first)["data"]) == 2


def test_offset_of_an_earlier_version_goes_on(ledger: Ledger) -> None:
    grow(ledger, 3)

    def old(n: int) -> str:
        return base64.urlsafe_b64encode(f"{n}.{Filters().digest()}".encode()).decode().rstrip("=")

    assert len(ask(ledger, offset=old(2))["data"]) == 1 and ask(ledger, offset=old(3))["data"] == []
    with pytest.raises(BadQuery, match=RESTORED):
        ask(ledger, offset=old(4))


def test_offset_of_prices_is_checked_too(ledger: Ledger) -> None:
    def note(book: PriceBook, amount: int) -> None:
        classes = dict.fromkeys(("input", "cached_input", "cache_write", "output", "reasoning", "request"), amount)
        book.note({("price", "t"): version({"input": amount}, {**classes, "special": None})}, NOON)

    book = PriceBook(ledger.store)
    note(book, 1)
    note(book, 2)
    last = ask(ledger, "prices")["offset"]
    assert ask(ledger, "prices", offset=last)["data"] == []
    replace(ledger, None)
    with pytest.raises(BadQuery, match=RESTORED):
        ask(ledger, "prices", offset=last)
    note(PriceBook(ledger.store), 3)
    note(PriceBook(ledger.store), 4)
    with pytest.raises(BadQuery, match=RESTORED):
        ask(ledger, "prices", offset=last)
