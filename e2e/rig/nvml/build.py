"""Builds the fake `libnvidia-ml.so.1` from fake_nvml.c.

Who calls it: the rig before it starts agents, and the tests. A C compiler is all that it needs: `cc` from PATH, or
PyPI's `ziglang`, where that is installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
HEADER = Path(__file__).with_name("fake_nvml.h")
LIBRARY = "libnvidia-ml.so.1"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden")


class NoCompilerError(RuntimeError):
    """No C compiler on this machine; the message says what to install."""


def compiler() -> list[str]:
    """Return the command of a C compiler.

    Raises:
        NoCompilerError: Neither `cc` nor `ziglang` is there.
    """
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise NoCompilerError("the fake GPU driver needs a C compiler: install gcc (Debian: apt-get install gcc) or set CC")


def build(out_dir: Path) -> Path:
    """Build the library into `out_dir`, unless it is there and newer than its sources; return its path.

    Put the folder into LD_LIBRARY_PATH and the state file's path into CAPSTAN_FAKE_NVML_STATE.

    Raises:
        NoCompilerError: No C compiler.
        RuntimeError: The compiler failed; the message carries what it said.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    library = out_dir / LIBRARY
    newest_s = max(SOURCE.stat().st_mtime, HEADER.stat().st_mtime)
    if library.exists() and library.stat().st_mtime >= newest_s:
        return library
    partial = out_dir / f".{LIBRARY}.{os.getpid()}"  # renamed when whole: two builders never see half a library
    done = subprocess.run(
        [*compiler(), *FLAGS, "-o", str(partial), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"building {LIBRARY} failed: {done.stderr.strip()}")
    partial.replace(library)
    return library
