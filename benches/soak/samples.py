"""The sizes of a gateway over time, and the verdict on them.

In: processes and the data folder. Out: a `Sample` every few seconds, and `verdict`: the findings about the second half of a run, when caches
and pools are full. Memory is `RssAnon`: pages of mapped files come back to the kernel by themselves.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

MIB: Final = 1 << 20
MOST_GROWTH: Final = 1.0
"""MiB for each 100,000 requests."""
MOST_DESCRIPTORS: Final = 16
"""More than in the first half: connections of the moment."""
MOST_FOLDER: Final = 96 * MIB
"""Bytes that the data folder may be larger than in the first half: a day's ledger has its bound, and its segments wait for it."""


class Process(NamedTuple):
    """One process of the gateway."""

    role: str
    anonymous: int
    """Bytes."""
    descriptors: int


class Sample(NamedTuple):
    """The gateway at one moment."""

    requests: int
    """Since its start."""
    processes: dict[int, Process]
    folder: int
    """Bytes on disk."""


def take(pids: Iterable[int], folder: Path, requests: int) -> Sample:
    """A sample now. Processes that end meanwhile are left out."""
    found = {}
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            role = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            continue
        kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        word = next((name for name in ("worker", "control") if f"serve.{name}" in role), "supervisor")
        found[pid] = Process(word, kib * 1024, descriptors)
    return Sample(requests, found, _on_disk(folder))


def _on_disk(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:  # a segment that was compacted
            continue
    return total


def growth(samples: Sequence[Sample], pid: int) -> float:
    """MiB of one process for each 100,000 requests: the slope of the least squares."""
    points = [(one.requests, one.processes[pid].anonymous) for one in samples if pid in one.processes]
    x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((requests - x) ** 2 for requests, _ in points)
    slope = sum((requests - x) * (size - y) for requests, size in points) / spread if spread else 0.0
    return slope * 100_000 / MIB


def verdict(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Lines about the second half of a run, and findings: an empty list for a run that holds all bounds."""
    first, second = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    lines, findings = [], []
    for pid, process in second[-1].processes.items():
        name = f"{process.role} {pid}"
        grows = growth(second, pid)
        counts = [[one.processes[pid].descriptors for one in half if pid in one.processes] for half in (first, second)]
        most = [max(half, default=0) for half in counts]
        sizes = process.anonymous / MIB
        lines.append(f"{name}: {sizes:.1f} MiB, {grows:+.2f} MiB per 100,000 requests, at most {most[1]} descriptors")
        if grows > MOST_GROWTH:
            findings.append(f"{name} grows by {grows:.2f} MiB per 100,000 requests (bound {MOST_GROWTH})")
        if most[1] > most[0] + MOST_DESCRIPTORS and most[0]:
            findings.append(f"{name} has {most[1]} descriptors, and had {most[0]} in the first half")
    folders = [max(one.folder for one in half) for half in (first, second)]
    lines.append(f"data folder: at most {folders[1] / MIB:.0f} MiB, {folders[0] / MIB:.0f} MiB in the first half")
    if folders[1] > folders[0] + MOST_FOLDER:
        findings.append(f"the data folder grows: {folders[0] / MIB:.0f} MiB, then {folders[1] / MIB:.0f} MiB")
    if len({*second[0].processes} ^ {*second[-1].processes}):
        findings.append("a process ended during the second half")
    return lines, findings
