"""The guides are true: each file of tiers.md passes the check, each field is described, each error of openai.md is in the table."""

import re
from pathlib import Path
from typing import Final

import pytest

from aigw._native import denials
from aigw.config import read_text
from aigw.entities.rates import Rates
from aigw.entities.tier import Allow, Limit, Output, Parameters, Prompt, TierSpec, Timeouts

GUIDES: Final = Path(__file__).parents[3] / "docs/guides"
TIERS: Final = (GUIDES / "tiers.md").read_text(encoding="utf-8")
OPENAI: Final = (GUIDES / "openai.md").read_text(encoding="utf-8")
FILES: Final = re.findall(r"^```yaml\n(.*?)^```$", TIERS, flags=re.MULTILINE | re.DOTALL)
LATER: Final = {"weight", "reserved_concurrency", "description", "input_tokens", "output_tokens"}


@pytest.mark.parametrize("text", FILES)
def test_each_file_of_the_guide_can_be_used(text: str) -> None:
    assert read_text("guide.yaml", text.encode(), {"ALICE_KEY": "a-key-of-alice"}).tiers


def test_the_guide_names_every_field() -> None:
    for model in (TierSpec, Limit, Allow, Parameters, Prompt, Output, Timeouts, Rates):
        missing = [name for name in model.model_fields if name not in LATER and not re.search(rf"\b{name}\b", TIERS)]
        assert missing == [], model.__name__


def test_the_guide_shows_the_errors_of_the_table() -> None:
    statuses = {str(row["code"]): row["status"] for row in denials()}
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \| (\d+) \| `", OPENAI, flags=re.MULTILINE)
    documented = {code: int(status) for codes, status in rows for code in re.findall(r"[a-z_]+", codes)}
    assert {code: statuses[code] for code in documented} == documented
    assert len(documented) >= 20
