"""The server of llama.cpp, built once from source into a folder that git ignores.

In: `AIGW_TEST_LLAMA_SERVER` (a path), a `llama-server` on the PATH, or the sources in llama-cpp-python's package. Out: the path of the
program. A test without any of them skips with the reason. The build takes 5 to 20 minutes of two cores, so only
`make llama` starts it; it has no optimisation for a processor: the test's model has one layer.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "tests" / "integration" / "llama" / "llama-cpp.lock"
FLAGS: Final = [
    "-DCMAKE_BUILD_TYPE=None",
    "-DCMAKE_C_FLAGS=-O1",
    "-DCMAKE_CXX_FLAGS=-O0",
    "-DBUILD_SHARED_LIBS=OFF",
    *(f"-DGGML_{name}=OFF" for name in ("NATIVE", "LLAMAFILE", "OPENMP", "CPU_REPACK")),
    *(
        f"-DLLAMA_{name}=OFF"
        for name in (
            "OPENSSL",
            "USE_PREBUILT_UI",
            "BUILD_UI",
            "BUILD_TESTS",
            "BUILD_EXAMPLES",
            "BUILD_APP",
            "ALL_WARNINGS",
        )
    ),
]


def built() -> Path:
    """The path of the program that `build` makes."""
    digest = hashlib.sha256(LOCK.read_bytes() + " ".join(FLAGS).encode()).hexdigest()
    return ROOT / ".cache" / f"llama-{digest[:12]}" / "llama-server"


def find() -> Path | None:
    """The server, if there is one."""
    names = (os.environ.get("AIGW_TEST_LLAMA_SERVER"), shutil.which("llama-server"), built())
    return next((Path(name) for name in names if name and Path(name).exists()), None)


def build() -> Path:
    """Build the server unless it exists. Needs cmake, a C++ compiler and a package registry; raises CalledProcessError."""
    program = built()
    if program.exists():
        return program
    with tempfile.TemporaryDirectory(prefix="aigw-llama-") as folder:
        work = Path(folder)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--require-hashes",
            "--no-deps",
            "--no-binary",
            ":all:",
        ]
        subprocess.run([*pip, "--dest", str(work), "-r", str(LOCK)], check=True)
        (packed,) = work.glob("*.tar.gz")
        with tarfile.open(packed) as archive:
            archive.extractall(work, filter="data")
        (source,) = work.glob("*/vendor/llama.cpp")
        made = work / "build"
        subprocess.run(["cmake", "-S", str(source), "-B", str(made), *FLAGS], check=True, stdout=subprocess.DEVNULL)
        jobs = str(os.cpu_count() or 1)
        subprocess.run(["cmake", "--build", str(made), "--target", "llama-server", "-j", jobs], check=True)
        program.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made / "bin" / "llama-server", program)
    return program


if __name__ == "__main__":
    print(build())
