"""What the demo measures of Capstan on this machine: start, memory, CPU, writes, delays (`figures.json`).

A figure that could not be measured is null there, with the reason under `notes`; nothing fails on a time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SCHEMA_VERSION = 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STAT_UTIME, _STAT_STIME = 11, 12  # proc(5): fields 14 and 15, counted behind the command name


@dataclass(slots=True)
class ProcessMeter:
    """Peak memory and CPU seconds of one role, over every process that played it (a killed operator and the next)."""

    peak_rss_bytes: int = 0
    _cpu_s: dict[int, float] = field(default_factory=dict)

    def sample(self, pid: int) -> None:
        """Read /proc of `pid`; a process that is gone keeps its last figures."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            self._cpu_s[pid] = (int(stat[_STAT_UTIME]) + int(stat[_STAT_STIME])) / _TICKS_PER_S
            self.peak_rss_bytes = max(self.peak_rss_bytes, _peak_rss_bytes(pid))

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far, of all processes of the role."""
        return sum(self._cpu_s.values())


def _peak_rss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def quantile(values: Sequence[float], ratio: float) -> float | None:
    """Return the nearest-rank quantile; None of nothing."""
    return sorted(values)[max(math.ceil(ratio * len(values)) - 1, 0)] if values else None


def machine() -> str:
    """Return this machine in a few words."""
    return f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB, {platform.system()} {platform.machine()}"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def commit(root: Path) -> str:
    """Return the commit of a working tree, with `+` where it has changes; `unknown` without git."""
    described = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def write(path: Path, measured: Mapping[str, float | None], notes: Mapping[str, str], *, root: Path, at: str) -> None:
    """Write the record (`at`: when it was measured, ISO 8601), whole or not at all."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "measured_at": at,
        "commit": commit(root),
        "machine": machine(),
        "figures": dict(measured),
        "notes": dict(notes),
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    part.replace(path)
