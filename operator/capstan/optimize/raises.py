"""A higher clock is a power request, not a right: how far one may rise on the watts that were granted.

Who calls it: `tune`, with the clock that it chose. Safe direction: a raise that is not granted does not happen; a clock
that is given up because nothing is known (promise P3) asks nobody, since the caps of domains hold all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from capstan.model import plan, power
from capstan.optimize import clock, fleets
from capstan.optimize.case import Case


@dataclass(frozen=True, slots=True)
class Raise:
    """The clock that is granted, and the watts that the one asked for would take more than the one in force."""

    clock_mhz: float
    asked_w: float = 0.0


def granted(case: Case, fleet: plan.Fleet, parts: tuple[clock.Part, ...], wanted_mhz: float) -> Raise:
    """Return how far the clock may rise; above what all replicas are capped at it would only wait for their release."""
    standing_mhz = case.memory.clock_cap_mhz or case.profiles[0].clocks.max_mhz
    allowed = case.allowance
    if case.blind is not None or wanted_mhz <= standing_mhz or allowed.clock_w == math.inf:
        return Raise(wanted_mhz)
    most_mhz = wanted_mhz if allowed.cap_mhz is None else min(wanted_mhz, allowed.cap_mhz)
    grid = clock.grid_mhz(case.profiles[0], min_clock_mhz=case.policy.bounds.min_clock_mhz)
    higher = [mhz for mhz in grid if standing_mhz < mhz <= most_mhz]
    if not higher:
        return Raise(standing_mhz)
    draw_w = _draws(case, fleet, parts, standing_mhz)
    asked_w = max(draw_w(higher[0]) - draw_w(standing_mhz), 0.0)
    grows = fleets.gpus(fleet) > fleets.gpus(case.standing)
    granted_w = allowed.clock_w + (0.0 if grows else allowed.growth_w)
    fits = (mhz for mhz in higher if draw_w(mhz) - draw_w(standing_mhz) <= granted_w)
    return Raise(next(fits, standing_mhz), asked_w)


def _draws(
    case: Case, fleet: plan.Fleet, parts: tuple[clock.Part, ...], standing_mhz: float
) -> Callable[[float], float]:
    """Return what all GPUs draw at a clock: under this load, or at worst where the clock in force cannot carry it."""
    worst = not parts or clock.option(parts, case.slo, clock_mhz=standing_mhz, margin=1.0).gpus_w == math.inf

    def draw_w(clock_mhz: float) -> float:
        if not worst:
            return clock.option(parts, case.slo, clock_mhz=clock_mhz, margin=1.0).gpus_w
        known = ((case.profile(tp) or case.profiles[0], tp * count) for tp, count in fleet)
        return sum(power.worst_case_w(profile, profile.clocks.ratio(clock_mhz)) * gpus for profile, gpus in known)

    return draw_w
