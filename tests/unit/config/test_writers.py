"""Writers of a file, as the kernel reports them; neither the writer nor the reporting process is harmed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aigw.config import being_written, writers

WRITER = """
import os, sys
held = os.open(sys.argv[1], int(sys.argv[2]))
sys.stdout.write("open\\n"); sys.stdout.flush()
sys.stdin.read()
"""
# Another process opens the file for writing while this process holds the lease.
BROKEN = """
import fcntl, subprocess, sys
from pathlib import Path
from aigw.config import being_written
true = fcntl.fcntl
seen = []
def slow(held, command, argument):
    answer = true(held, command, argument)
    if command == fcntl.F_SETLEASE and argument == fcntl.F_RDLCK:
        seen.append(subprocess.run([sys.executable, "-c", "import os, sys\\ntry: os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)"
            "\\nexcept BlockingIOError: sys.exit(7)", sys.argv[1]]).returncode)
    return answer
fcntl.fcntl = slow
assert being_written([Path(sys.argv[1])]) is False
assert seen == [7], seen
"""


@contextmanager
def opened(path: Path, flags: int) -> Iterator[None]:
    """Another process that has the file open."""
    command = [sys.executable, "-c", WRITER, str(path), str(flags)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        yield
        process.communicate()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "gateway.yaml"
    made.write_text("tiers: {}\n")
    if being_written([made]) is None:
        pytest.skip("the kernel does not tell who writes on this disk")
    return made


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC])
def test_being_written_sees_a_writer_until_it_closes_the_file(file: Path, flags: int) -> None:
    with opened(file, flags):
        assert being_written([file]) is True
        assert being_written([file.with_name("nothing"), file]) is True
    assert being_written([file]) is False


def test_being_written_ignores_readers(file: Path) -> None:
    with opened(file, os.O_RDONLY):
        assert being_written([file]) is False
    assert being_written([]) is False


def test_being_written_is_none_where_the_kernel_cannot_tell(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = file.with_name("pipe")
    os.mkfifo(pipe)
    for other in (file.with_name("nothing"), pipe, file.parent, Path("/proc/self/status"), Path("a\0b")):
        assert being_written([other]) is None, other
        assert being_written([file, other]) is None
    monkeypatch.setattr(writers, "_LOCAL", {})
    assert being_written([file]) is None, "a network disk"


def test_being_written_survives_a_writer_that_opens_meanwhile(file: Path) -> None:
    asked = subprocess.run([sys.executable, "-c", BROKEN, str(file)], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
