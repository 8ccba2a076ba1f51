"""One GPU as its driver shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One reading. Watts are instantaneous where the driver has it; joules since driver load."""

    index: int
    uuid: str
    power_w: float
    energy_j: float
    sm_clock_mhz: float
    limit_w: float
    min_limit_w: float
    max_limit_w: float
