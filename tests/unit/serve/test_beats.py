"""Workers that stand still, with time as an argument: silence adds up over looks, pauses of everybody do not count, work gets longer."""

import os
import struct
from pathlib import Path

import pytest

from aigw._native import Gateway, Publisher
from aigw.serve import beats
from aigw.serve.beats import LOOK_S, PATIENCE, Beats, worked

LIMIT = 5.0
PID = 4711
STORE = "0123abcd-0000-4000-8000-00000000000f"


class Slots:
    """Slot files with heads only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, number: int, pid: int, state: int, beats: tuple[int, int, int], life: int = 0) -> None:
        """Write the head that a worker would show."""
        words = [0] * 512
        words[4:6] = [pid, state]
        words[10] = life
        words[13:16] = beats
        with (self.folder / f"slot-{number:02}").open("r+b" if number in self.made() else "wb") as file:
            file.write(struct.pack("=512Q", *words))

    def made(self) -> list[int]:
        """Numbers of the slots that have a file."""
        return [int(path.name[-2:]) for path in self.folder.glob("slot-*")]


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path)


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of work of every process, which a test changes."""
    seconds = [0.0]
    monkeypatch.setattr(beats, "worked", lambda _pid: seconds[0])
    return seconds


def silence(watch: Beats, begin: float, looks: int) -> list[tuple[float, beats.Still]]:
    """The findings of so many looks on time, each with the time since the first."""
    times = [begin + LOOK_S * n for n in range(looks)]
    return [(now - begin, still) for now in times for still in watch.look(now, [PID])]


def test_part_that_stands_still_is_found_after_the_limit(slots: Slots) -> None:
    slots.write(0, 99, 2, (1, 1, 1))
    slots.write(1, PID, 2, (1, 1, 1))
    watch = Beats(slots.folder, LIMIT)
    watch.look(100, [PID])
    for n in range(40):  # loop and server move in every second look only
        slots.write(1, PID, 2, (1 + n // 2, 1 + n // 2, 1 + n))
        assert watch.look(100.5 + n * LOOK_S, [PID]) == []
    found = []
    for n in range(11):
        slots.write(1, PID, 2, (50, 50 + n, 50 + n))
        found += watch.look(121 + n * LOOK_S, [PID])
    assert found == [(PID, "loop", 5.0)]


def test_slot_of_a_dead_worker_with_the_same_pid_is_not_the_living_ones(slots: Slots) -> None:
    slots.write(0, PID, 2, (1, 1, 1), life=1)
    slots.write(1, 99, 2, (1, 1, 1), life=3)
    slots.write(2, PID, 2, (1, 1, 1), life=2)
    watch = Beats(slots.folder, LIMIT)
    for n in range(40):
        slots.write(2, PID, 2, (n, n, n), life=2)
        assert watch.look(n * LOOK_S, [PID]) == []


def test_pause_of_everybody_is_no_silence(slots: Slots) -> None:
    slots.write(0, PID, 2, (1, 1, 1))
    watch = Beats(slots.folder, LIMIT)
    watch.look(0, [PID])
    for now in (60, 120, 180):  # a stopped supervisor, a suspended machine: a late look says nothing
        assert watch.look(now, [PID]) == []
    assert silence(watch, 180.5, 9) == []
    assert watch.look(240, [PID]) == []  # the silence before the pause is forgotten
    assert silence(watch, 240.5, 9) == []
    assert silence(watch, 245.0, 1) == [(0.0, (PID, "loop", LIMIT))]


def test_worker_that_computes_gets_longer(slots: Slots, work: list[float]) -> None:
    slots.write(0, PID, 2, (1, 1, 1))
    watch = Beats(slots.folder, LIMIT)
    found = []
    for n in range(60):
        work[0] = n * LOOK_S
        found += [(n * LOOK_S, still.pid) for still in watch.look(n * LOOK_S, [PID])]
    assert found == [(PATIENCE * LIMIT, PID)]


def test_worker_without_a_slot_or_not_ready_is_not_judged(slots: Slots) -> None:
    watch = Beats(slots.folder, LIMIT)
    assert silence(watch, 0, 40) == []
    slots.write(0, PID, 1, (1, 1, 1))
    assert silence(watch, 100, 40) == []


def test_work_of_a_process_grows_with_its_work() -> None:
    before = worked(os.getpid())
    while worked(os.getpid()) < before + 0.02:
        sum(range(10_000))
    assert worked(2**22 + 1) == 0


def test_words_are_where_the_native_part_writes_them(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path), STORE)
    gateway = Gateway(str(tmp_path))
    watch, pid = Beats(tmp_path / "cells", LIMIT), os.getpid()
    gateway.ready(True)
    (slot,) = publisher.slots()
    (life,) = struct.unpack_from("=Q", (tmp_path / "cells" / "slot-00").read_bytes(), beats._LIFE * 8)
    assert list((tmp_path / "ledger").glob(f"{life:016x}-00-*")), "the word of the owner's begin"
    assert slot["pid"] == pid and int(str(slot["silent_ms"])) < 60_000
    assert watch.look(0, [pid]) == []
    found = [still for n in range(1, 15) for still in watch.look(n * LOOK_S, [pid])]
    assert found[0] == (pid, "loop", LIMIT)  # nothing moves here: the first part of three
    for n in range(20, 40):
        gateway.beat(server=True)
        found = watch.look(n * LOOK_S, [pid])
    gateway.close()
