"""Which clock: the least mean watts at the steady state that the offered load reaches under it.

With the load given and all of it served, watts and joules per token rank alike (DESIGN 4). Lower clocks hold larger
batches, so neither the lowest feasible clock nor the highest is the answer: the curve is U-shaped.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.model import steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import sizing

GRID_STEPS = 4
"""Every fourth supported clock (60 MHz on H100's 15 MHz grid): watts differ by < 1 % between neighbours, and a coarse
grid keeps two nearly equal clocks from trading places at every tick."""


@dataclass(frozen=True, slots=True)
class Option:
    """One clock and the steady state under it; `point` None where none exists."""

    clock_mhz: float
    point: steady.OperatingPoint | None
    feasible: bool


def grid_mhz(profile: Profile, *, min_clock_mhz: float | None = None) -> tuple[float, ...]:
    """Return the clocks to look at, highest first; the highest is always the profile's maximum."""
    clocks = profile.clocks
    floor_mhz = max(clocks.min_mhz, min_clock_mhz or clocks.min_mhz)
    stride_mhz = clocks.step_mhz * GRID_STEPS
    count = int((clocks.max_mhz - floor_mhz) / stride_mhz + 1e-9)
    return tuple(clocks.max_mhz - i * stride_mhz for i in range(count + 1))


def option(profile: Profile, load: Workload, slo: Slo, *, clock_mhz: float, margin: float) -> Option:
    """Return one clock with its steady state under `load` (of one replica)."""
    x = profile.clocks.ratio(clock_mhz)
    point = steady.operating_point(profile, load, x=x, percentile_ratio=slo.percentile_ratio)
    return Option(clock_mhz, point, sizing.meets(point, slo, margin=margin))


def options(
    profile: Profile, load: Workload, slo: Slo, *, min_clock_mhz: float | None, margin: float
) -> tuple[Option, ...]:
    """Return every clock of the grid with its steady state, highest clock first."""
    grid = grid_mhz(profile, min_clock_mhz=min_clock_mhz)
    return tuple(option(profile, load, slo, clock_mhz=mhz, margin=margin) for mhz in grid)


def least_power(candidates: tuple[Option, ...]) -> Option | None:
    """Return the feasible option with the least watts (ties: the higher clock), or None where none is feasible."""
    feasible = [(c.point.gpu_w, -c.clock_mhz, c) for c in candidates if c.feasible and c.point is not None]
    return min(feasible, key=lambda ranked: ranked[:2])[2] if feasible else None
