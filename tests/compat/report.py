"""The results of the matrix as a table for the terminal and as the page docs/reference/compat.md."""

import datetime
import platform
from dataclasses import dataclass, field
from importlib.metadata import version

from tests.compat.cases import CASES
from tests.compat.clients import CLIENTS


@dataclass
class Row:
    """The results of one client by case: `ok`, `skipped: reason` or `failed: reason`."""

    name: str
    versions: str = ""
    results: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(result.startswith("failed") for result in self.results.values())


def count(rows: list[Row], word: str) -> int:
    return sum(result.startswith(word) for row in rows for result in row.results.values())


def closing(rows: list[Row]) -> str:
    """The line that counts."""
    return f"{count(rows, 'ok')} passed, {count(rows, 'failed')} failed, {count(rows, 'skipped')} skipped"


def short(result: str) -> str:
    return {"ok": "ok", "skipped": "-", "failed": "FAILED"}[result.partition(":")[0]]


def reasons(rows: list[Row]) -> list[str]:
    """Each failure and skip with its reason; one that is the same for all cases once."""
    found = []
    for row in rows:
        told: dict[str, list[str]] = {}
        for case, result in row.results.items():
            if result != "ok":
                told.setdefault(result, []).append(case)
        for result, cases in told.items():
            found.append(f"{row.name}, {'all' if len(cases) == len(CASES) else ', '.join(cases)}: {result}")
    return found


def table(rows: list[Row]) -> str:
    """The table for a terminal."""
    wide = max(len(row.name) for row in rows)
    lines = ["", " " * wide + "  " + "  ".join(CASES)]
    for row in rows:
        cells = [f"{short(row.results[case]):{len(case)}}" for case in CASES]
        lines.append(f"{row.name:{wide}}  " + "  ".join(cells).rstrip())
    return "\n".join([*lines, "", *reasons(rows)])


def page(rows: list[Row]) -> str:
    """The page of the reference."""
    today = datetime.datetime.now(datetime.UTC).date()
    head = "| Client | Version | " + " | ".join(CASES) + " |\n|" + "---|" * (len(CASES) + 2) + "\n"
    body = "".join(
        f"| {row.name} | {row.versions or 'not installed'} | "
        + " | ".join(short(row.results[case]) for case in CASES)
        + " |\n"
        for row in rows
    )
    notes = "".join(f"- {reason}\n" for reason in reasons(rows))
    notes += "".join(f"- {row.name}: {CLIENTS[row.name].note}\n" for row in rows if CLIENTS[row.name].note)
    return (
        "# Clients\n\n<!-- Made by `make compat`. Run it again instead of editing this page. -->\n\n"
        f"Run of {today} with aigw {version('aigw')} on Python {platform.python_version()}: {closing(rows)}.\n\n"
        "Each client makes each call through a gateway with a mock LLM behind it. A case compares the client's view (text, parsed\n"
        "arguments, class and code of the exception) with the mock's counters, the gateway's metrics and the consumer's used amounts.\n"
        "`429 burst` is retried by the client and succeeds, `429 quota` is asked once by clients that read `x-should-retry`, `disconnect`\n"
        "ends the model's work. `-`: skipped, with the reason below the table.\n\n"
        f"{head}{body}\n{notes}"
    )
