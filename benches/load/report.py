"""Writes the result of a run as JSON and as a Markdown table, dated, with machine and command."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benches.load.rig import Measure
from benches.load.scenarios import SCENARIOS

Pairs = dict[str, list[tuple[Measure, Measure]]]
RESULTS = Path(__file__).parent.parent / "results"


def machine() -> dict[str, object]:
    """The machine and commit of the run."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit,
    }


def table(pairs: Pairs) -> str:
    """One row per load: medians over the pairs, and the range of the ratio."""
    rows = [
        "| load | nginx us/req | aigw us/req | ratio (min-max) | aigw req/s | nginx req/s | aigw p50/p99 us | nginx p50/p99 us | RSS MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for load in SCENARIOS:
        nginx = [pair[0] for pair in pairs[load.name]]
        aigw = [pair[1] for pair in pairs[load.name]]
        ratios = [b.cpu_us_per_request / a.cpu_us_per_request for a, b in pairs[load.name]]
        rss = max(kib for measure in aigw for role, kib in measure.rss_kib.items() if "worker" in role) / 1024
        rows.append(
            f"| {load.name} {load.title} | {_mid(nginx, 'cpu_us_per_request'):.1f} | {_mid(aigw, 'cpu_us_per_request'):.1f} "
            f"| **{median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f}) "
            f"| {_mid(aigw, 'requests_per_second'):,.0f} | {_mid(nginx, 'requests_per_second'):,.0f} "
            f"| {_mid(aigw, 'p50_us'):.0f} / {_mid(aigw, 'p99_us'):.0f} "
            f"| {_mid(nginx, 'p50_us'):.0f} / {_mid(nginx, 'p99_us'):.0f} | {rss:.0f} |"
        )
    text = "\n".join(rows) + "\n"
    cost = {name: _mid([pair[1] for pair in found], "cpu_us_per_request") for name, found in pairs.items()}
    routes = (("V1", "W1"), ("V2", "W2"), ("V3", "W3"), ("V3U", "W3"))
    beside = [f"{new} {cost[new] / cost[old]:.2f}" for new, old in routes]
    return f"{text}\n/v1 to the same gateway's route: {', '.join(beside)}.\n"


def _mid(measures: list[Measure], name: str) -> float:
    return median(float(getattr(measure, name)) for measure in measures)


def write(pairs: Pairs, command: str) -> Path:
    """Write both files. Returns the path of the table."""
    now = datetime.now(UTC)
    stem = RESULTS / f"load-{now:%Y-%m-%dT%H%M%SZ}"
    about = {"time": now.isoformat(timespec="seconds"), "command": command, "machine": machine()}
    runs = {name: [{"nginx": asdict(a), "aigw": asdict(b)} for a, b in found] for name, found in pairs.items()}
    RESULTS.mkdir(exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps({**about, "pairs": runs}, indent=1) + "\n")
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    rounds = len(next(iter(pairs.values())))
    text = f"# Load, {now:%Y-%m-%d %H:%M} UTC\n\n`{command}` on {facts}.\n"
    text += (
        f"Server on one core, client and mock on the other; medians of {rounds} interleaved pairs, 32 connections.\n\n"
    )
    stem.with_suffix(".md").write_text(text + table(pairs))
    return stem.with_suffix(".md")


def keep(name: str, command: str, results: dict[str, object]) -> Path:
    """Write one dated file of results, with machine and command. Returns its path."""
    now = datetime.now(UTC)
    about = {"time": now.isoformat(timespec="seconds"), "command": command, "machine": machine()}
    path = RESULTS / f"{name}-{now:%Y-%m-%dT%H%M%SZ}.json"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({**about, **results}, indent=1) + "\n")
    return path
