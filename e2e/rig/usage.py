"""One program run to its end, with what it took: wall and CPU seconds, peak memory.

Who calls it: `rig.speed`, `rig.crosscheck.dynamo`. Must not know: what is run.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KIB = 1024  # Linux counts peak memory in kibibytes


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its own children took, start-up included; `peak_bytes` is that of the largest of them."""

    code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Usage:
    """Run a program, its output in a file, and return what it took. `env` is beside what this process has."""
    began_s = time.monotonic()
    with log.open("wb") as out:
        popen = subprocess.Popen(
            argv, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent, env={**os.environ, **(env or {})}
        )
        try:
            _, status, spent = os.wait4(popen.pid, 0)
        except BaseException:
            popen.kill()
            raise
        popen.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - began_s
    return Usage(popen.returncode, wall_s, spent.ru_utime + spent.ru_stime, spent.ru_maxrss * KIB)


def last_line(log: Path) -> str:
    """Return the last thing that a program said."""
    return (log.read_text(errors="replace").strip() or "no message").splitlines()[-1]
