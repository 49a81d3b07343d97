"""Finds workers that stand still: stopped, deadlocked, or in an endless loop.

In: the slots of the data folder, where each part of a worker writes the time of its last beat, and the pids of ready workers. Out: those
to kill. A word that changed is a beat; its value is not compared with this process's clock. Silence adds up over looks, and begins anew
after a look that comes late itself (a stopped supervisor, a suspended or overloaded machine), so no worker pays for a pause of everybody.
A silent worker that computes, or waits for a processor, gets `PATIENCE` times as long.
"""

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

LOOK_S: Final = 0.5
LATE_S: Final = 2 * LOOK_S
PATIENCE: Final = 4
PARTS: Final = ("loop", "server", "upstream")
MOST_SLOTS: Final = 64
_HEADER_BYTES: Final = 4096
# Words of the header: `src/io/cells/slots.rs`.
_PID: Final = 4
_STATE: Final = 5
_LIFE: Final = 10
_BEATS: Final = 13
_SERVES: Final = (2, 3)


class Still(NamedTuple):
    """A worker that stands still."""

    pid: int
    part: str
    silent_s: float


@dataclass
class _Watched:
    """One worker: its slot, the beats seen last, the silence of each part, and the work that it had done when the silence began."""

    words: memoryview
    seen: tuple[int, ...]
    worked: float
    silent: list[float] = field(default_factory=lambda: [0.0] * len(PARTS))


class Beats:
    """The beats of one gateway's workers. `cells` is `DATA/cells`."""

    def __init__(self, cells: Path, limit_s: float) -> None:
        self._cells = cells
        self._limit = limit_s
        self._watched: dict[int, _Watched] = {}
        self._looked = 0.0
        self.next_look = 0.0

    def look(self, now: float, pids: list[int]) -> list[Still]:
        """Look at these workers, which are ready. Returns those that stand still for too long."""
        passed = now - self._looked
        if passed > LATE_S:
            passed = 0.0
            for one in self._watched.values():
                one.silent = [0.0] * len(PARTS)
        self._looked, self.next_look = now, now + LOOK_S
        self._watched = {pid: one for pid, one in self._watched.items() if pid in pids}
        for pid in pids:
            if pid not in self._watched and (words := self._find(pid)) is not None:
                self._watched[pid] = _Watched(words, _beats(words), worked(pid))
        return [still for pid, one in self._watched.items() if (still := self._judge(pid, one, passed)) is not None]

    def _judge(self, pid: int, one: _Watched, passed: float) -> Still | None:
        seen = _beats(one.words)
        moved = [old != new for old, new in zip(one.seen, seen, strict=True)]
        if all(moved):
            one.worked = worked(pid)
        one.seen = seen
        one.silent = [0.0 if moves else silent + passed for moves, silent in zip(moved, one.silent, strict=True)]
        longest = max(one.silent)
        if longest < self._limit:
            return None
        busy = worked(pid) - one.worked >= longest / 2
        if busy and longest < PATIENCE * self._limit:
            return None
        part = PARTS[one.silent.index(longest)]
        one.silent = [0.0] * len(PARTS)  # one that survives is told again after as long
        return Still(pid, part, round(longest, 1))

    def _find(self, pid: int) -> memoryview | None:
        """The header of the slot that a worker holds. A container gives each start the same pids, and a killed gateway leaves slots that
        control has not freed yet: the last owner with this pid is the living one."""
        held = [words for words in self._slots() if words[_PID] == pid and words[_STATE] in _SERVES]
        return max(held, key=lambda words: words[_LIFE], default=None)

    def _slots(self) -> Iterator[memoryview]:
        for number in range(MOST_SLOTS):
            try:
                with (self._cells / f"slot-{number:02}").open("rb") as file:
                    yield memoryview(mmap.mmap(file.fileno(), _HEADER_BYTES, access=mmap.ACCESS_READ)).cast("Q")
            except (OSError, ValueError):
                return


def _beats(words: memoryview) -> tuple[int, ...]:
    return tuple(words[_BEATS : _BEATS + len(PARTS)])


def worked(pid: int) -> float:
    """Seconds that the threads of a process have computed, or waited for a processor; 0 where the kernel does not count them."""
    nanos = 0
    with contextlib.suppress(OSError, ValueError):
        for thread in os.scandir(f"/proc/{pid}/task"):
            computed, waited, _ = Path(thread.path, "schedstat").read_text().split()
            nanos += int(computed) + int(waited)
    return nanos / 1e9


__all__ = ["LOOK_S", "Beats", "Still", "worked"]
