"""Which configuration comes closest where none within the bounds meets the SLO: said to people, never acted on.

Who calls it: `serving.findings`. Two different troubles: a limit that no degree keeps even for a lone request at full
clock (the SLO is too tight for this LLM on these GPUs), and a load that needs more replicas than the bounds leave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from capstan.model.policy import Bounds
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.steady import OperatingPoint
from capstan.model.workload import Workload
from capstan.optimize import sizing


@dataclass(frozen=True, slots=True)
class Closest:
    """The nearest miss, at full clock.

    Attributes:
        tp: Its degree.
        alone: Its latencies when nobody else asks; None: a request of these lengths does not even fit.
        needed: Replicas that would meet the SLO; None: no count does.
        allowed: Replicas of this degree that the bounds leave.
    """

    tp: int
    alone: OperatingPoint | None
    needed: int | None
    allowed: int


def of(
    profiles: Iterable[Profile], load: Workload, slo: Slo, bounds: Bounds, *, peak_rps: float, margin: float
) -> Closest | None:
    """Return the configuration that comes closest to carrying `peak_rps`; None where no physics is known.

    Args:
        profiles: The degrees that may be used.
        load: Only its lengths count.
        slo: The limits.
        bounds: What no plan leaves.
        peak_rps: What is to be carried.
        margin: Share of each limit that plans are made for.
    """
    found = [_one(profile, load.coarse(), slo, bounds, peak_rps=peak_rps, margin=margin) for profile in profiles]
    return min(found, key=lambda one: _distance(one, slo), default=None)


def _one(profile: Profile, load: Workload, slo: Slo, bounds: Bounds, *, peak_rps: float, margin: float) -> Closest:
    allowed = bounds.most_replicas(profile.tp)
    if load.prompt_tokens + load.output_tokens > profile.kv_tokens:
        return Closest(profile.tp, None, None, allowed)
    each_rps = sizing.capacity_rps(profile, load, slo, margin=margin)
    needed = sizing.replicas_for(peak_rps, each_rps) if each_rps > 0 else None
    return Closest(profile.tp, sizing.point(profile, load.at(0.0), slo), needed, allowed)


def _distance(one: Closest, slo: Slo) -> tuple[bool, float, int]:
    """Return how far a configuration misses: by replicas where some count would do, else by the worst latency."""
    if one.needed is None:
        return True, sizing.stress_ratio(one.alone, slo), one.tp
    return False, one.needed / one.allowed if one.allowed else math.inf, one.tp
