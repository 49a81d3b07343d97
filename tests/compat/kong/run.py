"""Runs decK's cycle and the client's tests, and writes docs/reference/kong-clients.md. `python -m tests.compat kong [record]`."""

import datetime
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.compat.clients import Skipped
from tests.compat.kong import cycle, groups, record
from tests.compat.kong.tools import Tools, install
from tests.support.processes import start_gateway

PAGE: Final = Path(__file__).parents[3] / "docs" / "reference" / "kong-clients.md"
SHOWN: Final = {"AIGW_ADMIN_SHOWS_KEYS": "1"}
RECORDED: Final = 2
"""Consumers of the recorded cycle."""
Results = list[tuple[str, str, str]]
Steps = Callable[[cycle.Cycle, int], Iterator[str]]


def main(*, recorded: bool = False) -> bool:
    """Run all, or record the cycle. Returns whether something failed."""
    try:
        tools = install()
    except Skipped as why:
        print(f"kong: skipped: {why}; the recorded cycle is replayed by tests/integration/kong")
        return False
    if recorded:
        _record(tools)
        return False
    rows = [*_deck(tools, cycle.shown, SHOWN), *_deck(tools, cycle.hidden, {}), *_client(tools)]
    PAGE.write_text(_page(tools, rows), encoding="utf-8")
    print(f"written: {PAGE.relative_to(PAGE.parents[2])}")
    print(f"kong: {_closing(rows)}")
    return any(result.startswith("failed") for *_, result in rows)


def _deck(tools: Tools, steps: Steps, env: dict[str, str]) -> Results:
    with tempfile.TemporaryDirectory(prefix="aigw-deck-") as folder:
        gateway = start_gateway(Path(folder) / "data", env=env)
        one = cycle.Cycle(tools.deck, gateway.admin, Path(folder))
        failed: Results = []
        try:
            for _ in steps(one, cycle.MANY):
                pass
        except AssertionError as error:
            failed = [("decK", list(one.took)[-1], f"failed: {error}")]
        finally:
            gateway.process.end()
    rows: Results = [("decK", step, f"ok: {seconds:.1f} s") for step, seconds in one.took.items()]
    return _told([*(rows[:-1] if failed else rows), *failed])


def _client(tools: Tools) -> Results:
    with tempfile.TemporaryDirectory(prefix="aigw-kong-") as folder:
        gateway = start_gateway(Path(folder) / "data", env=SHOWN)
        try:
            return [row for found in groups.run(tools, gateway.admin) for row in _told([found])]
        finally:
            gateway.process.end()


def _record(tools: Tools) -> None:
    found: list[record.Exchange] = []
    for steps, env in ((cycle.shown, SHOWN), (cycle.hidden, {})):
        with tempfile.TemporaryDirectory(prefix="aigw-deck-") as folder:
            gateway = start_gateway(Path(folder) / "data", env=env)
            found.append(["START", env, None, 0, None])
            try:
                with record.recording(gateway.admin, found) as url:
                    for _ in steps(cycle.Cycle(tools.deck, url, Path(folder)), RECORDED):
                        pass
            finally:
                gateway.process.end()
    record.write(found)
    print(f"written: {record.FILE.relative_to(PAGE.parents[2])}, {record.FILE.stat().st_size} bytes")


def _told(rows: Results) -> Results:
    for group, name, result in rows:
        print(f"kong: {group:16} {name:44} {result}", flush=True)
    return rows


def _closing(rows: Results) -> str:
    counts = Counter(result.partition(":")[0] for *_, result in rows)
    lacking = counts["expected"]
    return f"{counts['ok']} passed, {counts['failed']} failed, {counts['skipped'] + lacking} skipped ({lacking} of parts that aigw lacks)"


def _page(tools: Tools, rows: Results) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in tools.versions.items())
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [
        "# Kong's clients", "", "<!-- Made by `make compat`. Run it again instead of editing this page. -->", "",
        f"Run of {today} with aigw {version('aigw')}, {versions}: {_closing(rows)}.", "",
        "decK syncs, dumps and compares two services, three routes, an upstream, a consumer group, six plugins, two certificates",
        f"with three SNIs, two CA certificates and {cycle.MANY:,} consumers with a key and a group each.",
        "The other rows are the client's own tests, with `AIGW_ADMIN_SHOWS_KEYS=1`. `expected`: it needs a part of Kong that aigw lacks.",
        "",
        "| Group | Test | Result |", "|---|---|---|",
        *(f"| {group} | {name} | {result} |" for group, name, result in rows), "",
    ]  # fmt: skip
    return "\n".join(lines)
