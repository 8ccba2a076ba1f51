"""One GPU as its driver shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One reading. Watts are instantaneous where the driver has it; joules since driver load.

    None: not readable now, which is never 0. Such a GPU still counts: at `max_limit_w`.
    """

    index: int
    uuid: str
    power_w: float | None
    energy_j: float | None
    sm_clock_mhz: float | None
    limit_w: float | None
    min_limit_w: float
    max_limit_w: float
    persistent: bool | None = None
    """Whether the board keeps its limit without a process that holds the driver open."""
