"""Which clock: the least mean watts at the steady state that the offered load reaches under it.

With the load given and all of it served, watts and joules per token rank alike (DESIGN 4). Lower clocks hold larger
batches; with the profiles as shipped the lowest clock that keeps the SLO draws least (`capstan study`), but nothing
here rests on that.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from capstan.model import steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload
from capstan.optimize import sizing

GRID_STEPS = 4
"""Every fourth supported clock (60 MHz on H100's 15 MHz grid): watts differ by < 1 % between neighbours, and a coarse
grid keeps two nearly equal clocks from trading places at every tick."""

SEARCHES = 1 << 13  # 500 policies ask for some three each, and are asked again until a load leaves its step (2 kB each)


@dataclass(frozen=True, slots=True)
class Part:
    """Equal replicas of a pool: their physics, how many there are, and the load of each (a `Workload.coarse`)."""

    profile: Profile
    count: int
    load: Workload

    @property
    def gpus(self) -> int:
        """GPUs that they hold."""
        return self.count * self.profile.tp


@dataclass(frozen=True, slots=True)
class Option:
    """One clock for all parts of a pool: mean watts of all its GPUs, and whether every part keeps the SLO.

    `points` has each part's steady state, None where there is none; `gpus_w` is infinite then.
    """

    clock_mhz: float
    points: tuple[steady.OperatingPoint | None, ...]
    gpus_w: float
    feasible: bool


def grid_mhz(profile: Profile, *, min_clock_mhz: float | None = None) -> tuple[float, ...]:
    """Return the clocks to look at, highest first; the highest is always the profile's maximum, whatever the floor."""
    clocks = profile.clocks
    floor_mhz = max(clocks.min_mhz, min_clock_mhz or clocks.min_mhz)
    stride_mhz = clocks.step_mhz * GRID_STEPS
    count = max(int((clocks.max_mhz - floor_mhz) / stride_mhz + 1e-9), 0)
    return tuple(clocks.max_mhz - i * stride_mhz for i in range(count + 1))


@functools.lru_cache(maxsize=1 << 14)  # 500 policies look at about 5,000 points a cycle
def _point(profile: Profile, load: Workload, slo: Slo, clock_mhz: float, replicas: int) -> steady.OperatingPoint | None:
    """Return the steady state of one replica at a clock; remembered, because loads come back."""
    return sizing.point(profile, load, slo, x=profile.clocks.ratio(clock_mhz), replicas=replicas)


def option(parts: tuple[Part, ...], slo: Slo, *, clock_mhz: float, margin: float) -> Option:
    """Return one clock with what it makes of a pool."""
    replicas = sizing.pooled(sum(part.count for part in parts))
    points = tuple(_point(part.profile, part.load, slo, clock_mhz, replicas) for part in parts)
    watts = (math.inf if point is None else point.gpu_w * part.gpus for part, point in zip(parts, points, strict=True))
    feasible = all(sizing.meets(point, slo, margin=margin) for point in points)
    return Option(clock_mhz, points, sum(watts), feasible)


def options(parts: tuple[Part, ...], slo: Slo, *, min_clock_mhz: float | None, margin: float) -> tuple[Option, ...]:
    """Return every clock of the grid with what it makes of a pool, highest clock first."""
    grid = grid_mhz(parts[0].profile, min_clock_mhz=min_clock_mhz)
    return tuple(option(parts, slo, clock_mhz=mhz, margin=margin) for mhz in grid)


@functools.lru_cache(maxsize=SEARCHES)
def searched(
    parts: tuple[Part, ...],
    slo: Slo,
    *,
    min_clock_mhz: float | None,
    margin: float,
    standing_mhz: float | None = None,
) -> tuple[Option, ...]:
    """Return the clocks of the grid that matter with what each makes of a pool, highest clock first.

    The highest clock is always there; `least_power` of all of them is the best of the grid where one keeps the SLO. The
    clock in force, `standing_mhz`, is there where the grid has it. Remembered: loads come back (`Workload.coarse`).
    """
    return _Search(parts, slo, min_clock_mhz=min_clock_mhz, margin=margin).run(standing_mhz=standing_mhz)


class _Search:
    """The clocks of one pool, looked at only where it matters.

    Feasibility rises with the clock, and over the feasible clocks watts fall and then rise: both ends are looked for
    from where they mostly are (the clock in force, the lowest feasible one), so that some four looks find them.
    """

    def __init__(self, parts: tuple[Part, ...], slo: Slo, *, min_clock_mhz: float | None, margin: float) -> None:
        self._grid = grid_mhz(parts[0].profile, min_clock_mhz=min_clock_mhz)
        self._question = (parts, slo, margin)
        self._seen: dict[int, Option] = {}

    def at(self, index: int) -> Option:
        """Return one clock of the grid, highest first."""
        if index not in self._seen:
            parts, slo, margin = self._question
            self._seen[index] = option(parts, slo, clock_mhz=self._grid[index], margin=margin)
        return self._seen[index]

    def run(self, *, standing_mhz: float | None = None) -> tuple[Option, ...]:
        """Return what was looked at, highest clock first: both ends of the search, the best and its neighbours."""
        last = len(self._grid) - 1
        standing = self._grid.index(standing_mhz) if standing_mhz in self._grid else None
        if self.at(0).feasible:
            best = self._bottom(self._lowest_feasible(last, near=standing))
            for index in (best - 1, best + 1):
                self.at(min(max(index, 0), last))
        if standing is not None:
            self.at(standing)
        return tuple(self._seen[index] for index in sorted(self._seen))

    def _lowest_feasible(self, last: int, *, near: int | None) -> int:
        """Return the index of the lowest clock that keeps the SLO; from `near` on in steps that double."""
        low, high, middle = 0, last, near
        step = 1
        while low < high:
            middle = (low + high + 1) // 2 if middle is None else min(max(middle, low + 1), high)
            if self.at(middle).feasible:
                low = middle
            else:
                high = middle - 1
            middle = None if near is None else low + step if low >= near else high + 1 - step
            step *= 2
        return low

    def _bottom(self, last: int) -> int:
        """Return the index of the least watts in 0..last: where the next lower clock draws no less."""
        if last > 0 and self._watts(last) < self._watts(last - 1):
            return last
        low, high = 0, max(last - 1, 0)
        while low < high:
            middle = (low + high) // 2
            if self._watts(middle + 1) < self._watts(middle):
                low = middle + 1
            else:
                high = middle
        return low

    def _watts(self, index: int) -> float:
        return self.at(index).gpus_w


def least_power(candidates: tuple[Option, ...]) -> Option | None:
    """Return the feasible option with the least watts (ties: the higher clock), or None where none is feasible."""
    feasible = [candidate for candidate in candidates if candidate.feasible]
    return min(feasible, key=lambda candidate: (candidate.gpus_w, -candidate.clock_mhz), default=None)
