"""The generated pages of the reference and the schema of the configuration file are current."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES: dict[str, Callable[[], str]] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_its_table_says(name: str) -> None:
    written = ROOT / name
    assert written.exists(), f"{name} is missing: run make reference"
    assert written.read_text(encoding="utf-8") == PAGES[name](), f"{name} is stale: run make reference"
