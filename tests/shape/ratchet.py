"""The faults that the fences still allow, in `ratchet.toml`: by name, with a number where there is one. They may only shrink.

A fault that is not listed, or is larger than listed, fails a test. An entry that is no longer true fails a test, too, and
`AIGW_RATCHET=write` takes it out or lowers it. Nothing here ever raises a number: that is an edit by hand, with a reason.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("ratchet.toml")
HEAD: Final = """\
# Faults that are still allowed (tests/shape/ratchet.py). Entries may only shrink: AIGW_RATCHET=write .venv/bin/pytest tests/shape
"""
SECTIONS: Final = ("long_functions", "cycles", "split_impls")


def judge(allowed: Mapping[str, int], found: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """(faults that are new or grew, entries of `allowed` as they may stand from now on)."""
    grown = {name: size for name, size in found.items() if size > allowed.get(name, 0)}
    kept = {name: min(size, found[name]) for name, size in allowed.items() if found.get(name, 0) > 0}
    return grown, kept


def written(sections: Mapping[str, Mapping[str, int]]) -> str:
    """The text of `ratchet.toml`."""
    parts = [HEAD]
    for section in SECTIONS:
        lines = [f'"{name}" = {size}\n' for name, size in sorted(sections.get(section, {}).items())]
        parts.append(f"\n[{section}]\n" + "".join(lines))
    return "".join(parts)


def hold(section: str, found: Mapping[str, int], repair: str) -> None:
    """Fails on faults beyond the list, and on entries that could be lower."""
    sections: dict[str, dict[str, int]] = tomllib.loads(FILE.read_text())
    allowed = sections.get(section, {})
    grown, kept = judge(allowed, found)
    assert grown == {}, repair
    if kept != allowed and os.environ.get("AIGW_RATCHET") == "write":
        FILE.write_text(written({**sections, section: kept}))
    else:
        assert kept == allowed, "fewer or smaller now: run AIGW_RATCHET=write .venv/bin/pytest tests/shape, and commit"
