"""The guides for operators have every log event, refusal and start error, and their queries name metrics that exist."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aigw._native import denials, metrics_table

ROOT: Final = Path(__file__).parents[3]
LOGS: Final = (ROOT / "docs/guides/logs-and-metrics.md").read_text(encoding="utf-8")
TROUBLE: Final = (ROOT / "docs/guides/troubleshooting.md").read_text(encoding="utf-8")
DASHBOARD: Final = json.loads((ROOT / "deploy/grafana/aigw.json").read_text(encoding="utf-8"))
STARTS: Final = (
    "settings.py",
    "types.py",
    "serve",
    "sqlite.py",
    "control/store",
    "ledger/database.py",
    "cli/verbs/demo.py",
)
"""Where the errors of a start are raised."""


def calls(*places: str) -> Iterator[tuple[str, ast.Call]]:
    """(name of the function, call) in these files and folders of the package."""
    for place in places:
        path = ROOT / "python/aigw" / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield getattr(node.func, "id", getattr(node.func, "attr", "")), node


def texts(node: ast.AST) -> list[str]:
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def test_each_event_of_the_process_log_is_explained() -> None:
    events = {
        text
        for name, call in calls(".")
        if name in ("log", "_log") and call.args
        for text in texts(call.args[0])
        if re.fullmatch(r"[a-z]+(_[a-z]+)*", text)
    }
    assert len(events) > 25
    assert sorted(event for event in events if f"`{event}`" not in LOGS) == []


def test_each_refusal_has_a_repair() -> None:
    first = {
        code
        for cell in re.findall(r"^\| (`[^|]*) \|", TROUBLE, flags=re.MULTILINE)
        for code in re.findall(r"\w+", cell)
    }
    assert sorted(code for row in denials() if (code := str(row["code"])) not in first) == []


def test_each_error_of_a_start_can_be_found() -> None:
    missing = []
    for name, call in calls(*STARTS):
        if name in ("ConfigError", "StoreError", "AigwError"):
            parts = [part for text in texts(call) if len(part := text.strip(" ':;.")) > 8]
            if parts and not any(part[:20].rstrip() in TROUBLE for part in parts):
                missing.append(parts)
    assert missing == []


def test_queries_name_metrics_and_labels_that_exist() -> None:
    rows = {str(row["name"]): row for row in metrics_table()}
    known = {name: {*map(str, row["labels"]), "le"} for name, row in rows.items()}  # type: ignore[call-overload]
    queries = [line for text in re.findall(r"^```promql\n(.*?)^```$", LOGS, flags=re.MULTILINE | re.DOTALL)
               for line in text.splitlines() if not line.startswith("#")]  # fmt: skip
    queries += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    for query in queries:
        used = re.findall(r"\b(?:kong|aigw|gen_ai)_[a-z_]+(?=\{|\[|\)| |$)", query)
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} - {"aigw_tier"}
        names = {
            name
            for name in names
            if not name.startswith("gen_ai_") or name in known or name.endswith(("_seconds", "_usage"))
        }
        assert names and names <= set(known), query
        for by in re.findall(r"by \(([^)]*)\)", query):
            labels = {label.strip() for label in by.split(",")}
            assert any(labels <= known[name] for name in names), query
