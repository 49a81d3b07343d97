"""Entries as the compactor gets them: any entry comes back as it was, and every column of a batch is stored, whichever of them are 0."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigw._native import Entries, EventRows
from aigw.ledger.source import ENTRY
from aigw.ledger.tables import events

IDS = ("request_id", "parent", "run")
NUMBERS = [name for name in ENTRY if name not in IDS]
SMALL = st.integers(0, 3) | st.just(2**48 - 1)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, object]:
    given = draw(st.dictionaries(st.sampled_from(NUMBERS), SMALL, max_size=6))
    ids = {name: draw(st.none() | st.binary(min_size=16, max_size=16)) for name in IDS}
    return dict.fromkeys(ENTRY, 0) | given | ids


def tuples(of: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [tuple(one[name] for name in ENTRY) for one in of]


@given(st.lists(entries(), max_size=5))
def test_entries_come_back_as_they_were(made: list[dict[str, object]]) -> None:
    of = Entries(tuples(made))
    assert len(of) == len(made) and list(of) == tuples(made)


@given(st.lists(entries(), min_size=1, max_size=5))
def test_rows_have_every_column_that_is_not_zero_in_the_whole_batch(made: list[dict[str, object]]) -> None:
    rows = EventRows([(7, Entries(tuples(made)))], 11, lambda version: version % 1000, lambda *_: None)
    names = [column.name for column in events.c]
    used = [name for name, is_used in zip(names, rows.used, strict=True) if is_used]
    for n, (one, row) in enumerate(zip(made, rows.rows, strict=True), 11):
        changed = {name: one[name] % 1000 for name in ("price_version", "cost_version")}  # type: ignore[operator]
        duration = one["ended_at"] - one["admitted_at"]  # type: ignore[operator]
        request = one["request_id"] or bytes(16)
        wanted = {**one, **changed, "n": n, "cursor": 7, "duration": duration, "request_id": request}
        stored = {name: None if name in IDS else 0 for name in names} | dict(zip(used, row, strict=True))
        assert stored == {name: wanted[name] for name in names}


def test_tuple_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="an entry has 41 fields, not 2"):
        Entries([(1, 2)])
