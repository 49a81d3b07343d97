"""Names in the README and the guides exist: linked files, variables of the environment, targets of make."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from aigw.settings import Settings, variable

ROOT: Final = Path(__file__).parents[3]
PAGES: Final = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs/guides").glob("*.md"))]
VARIABLES: Final = {variable(setting.name) for setting in fields(Settings)}
TARGETS: Final = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_page_links_files_that_exist(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_page_names_settings_and_targets_that_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^```(?:sh|shell)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    targets = re.findall(r"^make ([a-z]+)", commands, re.MULTILINE) + re.findall(r"`make ([a-z]+)`", text)
    assert set(targets) - TARGETS == set()
    if page != "README.md":
        known = VARIABLES | {"AIGW_ADMIN_TOKEN"}
        assert {name for name in re.findall(r"\bAIGW_[A-Z_]+\b", text) if name not in known} == set()


def test_readme_links_every_guide() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [page for page in PAGES if page.startswith("docs/") and f"({page})" not in readme]
    assert missing == []
