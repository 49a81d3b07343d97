"""The generated pages of the reference are what `make reference` would write now."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[str, Callable[[], str]] = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_its_table_says(name: str) -> None:
    written = DOCS / "reference" / name
    assert written.exists(), f"docs/reference/{name} is missing: run make reference"
    assert written.read_text(encoding="utf-8") == PAGES[name](), f"docs/reference/{name} is stale: run make reference"
