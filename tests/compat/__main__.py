"""The matrix of clients: each client makes each call through a real gateway, and the table shows the results.

`make compat` runs it: `python -m tests.compat [CLIENT ...]`. In: names of clients, or all of them. Out: the table on the terminal and, after a
run of all clients, in docs/reference/compat.md. A client that cannot be installed is skipped, with its reason. `kong` is decK with Kong's Go
client (`tests/compat/kong`), and `kong record` records decK's requests.
Exit codes: 0 all passed or skipped, 1 a call failed, 2 an unknown name.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.compat.cases import CASES
from tests.compat.clients import CLIENTS, Skipped
from tests.compat.kong.run import main as kong
from tests.compat.program import Program
from tests.compat.report import Row, closing, page, table
from tests.compat.rig import Rig, rig

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "compat.md"


def run(name: str, world: Rig) -> Row:
    """All cases of one client."""
    client = CLIENTS[name]
    try:
        command = client.install()
    except Skipped as why:
        return Row(name, "", dict.fromkeys(CASES, f"skipped: {why}"))
    row = Row(name)
    with Program(command, client.environment()) as program:
        row.versions = ", ".join(f"{package} {number}" for package, number in program.versions.items())
        for case, check in CASES.items():
            if reason := client.lacks.get(case):
                row.results[case] = f"skipped: {reason}"
                continue
            try:
                check(world, client, program)
                row.results[case] = "ok"
            except Exception as error:  # noqa: BLE001  (a fault of one case must not end the others)
                row.results[case] = f"failed: {type(error).__name__}: {error}"
            print(f"{name:12} {case:18} {row.results[case]}", flush=True)
    return row


def main(wanted: list[str]) -> int:
    """Run the matrix, and Kong's clients. Returns the exit code."""
    if wanted[:1] == ["kong"]:
        return int(kong(recorded=wanted[1:] == ["record"]))
    if unknown := [name for name in wanted if name not in CLIENTS]:
        print(f"make compat: unknown client {unknown[0]!r}: use one of {', '.join(CLIENTS)}, or kong", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="aigw-compat-") as folder, rig(Path(folder)) as world:
        rows = [run(name, world) for name in wanted or CLIENTS]
    print(table(rows))
    if not wanted:
        PAGE.write_text(page(rows), encoding="utf-8")
        print(f"written: {PAGE.relative_to(PAGE.parents[2])}")
    print(closing(rows))
    failed = any(row.failed for row in rows)
    return int(failed if wanted else kong() or failed)


sys.exit(main(sys.argv[1:]))
