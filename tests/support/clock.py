"""A wall clock for a child process: it starts at a moment of the test's choice and runs on from there.

In: unix seconds. Out: environment variables for the child. Needs Linux and a C compiler, as a build of the gateway does;
a machine without one skips.
"""

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest


class Clock:
    """A wall clock that the test steps while a child runs. It begins in the middle of an hour and of a day, so no window ends by itself."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock-steps"
        self.step(0)
        self.environment = {**clock_at(time.time() // 86_400 * 86_400 + 45_000, folder), "CLOCK_FILE": str(self._file)}

    def step(self, seconds: int) -> None:
        """Set the child's clock so many seconds ahead of this machine's."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:  # in place: the child has mapped it
            file.write(struct.pack("=q", seconds))


def clock_at(moment: float, folder: Path) -> dict[str, str]:
    """The environment of a child whose wall clock shows `moment` now. `folder` takes the compiled library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc) to set the wall clock of a child")
    library = folder / "clock.so"
    if not library.exists():
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET_S": str(round(moment - time.time()))}
