"""The watch reads a changed file when it is complete, as far as the kernel can tell, and then reports its errors."""

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from aigw.serve import watch
from aigw.serve.watch import LOOK_S, Seen, Settling, Watch
from aigw.telemetry.families import text
from aigw.telemetry.faults import Faults

# A moment later: sums of floats are not exact.
QUIET_S, CAREFUL_S = (s + 0.001 for s in (watch.QUIET_S, watch.CAREFUL_S))
FULL = 1000
Step = tuple[float, int, bool | None]
"""(time of the change, size in bytes, whether a process writes the file)."""


def version(number: int, size: int = FULL, inode: int = 1) -> Seen:
    return ((1, inode, size, number, number, 0),)


def settled() -> Settling:
    settling = Settling(version(0))
    settling.look(0.0, version(0))
    assert not settling.due(100.0)
    return settling


def readings(settling: Settling, story: list[Step], until: float) -> Iterator[tuple[float, int]]:
    """(time, size) of each read, with the looks of the watch."""
    now, at = 1.0, 0
    while now < until:
        while at < len(story) and story[at][0] <= now:
            at += 1
        if at:
            _, size, written = story[at - 1]
            number = sum(1 for a, b in pairwise(story[:at]) if a[1] != b[1]) + 1
            settling.look(now, version(number, size))
            if settling.moving:
                settling.ask(now, written)
            if settling.due(now):
                yield now, size
                settling.done(applied=True)
        now += LOOK_S


def test_the_watch_reads_a_quiet_file_once_and_soon() -> None:
    settling = settled()
    settling.look(1.0, version(1))
    settling.ask(1.0, False)
    assert not settling.due(1.0 + QUIET_S / 2)
    assert settling.due(1.0 + QUIET_S) and not settling.last(1.0 + QUIET_S)
    settling.done(applied=True)
    settling.look(2.0, version(1))
    assert not settling.due(2.0)


@pytest.mark.parametrize(("size", "written"), [(FULL - 1, False), (FULL, None)], ids=["smaller", "unknown writers"])
def test_the_watch_reads_a_file_that_may_be_cut_off_later(size: int, written: bool | None) -> None:
    settling = settled()
    settling.look(1.0, version(1, size))
    settling.ask(1.0, written)
    assert not settling.due(1.0 + QUIET_S)
    assert settling.due(1.0 + CAREFUL_S)


@pytest.mark.parametrize("pause", [0.06, 0.35, 2.0, 60.0])
def test_the_watch_waits_until_the_file_is_closed(pause: float) -> None:
    """scp, cp or an editor: the file is incomplete until it is closed."""
    steps: list[Step] = [(1.0 + pause * step, FULL * step // 10, True) for step in range(11)]
    closed = steps[-1][0] + pause
    ((when, size),) = readings(settled(), [*steps, (closed, FULL, False)], closed + 5.0)
    assert size == FULL
    assert closed <= when <= closed + QUIET_S + 2 * LOOK_S, "it is known to be whole: that is soon"


@pytest.mark.parametrize("pause", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("written", [False, None])
def test_the_watch_reads_a_file_written_in_pieces_at_its_end(pause: float, written: bool | None) -> None:
    """Each piece is opened, appended and closed; or the file is held open and the kernel cannot tell."""
    steps: list[Step] = [(1.0 + pause * step, FULL * step // 10, written) for step in range(11)]
    ended = steps[-1][0]
    ((when, size),) = readings(settled(), steps, ended + 10.0)
    assert size == FULL and when >= ended


def test_the_watch_waits_for_a_stalled_copy_where_the_kernel_cannot_tell() -> None:
    steps: list[Step] = [(1.0 + 0.06 * step, FULL * step // 100, None) for step in range(91)]
    stalled = steps[-1][0]
    ((when, size),) = readings(settled(), [*steps, (stalled + 2.0, FULL, None)], stalled + 10.0)
    assert size == FULL and stalled + 2.0 <= when <= stalled + 2.0 + watch.PAUSES * 2.1 + 2 * LOOK_S


def test_a_replaced_file_starts_with_its_own_pauses() -> None:
    settling = settled()
    for number, now in enumerate((1.0, 2.0, 3.0), 1):
        settling.look(now, version(number, FULL - 1))
        settling.ask(now, None)
    assert not settling.due(3.0 + CAREFUL_S)
    settling.look(4.0, version(4, inode=2))
    settling.ask(4.0, None)
    assert settling.due(4.0 + CAREFUL_S)


def test_the_watch_reports_a_long_wait_once() -> None:
    settling = settled()
    settling.look(1.0, version(1, 5))
    settling.ask(1.0, True)
    assert not settling.late(1.0 + watch.WAITS_S / 2)
    settling.ask(1.0 + watch.WAITS_S, True)
    assert settling.late(1.0 + watch.WAITS_S + 0.001) and not settling.due(1.0 + watch.WAITS_S)
    settling.reported = True
    assert not settling.late(100.0)
    settling.done(applied=True)
    assert not settling.reported


def test_the_watch_reports_errors_at_the_end_and_waits_for_a_change() -> None:
    settling = settled()
    settling.look(1.0, version(1))
    settling.ask(1.0, False)
    assert settling.due(1.0 + QUIET_S) and not settling.last(1.0 + QUIET_S)
    settling.tried()
    assert not settling.due(1.0 + QUIET_S)
    settling.look(1.3, version(2))
    settling.ask(1.3, False)
    assert not settling.due(1.0 + CAREFUL_S)
    assert settling.due(1.3 + 2 * 0.3 + 0.001)
    settling.tried()
    assert settling.due(1.3 + CAREFUL_S) and settling.last(1.3 + CAREFUL_S)
    settling.done(applied=False)
    assert not settling.due(10.0)
    settling.look(11.0, version(3))
    settling.ask(11.0, False)
    assert settling.due(11.0 + QUIET_S)


def test_the_watch_reads_a_file_that_returns_unchanged() -> None:
    settling = settled()
    settling.look(1.0, (None,))
    settling.ask(1.0, None)
    settling.look(1.05, version(0))
    settling.ask(1.05, False)
    assert settling.due(1.05 + QUIET_S)


def test_the_watch_asks_about_files_that_are_not_in_force() -> None:
    one, two = Path("one"), Path("two")
    settling = Settling(())
    assert settling.changed((one, two)) == (one, two)
    settling.look(0.0, version(1) + version(1))
    settling.done(applied=True)
    settling.look(1.0, version(1) + version(2))
    assert settling.changed((one, two)) == [two]
    settling.done(applied=False)
    assert settling.changed((one, two)) == [two], "it was read, and has errors"


@pytest.mark.parametrize("where", ["watched", "load"])
def test_the_watch_goes_on_after_a_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text("tiers: {}")

    class Configuration:
        faulty = True
        read, again = threading.Event(), threading.Event()

        def _fail(self, at: str) -> None:
            if self.faulty and at == where:
                self.faulty = False
                raise RuntimeError("a fault of ours")

        @property
        def watched(self) -> tuple[Path, ...]:
            self._fail("watched")
            return (file,)

        def load(self, trigger: str, *_: object, **__: object) -> None:
            (self.again if self.read.is_set() else self.read).set()
            self._fail("load")

        def waits(self, seconds: float) -> None:
            """Nothing to say."""

    configuration, faults = Configuration(), Faults()
    watching = Watch(configuration, faults)
    watching.start()
    assert configuration.read.wait(30)
    file.write_text("tiers: {free: {}}")
    assert configuration.again.wait(30)
    watching.stop()
    assert 'aigw_control_faults_total{thread="watch"} 1' in text(faults.families()).splitlines()
    assert "a fault of ours" in caplog.text
