"""How many replicas: the most that one replica carries inside the SLO, and the count that covers a peak."""

from __future__ import annotations

import functools
import math

from capstan.model import steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload

BISECTIONS = 30  # 2^-30 of the bracket: far below any rate that matters
BRACKET_RPS = 4096.0  # no replica of 8 GPUs serves more requests a second than this


def meets(point: steady.OperatingPoint | None, slo: Slo, *, margin: float) -> bool:
    """Return whether a steady state exists and keeps both limits with `margin` (a share of the limit, <= 1)."""
    return point is not None and point.ttft_s <= margin * slo.ttft_s and point.tpot_s <= margin * slo.tpot_s


@functools.lru_cache(maxsize=4096)
def capacity_rps(profile: Profile, load: Workload, slo: Slo, *, x: float = 1.0, margin: float = 0.9) -> float:
    """Return the highest arrival rate of this mix that one replica serves inside the SLO; 0 where none is.

    Args:
        profile: The physics of one replica.
        load: Only its lengths count.
        slo: The limits, at `slo.percentile_ratio`.
        x: Clock ratio.
        margin: Share of each limit to plan for; what is left covers what the closed form does not see.
    """
    low, high = 0.0, BRACKET_RPS  # the answer is remembered: ask with `Workload.coarse` lengths
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        asked = Workload(middle, load.prompt_tokens, load.output_tokens)
        point = steady.operating_point(profile, asked, x=x, percentile_ratio=slo.percentile_ratio)
        if meets(point, slo, margin=margin):
            low = middle
        else:
            high = middle
    return low


def replicas_for(peak_rps: float, one_replica_rps: float) -> int:
    """Return the replicas that cover `peak_rps`, at least 1. Example: 10 rps at 4 rps each -> 3.

    Raises:
        ValueError: `one_replica_rps` is not above zero (the caller asks `capacity_rps` first).
    """
    if one_replica_rps <= 0:
        raise ValueError("one_replica_rps must be above zero")
    return max(1, math.ceil(peak_rps / one_replica_rps - 1e-9))
