"""The crates that the wheel is built from, held against `deny.toml`: licences, duplicate versions, sources, banned crates.

`cargo deny` checks more, and is on few machines; this reads the same file and asks `cargo metadata` for the dependencies.
"""

import json
import re
import subprocess
import tomllib
from functools import cache
from typing import Any, Final

import pytest

from tests.shape.files import ROOT

DENY: Final[dict[str, Any]] = tomllib.loads((ROOT / "deny.toml").read_text())


@cache
def packages() -> list[dict[str, Any]]:
    """Every package of the graph on the targets of `deny.toml`, our own crates included."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"]
    command += [word for target in DENY["graph"]["targets"] for word in ("--filter-platform", target)]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs cargo")
    if answer.returncode and "--offline" in answer.stderr:
        pytest.skip("needs the sources of every dependency, which `cargo fetch` brings")
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)["packages"]
    assert len(found) > 50
    return found


def permitted(license_: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met by the allowed licences alone. `/` is the older spelling of OR."""
    words = re.findall(r"\(|\)|OR|AND|/|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?", license_)
    signs = {"(": "(", ")": ")", "OR": " or ", "/": " or ", "AND": " and "}
    return bool(eval("".join(signs.get(word) or str(word in allowed) for word in words), {}))


def unexplained(versions: dict[str, set[str]], skips: list[str]) -> dict[str, set[str]]:
    """Crates with more than one version after `skips` (`name@version prefix`) are taken out."""

    def left(name: str, found: set[str]) -> set[str]:
        prefixes = [skip.partition("@")[2] for skip in skips if skip.partition("@")[0] == name]
        return {one for one in found if not any(f"{one}.".startswith(f"{prefix}.") for prefix in prefixes)}

    return {name: found for name, all_ in versions.items() if len(found := left(name, all_)) > 1}


def test_every_licence_is_allowed_and_every_allowed_one_is_needed() -> None:
    allowed = set(DENY["licenses"]["allow"])
    assert {p["name"]: p["license"] for p in packages() if not permitted(p["license"] or "", allowed)} == {}
    everything = " ".join(p["license"] for p in packages())
    assert {one for one in allowed if one not in everything} == set()


def test_every_second_version_has_a_reason() -> None:
    versions: dict[str, set[str]] = {}
    for package in packages():
        versions.setdefault(package["name"], set()).add(package["version"])
    skips = DENY["bans"]["skip"]
    assert all(skip["reason"] for skip in skips)
    names = [skip["crate"] for skip in skips]
    assert unexplained(versions, names) == {}
    needless = [one for one in names if unexplained(versions, [other for other in names if other != one]) == {}]
    assert needless == [], "these have one version now: take them out of deny.toml"


def test_every_source_is_the_registry_or_this_repository() -> None:
    (registry,) = DENY["sources"]["allow-registry"]
    assert {p["source"] for p in packages()} == {None, f"registry+{registry}"}


def test_no_banned_crate_is_used() -> None:
    banned = {one["crate"] for one in DENY["bans"]["deny"]}
    assert [p["name"] for p in packages() if p["name"] in banned] == []


def test_the_compiler_is_the_one_that_the_manifest_asks_for() -> None:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]
    assert re.fullmatch(rf"{re.escape(manifest)}\.\d+", toolchain["channel"]) and set(toolchain) == {"channel"}


@pytest.mark.parametrize(
    ("license_", "wanted"),
    [
        ("MIT OR Apache-2.0", True),
        ("GPL-3.0 OR MIT", True),
        ("MIT AND GPL-3.0", False),
        ("(GPL-3.0 OR MIT) AND ISC", True),
        ("Unlicense/MIT", True),
        ("GPL-3.0", False),
        ("Apache-2.0 WITH LLVM-exception", False),
    ],
)
def test_an_expression_is_permitted_when_allowed_licences_meet_it(license_: str, wanted: bool) -> None:
    assert permitted(license_, {"MIT", "ISC", "Apache-2.0"}) == wanted


def test_a_second_version_without_a_reason_is_found() -> None:
    versions = {"syn": {"2.0.1", "3.0.0"}, "rand": {"0.2.1", "0.20.0"}, "one": {"1.0.0"}}
    assert unexplained(versions, ["syn@2"]) == {"rand": {"0.2.1", "0.20.0"}}
    assert unexplained(versions, ["syn@2", "rand@0.2"]) == {}
