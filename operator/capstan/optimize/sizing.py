"""How many replicas: the most that one replica carries inside the SLO, and the count that covers a peak."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from capstan.model import steady
from capstan.model.profile import Profile
from capstan.model.slo import Slo
from capstan.model.workload import Workload

BRACKET_RPS = 4096.0  # no replica of 8 GPUs serves more requests a second than this
CELLS = 2**30  # of the bracket: far below any rate that matters
NO_STEADY_STATE = -1.0  # the slack of a load that has none; that of a missed limit is above it
PATIENCE = 3  # looks in which the bracket must halve; else the next one is its middle


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

    def slack(cell: int) -> float:
        asked = Workload(cell * BRACKET_RPS / CELLS, load.prompt_tokens, load.output_tokens)
        return _slack(steady.operating_point(profile, asked, x=x, percentile_ratio=slo.percentile_ratio), slo, margin)

    first = slack(0)  # the answer is remembered: ask with `Workload.coarse` lengths
    if first < 0:
        return 0.0
    bracket = _Bracket(first)
    while bracket.high - bracket.low > 1:
        cell = bracket.next()
        bracket.narrow(cell, slack(cell))
    return bracket.low * BRACKET_RPS / CELLS


def _slack(point: steady.OperatingPoint | None, slo: Slo, margin: float) -> float:
    """Return how far off the nearer limit is, as a share of the latency; below zero exactly where `meets` says no."""
    if point is None:
        return NO_STEADY_STATE
    ttft_s, tpot_s = point.ttft_s, point.tpot_s
    return min((margin * slo.ttft_s - ttft_s) / ttft_s, (margin * slo.tpot_s - tpot_s) / tpot_s)


@dataclass(slots=True)
class _Bracket:
    """Two cells between which slack, which falls with the load, passes zero.

    Regula falsi (Illinois), since one over a latency is nearly linear in the load, and bisection where that is slow:
    the cell that bisection finds, in half of its looks.
    """

    low_slack_ratio: float
    high_slack_ratio: float = NO_STEADY_STATE
    low: int = 0
    high: int = CELLS
    looks: int = 0
    width: int = CELLS
    last_held: bool | None = None

    def next(self) -> int:
        """Return where to look next."""
        if self.high_slack_ratio <= NO_STEADY_STATE or self.looks == PATIENCE:
            return (self.low + self.high) // 2
        crossing = self.low + int(
            (self.high - self.low) * self.low_slack_ratio / (self.low_slack_ratio - self.high_slack_ratio)
        )
        return min(max(crossing, self.low + 1), self.high - 1)

    def narrow(self, cell: int, slack: float) -> None:
        """Take the slack of a cell; an end that stays twice counts half, so that it does not stay for ever."""
        held = slack >= 0
        again = held is self.last_held
        if held:
            self.low, self.low_slack_ratio = cell, slack
            self.high_slack_ratio /= 2 if again and self.high_slack_ratio > NO_STEADY_STATE else 1
        else:
            self.high, self.high_slack_ratio = cell, slack
            self.low_slack_ratio /= 2 if again else 1
        self.last_held = held
        width = self.high - self.low
        self.looks, self.width = (0, width) if 2 * width <= self.width else (self.looks + 1, self.width)


def replicas_for(peak_rps: float, one_replica_rps: float) -> int:
    """Return the replicas that cover `peak_rps`, at least 1. Example: 10 rps at 4 rps each -> 3.

    Raises:
        ValueError: `one_replica_rps` is not above zero (the caller asks `capacity_rps` first).
    """
    if one_replica_rps <= 0:
        raise ValueError("one_replica_rps must be above zero")
    return max(1, math.ceil(peak_rps / one_replica_rps - 1e-9))


def smallest(profile: Profile, load: Workload, slo: Slo, *, peak_rps: float, near: int, margin: float) -> int | None:
    """Return the fewest replicas that carry `peak_rps` inside the SLO, None where no count does.

    The answer is that of `capacity_rps`; `near`, the count that stands, is looked at first, because it mostly is it
    and two steady states tell so where a capacity takes a dozen.
    """

    def carry(count: int) -> bool:
        asked = Workload(peak_rps / count, load.prompt_tokens, load.output_tokens)
        return meets(steady.operating_point(profile, asked, percentile_ratio=slo.percentile_ratio), slo, margin=margin)

    if near >= 1 and carry(near) and (near == 1 or not carry(near - 1)):
        return near
    one_rps = capacity_rps(profile, load, slo, margin=margin)
    return replicas_for(peak_rps, one_rps) if one_rps > 0 else None
